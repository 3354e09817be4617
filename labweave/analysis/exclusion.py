"""Sweeps that are not to be used: excluded from rheobase and extractions, or included again."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from labweave.database import current, upsert
from labweave.database.made import user
from labweave.errors import SchemaError
from labweave.schemas.recording import Recording, SweepExclusion
from labweave.schemas.session import Session


def exclude(restriction: Mapping[str, Any], reason: str = "", *, dry_run: bool = False) -> list[dict[str, Any]]:
    """Exclude sweeps from rheobase and extractions; populate makes what rests on them again.

    Their stimulus and efeatures stay in the tables.

    Parameters
    ----------
    restriction : mapping
        Which sweeps: names of ``recording.Recording`` or the session's lab, subject, session_date, session_number.
    reason : str, optional
        Why, for those who ask later.
    dry_run : bool, default: False
        Change nothing.

    Returns
    -------
    list of dict
        Keys of the sweeps that are excluded now and were not before.

    Raises
    ------
    SchemaError
        A name that is not known, or no sweep fits.

    Examples
    --------
    >>> from labweave.analysis import exclude, include
    >>> excluded = exclude({"cell": "sim01", "protocol": "IDrest"}, "seal lost")
    >>> include({"cell": "sim01"}) == excluded
    True
    """
    current()
    keys = (_chosen(restriction) - SweepExclusion).keys()
    row = {"exclusion_reason": reason, "excluded_by": user(), "excluded_at": dt.datetime.now(dt.timezone.utc)}
    if not dry_run:
        upsert(SweepExclusion, [{**key, **row} for key in keys])
    return keys


def include(restriction: Mapping[str, Any], *, dry_run: bool = False) -> list[dict[str, Any]]:
    """Use excluded sweeps again; parameters, errors and the keys returned are as of `exclude`.

    Examples
    --------
    >>> from labweave.analysis import exclude, include
    >>> excluded = exclude({"cell": "sim01", "protocol": "IV"}, "seal lost")
    >>> include({"cell": "sim01", "protocol": "IV"}, dry_run=True) == excluded
    True
    >>> include({"cell": "sim01"}) == excluded
    True
    """
    current()
    keys = (_chosen(restriction) & SweepExclusion).keys()
    if keys and not dry_run:
        (SweepExclusion & keys).delete_quick()
    return keys


def _chosen(restriction: Mapping[str, Any]) -> Any:
    """Return the keys of the recordings that fit; DataJoint would leave out a name that it does not know."""
    recordings = Recording.proj("reader", "source") * Session.proj("lab", "subject", "session_date", "session_number")
    if unknown := sorted(set(restriction) - set(recordings.heading.names)):
        raise SchemaError(
            f"Can't choose sweeps by {', '.join(unknown)}. Known names: {', '.join(recordings.heading.names)}."
        )
    chosen = Recording.proj() & (recordings & dict(restriction)).proj()
    if not restriction or not chosen:
        raise SchemaError(f"No sweep has {', '.join(f'{n} {v}' for n, v in restriction.items()) or 'no name at all'}.")
    return chosen

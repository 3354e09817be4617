"""``labweave one``: search, list and load sessions, with the words of ONE."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labweave.cli.base import err, open_database, out, parse_restriction, print_table, write_data
from labweave.cli.query import Format, Safe, print_frame
from labweave.errors import ConfigError, LabweaveError

if TYPE_CHECKING:
    from labweave.one.api import One

Shown = Annotated[Format, typer.Option("--format", "-f", help="Output format")]
Session = Annotated[str, typer.Argument(metavar="SESSION", help="eid, path, or reference such as 2020-01-31_1_M12")]
Collection = Annotated[str | None, typer.Option("--collection", help="Folder in the session, also a pattern")]
Revision = Annotated[str | None, typer.Option("--revision", help="The last revision up to this one")]
Offline = Annotated[bool, typer.Option("--offline", help="Download nothing")]
Trusted = Annotated[bool, typer.Option("--trust-pickles", help="Load Python objects, whose files can run any code")]

DATASET_COLUMNS = {
    "rel_path": "path", "file_size": "size", "exists": "exists", "default_revision": "default", "qc": "qc",
}  # fmt: skip
"""The columns of datasets that `list` prints, and their titles."""


def search(
    terms: Annotated[list[str] | None, typer.Argument(metavar="[TERM=VALUE]...", help="All of them must fit")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="At most this many, the newest")] = None,
    format: Shown = Format.table,
    safe: Safe = False,
) -> None:
    """Print the sessions that fit, newest first.

    The terms are those of ONE, and may be shortened: subject, lab, date_range, number,
    task_protocol, project, dataset, dataset_qc_lte, dataset_types, users, location,
    performance_gte and others. A name is a regular expression that may match anywhere.
    Commas separate alternatives; for datasets and users, all must be there.

    For example:

        labweave one search subject=M12 date=2020-01-01,2020-02-01

        labweave one search lab=smithlab datasets=spikes.times.npy -f csv
    """
    import pandas as pd

    from labweave.one.search.rows import TABLE_COLUMNS

    given = {name: _value(name, value) for name, value in parse_restriction(terms or ()).items()}
    with _one() as one:
        _, found = one.search(details=True, **given)
    rows = [[session["id"], *(session[name] for name in TABLE_COLUMNS)] for session in found[:limit]]
    if not rows:
        err.print("no session fits")
    print_frame(pd.DataFrame(rows, columns=["eid", *TABLE_COLUMNS], dtype=object), format, safe)


def list_(
    session: Annotated[
        str | None, typer.Argument(metavar="[SESSION]", help="eid, path, or reference; without, all sessions")
    ] = None,
    filename: Annotated[str | None, typer.Argument(help="Only files that fit, for example '*spikes*'")] = None,
    collection: Collection = None,
    revision: Annotated[str | None, typer.Option("--revision", help="Pattern; '' for none")] = None,
    qc: Annotated[str, typer.Option("--qc", help="Leave out what is worse in quality control")] = "CRITICAL",
    format: Shown = Format.table,
    safe: Safe = False,
) -> None:
    """Print the datasets of a session; without a session, the distinct paths of all of them."""
    import pandas as pd

    options: dict[str, Any] = {"collection": collection, "revision": revision, "qc": qc.upper()}
    with _one() as one:
        if session is None:
            frame = pd.DataFrame({"path": one.list_datasets(None, filename, **options)}, dtype=object)
        else:
            eid = _known_eid(one, session)
            found = one.list_datasets(eid, filename, details=True, **options).sort_values("rel_path").astype(object)
            frame = found[[*DATASET_COLUMNS]].rename(columns=DATASET_COLUMNS)
    print_frame(frame, format, safe)


def load(
    session: Session,
    name: Annotated[str, typer.Argument(help="Dataset (spikes.times.npy, spikes.times) or object (spikes)")],
    collection: Collection = None,
    revision: Revision = None,
    rows: Annotated[int, typer.Option("--rows", min=1, help="Rows of a table to print; csv and json have all")] = 10,
    offline: Offline = False,
    trust_pickles: Trusted = False,
    format: Shown = Format.table,
    safe: Safe = False,
) -> None:
    """Load a dataset or an object and print it.

    A table lists the attributes of an object, or the first rows of a dataset; --format csv and json
    print everything.
    """
    with _one(offline, trust_pickles) as one:
        content = _load(one, session, name, collection=collection, revision=revision)
    if format is Format.table and isinstance(content, dict) and hasattr(content, "to_df"):
        _print_bunch(content)
    else:
        _print_content(content, rows, format, safe)


def path(
    session: Session,
    name: Annotated[str | None, typer.Argument(help="Dataset or object; without, the session's folder")] = None,
    collection: Collection = None,
    revision: Revision = None,
    offline: Offline = False,
) -> None:
    """Print the local path of a session or of its files; files that are missing are downloaded."""
    with _one(offline) as one:
        if name is None:
            eid = _known_eid(one, session)
            found = one.eid2path(eid)
            if found is None:
                raise LabweaveError(f"Session {eid} has no date, so ONE has no folder for it.")
        else:
            found = _load(one, session, name, collection=collection, revision=revision, download_only=True)
    for each in found if isinstance(found, list) else [found]:
        write_data(f"{each}\n")


def id_(
    sessions: Annotated[list[str], typer.Argument(metavar="SESSION...", help="Path, reference or eid")],
) -> None:
    """Print the eids of sessions given by path or reference."""
    with _one() as one:
        eids = [_eid(one, session) for session in sessions]
    for eid in eids:
        write_data(f"{eid}\n")


@contextmanager
def _one(offline: bool = True, trust_pickles: bool = False) -> Iterator[One]:
    """Give a `One` on the open database. Its warnings go to stderr, and wrong arguments are the user's errors."""
    with open_database(), warnings.catch_warnings(record=True) as told:
        from labweave.one.api import One

        warnings.simplefilter("always")
        try:
            yield One(mode="local" if offline else "remote", trust_pickles=trust_pickles)
        except LabweaveError:
            raise
        except (ValueError, TypeError) as error:
            raise ConfigError(str(error)) from error
        finally:
            for message in dict.fromkeys(str(warning.message) for warning in told):
                err.print(message)


def _eid(one: One, session: str) -> Any:
    eid = one.to_eid(session)
    if eid is None:
        raise LabweaveError(f"No session is at {session}. Look for it: labweave one search subject=NAME")
    return eid


def _known_eid(one: One, session: str) -> Any:
    """Return the eid of a session; an error if the database does not have it."""
    eid = _eid(one, session)
    one.get_details(eid)
    return eid


def _load(one: One, session: str, name: str, **options: Any) -> Any:
    """Load a dataset; or an object, whose name has neither a dot nor a slash."""
    load = one.load_dataset if "." in name or "/" in name else one.load_object
    return load(_eid(one, session), name, **options)


def _value(name: str, value: str) -> Any:
    """Return the value of a term: a list if it has commas, with None for an open end of dates."""
    if "," not in value:
        return value
    parts: list[str | None] = [part.strip() for part in value.split(",")]
    return [part or None for part in parts] if name.startswith("date") else [part for part in parts if part]


def _print_bunch(bunch: Any) -> None:
    """Print the attributes of an object with their shapes and types."""
    lines = []
    for attribute, content in bunch.items():
        shape = getattr(content, "shape", (len(content),) if hasattr(content, "__len__") else ())
        kind = getattr(content, "dtype", type(content).__name__)
        lines.append((attribute, " x ".join(map(str, shape)), str(kind)))
    print_table(("attribute", "shape", "type"), lines)


def _print_content(content: Any, rows: int, format: Format, safe: bool) -> None:
    import numpy as np
    import pandas as pd

    frame: pd.DataFrame | None = None
    if isinstance(content, pd.Series):
        frame = content.to_frame()
    elif isinstance(content, pd.DataFrame):
        frame = content
    elif isinstance(content, np.ndarray) and content.ndim in (1, 2):
        names: Sequence[str] = ["value"] if content.ndim == 1 else [str(index) for index in range(content.shape[1])]
        frame = pd.DataFrame(content.reshape(len(content), -1), columns=names)
    elif isinstance(content, dict) and hasattr(content, "to_df") and format is Format.csv:
        frame = content.to_df()  # type: ignore[attr-defined]
    if frame is None or (format is Format.json and isinstance(content, np.ndarray)):
        _print_other(content)
    elif format is Format.table and len(frame) > rows:
        print_frame(frame.head(rows), format)
        out.print(f"... {len(frame)} rows")
    else:
        print_frame(frame, format, safe)


def _print_other(content: Any) -> None:
    """Print something other than a table, as JSON; or the path of a file that labweave can't read."""
    from labweave.formats.plain import plain_json

    if content is None or hasattr(content, "__fspath__"):
        write_data(f"{'' if content is None else content}\n")
        return
    try:
        text = json.dumps(plain_json(_as_plain(content)), ensure_ascii=False)
    except ValueError as error:
        raise LabweaveError(f"It can't be printed ({error}). Its file: labweave one path SESSION NAME") from None
    write_data(f"{text}\n")


def _as_plain(content: Any) -> Any:
    """Return an object whose frames are lists of rows."""
    if isinstance(content, dict):
        return {key: _as_plain(value) for key, value in content.items()}
    return content.to_dict("records") if hasattr(content, "to_dict") else content

"""Loading datasets, objects and collections, with the names of ONE-api."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from labweave.formats.alf.bunch import AlfBunch
from labweave.formats.alf.exceptions import ALFError, ALFObjectNotFound, ALFWarning
from labweave.formats.alf.names import split_rel_path
from labweave.one.api.base import ApiBase
from labweave.one.core import id_argument
from labweave.one.files.recipes import contents_of
from labweave.one.search import matching
from labweave.one.search.frames import datasets_frame
from labweave.one.search.matching import Texts
from labweave.one.search.rows import DatasetRow

log = logging.getLogger(__name__)


class Loads(ApiBase):
    """The methods that load."""

    @id_argument
    def load_object(
        self,
        eid: Any,
        obj: str,
        collection: Texts = None,
        revision: str | None = None,
        query_type: str | None = None,
        download_only: bool = False,
        check_hash: bool = True,
        short_keys: bool = False,
        **parts: Any,
    ) -> Any:
        """Load all attributes of one object.

        Parameters
        ----------
        eid : str, UUID, path or dict
            The session.
        obj : str
            The object, also with its namespace.
        collection : str, optional
            A pattern that fits one collection.
        revision : str, optional
            The last revision up to this one, else the default.
        query_type : str, optional
            As in ONE-api; without effect.
        download_only : bool, default: False
            Return paths.
        check_hash : bool, default: True
            Compare size and hash of the files with the registered ones.
        short_keys : bool, default: False
            Leave extra parts out of the keys.
        **parts
            ALF parts: namespace, attribute, timescale, extra, extension.

        Returns
        -------
        AlfBunch or list of ALFPath

        Raises
        ------
        ALFObjectNotFound, ALFMultipleObjectsFound, ALFMultipleCollectionsFound

        Examples
        --------
        >>> one = labweave.ONE(silent=True)
        >>> spikes = one.load_object("2019-04-11_1_KS005", "spikes", collection="alf/probe01")
        >>> sorted(spikes)
        ['amps', 'clusters', 'times']
        >>> spikes.times.shape
        (120,)
        """
        rows = self._core.datasets(self._eid(eid))
        chosen = self._core.choose_object(rows, obj, collection, revision, wildcards=self.wildcards, **parts)
        found = self._load_objects(chosen, f'object "{obj}"', download_only, check_hash, short_keys=short_keys)
        return found if download_only else found[chosen[0].object]

    @id_argument
    def load_dataset(
        self,
        eid: Any,
        dataset: Any,
        collection: Texts = None,
        revision: str | None = None,
        query_type: str | None = None,
        download_only: bool = False,
        check_hash: bool = True,
    ) -> Any:
        """Load one dataset, named by file, by ``object.attribute``, by path below the session or by ALF parts.

        See `load_object` for the other parameters.

        Returns
        -------
        any
            What is in the file, see `labweave.formats.alf.load_file`; with `download_only` its path.

        Raises
        ------
        ALFObjectNotFound, ALFMultipleObjectsFound, ALFMultipleCollectionsFound, ALFMultipleRevisionsFound

        Examples
        --------
        >>> one = labweave.ONE(silent=True)
        >>> one.load_dataset("2019-05-07_1_ZM_1150", "licks.times").shape
        (55,)
        >>> path = one.load_dataset("2019-05-07_1_ZM_1150", "licks.times.npy", download_only=True)
        >>> path.name
        'licks.times.npy'
        """
        rows = self._core.datasets(self._eid(eid))
        row = self._core.choose_dataset(rows, dataset, collection, revision, wildcards=self.wildcards)
        return self._load(row, download_only, check_hash)

    @id_argument
    def load_datasets(
        self,
        eid: Any,
        datasets: Any,
        collections: Any = None,
        revisions: Any = None,
        query_type: str | None = None,
        assert_present: bool = True,
        download_only: bool = False,
        check_hash: bool = True,
    ) -> tuple[list[Any], list[Any]]:
        """Load several datasets of a session.

        Parameters
        ----------
        eid : str, UUID, path or dict
            The session.
        datasets : list of str, list of dict, or frame
            As in `load_dataset`; paths and a frame of `list_datasets` mean exactly those revisions.
        collections, revisions : str or list of str, optional
            For all, or one for each.
        query_type : str, optional
            As in ONE-api; without effect.
        assert_present : bool, default: True
            A missing dataset is an error, else None.
        download_only, check_hash
            See `load_object`.

        Returns
        -------
        list
            Contents or paths, in the order asked for.
        list of AlfBunch
            What is known of each.

        Examples
        --------
        >>> one = labweave.ONE(silent=True)
        >>> [choice, licks], records = one.load_datasets("2019-05-07_1_ZM_1150", ["_ibl_trials.choice", "licks.times"])
        >>> choice.shape, licks.shape, records[1].rel_path
        ((100,), (55,), 'alf/licks.times.npy')
        """
        if isinstance(datasets, (str, Mapping)):
            raise TypeError("`datasets` must be a list of names; for one dataset use load_dataset.")
        is_frame = hasattr(datasets, "columns")
        asked = list(datasets["rel_path"] if is_frame else datasets)
        exact = is_frame or any(isinstance(each, str) and "/" in each for each in asked)
        kinds = {str if isinstance(each, str) else dict if isinstance(each, Mapping) else None for each in asked}
        if len(kinds) > 1 or None in kinds:
            raise ValueError("`datasets` must be names only, or dictionaries of ALF parts only.")
        if exact and (collections is not None or revisions is not None):
            raise ValueError("The names have collections in them already; leave out `collections` and `revisions`.")
        folders, versions = _for_each("collections", collections, asked), _for_each("revisions", revisions, asked)
        text = self._eid(eid)
        if not asked:
            return [], []
        rows, chosen, missing = self._core.datasets(text), [], []
        for name, folder, version in zip(asked, folders, versions, strict=True):
            try:
                if exact:
                    row = self._exactly(rows, name)
                else:
                    row = self._core.choose_dataset(rows, name, folder, version, wildcards=self.wildcards)
                chosen.append(row)
            except ALFObjectNotFound:
                chosen.append(None)
                missing.append("/".join(filter(None, (folder, version and f"#{version}#", str(name)))))
        if missing:
            _refuse_or_tell(f"Not found in session {text}: {', '.join(missing)}", assert_present)
        found = [row for row in chosen if row is not None]
        if exact and (old := [row.rel_path for row in found if not row.is_default]):
            warnings.warn(
                f"There are newer revisions, or others to prefer, of: {', '.join(old)}. Name the revision as an "
                "argument, or use load_dataset.",
                ALFWarning, stacklevel=3,
            )  # fmt: skip
        paths = self._fetch(found, check_hash)
        held = {row.id: path for row, path in zip(found, paths, strict=True) if path is not None}
        if not download_only:
            held = contents_of(found, paths, trust_pickles=self.trust_pickles)
        if absent := [row.rel_path for row in found if row.id not in held]:
            _refuse_or_tell(f"No file is here or can be downloaded of: {', '.join(absent)}", assert_present)
        records = [None if row is None else _record(row) for row in chosen]
        return [None if row is None else held.get(row.id) for row in chosen], records

    def _exactly(self, rows: list[DatasetRow], path: str) -> DatasetRow:
        """Return the dataset at a path below the session; a name without folders is one in the root."""
        if listed := [row for row in rows if row.rel_path == path and row.qc != "CRITICAL"]:
            return matching.only_one(listed)
        folder, revision, name = split_rel_path(path)
        found = matching.find(
            rows, matching.with_extension(name, self.wildcards), folder, revision, wildcards=self.wildcards
        )
        if not found:
            raise ALFObjectNotFound(f'Dataset "{path}" not found.')
        return matching.only_one(found)

    def load_dataset_from_id(
        self, dset_id: str | UUID, download_only: bool = False, details: bool = False, check_hash: bool = True
    ) -> Any:
        """Load the dataset with an id; with `details`, return what is known of it (a Series), too."""
        text = str(dset_id if isinstance(dset_id, UUID) else UUID(str(dset_id)))
        row = self._core.tables.datasets_with([text]).get(text)
        if row is None:
            raise ALFObjectNotFound(f"There is no dataset {text}.")
        loaded = self._load(row, download_only, check_hash)
        return (loaded, datasets_frame([row], with_eid=row.eid is not None).iloc[0]) if details else loaded

    @id_argument
    def load_collection(
        self,
        eid: Any,
        collection: str,
        object: Any = None,
        revision: str | None = None,
        query_type: str | None = None,
        download_only: bool = False,
        check_hash: bool = True,
        **parts: Any,
    ) -> Any:
        """Load all objects of a collection; see `load_object`.

        Without such a collection it raises ALFError, and ALFObjectNotFound if nothing in it fits.

        Returns
        -------
        AlfBunch of AlfBunch, or list of ALFPath

        Examples
        --------
        >>> probe = labweave.ONE(silent=True).load_collection("2019-04-11_1_KS005", "alf/probe01")
        >>> sorted(probe), probe.clusters.depths.shape
        (['channels', 'clusters', 'spikes'], (12,))
        """
        matching.check_parts(parts)
        text = self._eid(eid)
        rows = matching.find(self._core.datasets(text), None, collection, wildcards=self.wildcards)
        if not rows:
            raise ALFError(f"Collection {collection!r} not found in session {text}.")
        found = matching.find(rows, {"object": object, **parts}, wildcards=self.wildcards)
        chosen = matching.last_before(found, revision or matching.default_revision())
        if not chosen:
            raise ALFObjectNotFound(f"Nothing in collection {collection!r} fits object {object!r}.")
        return self._load_objects(chosen, f"collection {collection!r}", download_only, check_hash)


def _for_each(name: str, given: Any, asked: list[Any]) -> list[Any]:
    if not given or isinstance(given, str):
        return [given] * len(asked)
    if len(given) != len(asked):
        raise ValueError(f"`{name}` has {len(given)} items for {len(asked)} datasets.")
    return list(given)


def _refuse_or_tell(message: str, refuse: bool) -> None:
    if refuse:
        raise ALFObjectNotFound(f"{message}.")
    log.warning(message)


def _record(row: DatasetRow) -> AlfBunch:
    return AlfBunch(
        eid=None if row.eid is None else UUID(row.eid),
        id=UUID(row.id),
        rel_path=row.rel_path,
        file_size=row.size or 0,
        hash=row.hash,
        exists=row.exists,
        default_revision=row.is_default,
        qc=row.qc,
        revision=row.revision,
        session_path=row.session_path,
    )

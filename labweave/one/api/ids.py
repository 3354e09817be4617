"""Turning eids, paths, references, insertions, records and addresses into each other, with the names of ONE-api."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from labweave.formats.alf.bunch import AlfBunch
from labweave.formats.alf.exceptions import ALFObjectNotFound
from labweave.formats.alf.names import is_session_path, is_uuid_string, parse_session, without_session
from labweave.one.api import references
from labweave.one.api.base import ApiBase, as_uuid, uuid_text
from labweave.one.core import id_argument, of_several
from labweave.one.search.frames import datasets_frame
from labweave.one.search.rows import DatasetRow, SessionFilter, SessionRow


class Ids(ApiBase):
    """The methods that convert."""

    @id_argument
    def to_eid(self, id: Any = None, cache_dir: Any = None) -> Any:
        """Return the eid of a session named in any way, or of each in a list; None for None and unknown paths.

        Examples
        --------
        >>> labweave.ONE(silent=True).to_eid("2019-05-07_1_ZM_1150")
        UUID('5e550001-0001-4001-8001-000000000001')
        """
        return as_uuid(self._core.to_eid(id))

    @id_argument
    @of_several
    def eid2path(self, eid: Any, query_type: str | None = None) -> Any:
        """Return the path of a session below the cache folder, or of each in a list; None for an unknown one.

        Examples
        --------
        >>> one = labweave.ONE(cache_dir="cache", silent=True)
        >>> print(one.eid2path("5e550001-0001-4001-8001-000000000001"))
        cache/mainenlab/Subjects/ZM_1150/2019-05-07/001
        """
        return self._core.session_paths([each if isinstance(each, UUID) else uuid_text(each) for each in eid])

    @of_several
    def path2eid(self, path_obj: Any, query_type: str | None = None) -> Any:
        """Return the eid of the session of a path, or of each in a list; None for a path without a known one.

        Examples
        --------
        >>> labweave.ONE(silent=True).path2eid("mainenlab/Subjects/ZM_1150/2019-05-07/001/alf/licks.times.npy")
        UUID('5e550001-0001-4001-8001-000000000001')
        """
        return as_uuid(self._core.eids_of_paths(path_obj))

    @id_argument
    @of_several
    def eid2ref(self, eid: Any, as_dict: bool = True, parse: bool = True) -> Any:
        """Return the reference of a session, or of each in a list.

        Parameters
        ----------
        eid : str, UUID, path, dict, or a list of those
        as_dict : bool, default: True
            In parts (subject, date, sequence), else as text: ``2019-05-07_1_subject``.
        parse : bool, default: True
            Date and sequence as `date` and int, else as text with three digits: ``2019-05-07_001_subject``.

        Examples
        --------
        >>> one = labweave.ONE(silent=True)
        >>> one.eid2ref("5e550001-0001-4001-8001-000000000001", as_dict=False)
        '2019-05-07_1_ZM_1150'
        """
        eids = [self._eid(each) for each in eid]
        rows = self._core.tables.sessions_of(eids)
        if unknown := [each for each in eids if each not in rows]:
            raise ALFObjectNotFound(f"There is no session {', '.join(unknown)}.")
        return [_reference(rows[each], as_dict, parse) for each in eids]

    @of_several
    def ref2eid(self, ref: Any) -> Any:
        """Return the eid of the session that a reference means, or of each in a list.

        Raises
        ------
        ReferenceNotFound
            No session has it; an AssertionError as well.
        """
        return as_uuid(self._core.to_eid([references.to_parts(each, parse=False) for each in ref]))

    def ref2path(self, ref: Any) -> Any:
        """Return the path of the session that a reference means, or of each in a list."""
        return self.eid2path(self.ref2eid(ref))

    is_exp_ref = staticmethod(references.is_reference)
    ref2dict = staticmethod(references.to_parts)
    dict2ref = staticmethod(references.to_text)
    path2ref = staticmethod(references.of_path)

    @of_several
    def pid2eid(self, pid: Any, query_type: str | None = None) -> Any:
        """Return the eid and name of a probe insertion, (None, None) for an unknown one; of each in a list."""
        pids = [uuid_text(each) for each in pid]
        rows = {row.pid: row for row in self._core.tables.insertions(SessionFilter(), list(dict.fromkeys(pids)))}
        return [(UUID(rows[p].eid), rows[p].probe_name) if p in rows else (None, None) for p in pids]

    @id_argument
    def eid2pid(self, eid: Any, query_type: str | None = None, details: bool = False, **filters: Any) -> Any:
        """Return the ids and names of the probe insertions of a session; with `details`, Alyx's records, too.

        None in place of each for a session without any. `filters` are those of Alyx's insertions, such as ``name``.
        """
        text = self._eid(eid, or_none=True)
        if text is None:
            return (None,) * (3 if details else 2)
        if details or filters:
            records = self.alyx.rest("insertions", "list", session=text, **filters)
            records = sorted(records, key=lambda record: record["name"])
            pids, names = [UUID(each["id"]) for each in records], [each["name"] for each in records]
        else:
            rows = self._core.tables.insertions(SessionFilter({"eid": [text]}))
            pids, names, records = [UUID(row.pid) for row in rows], [row.probe_name for row in rows], []
        found = (pids or None, names or None, records or None)
        return found if details else found[:2]

    @of_several
    def path2record(self, path: Any) -> Any:
        """Return the record (a Series) of the session or dataset at a path, or of each in a list; None without one."""
        return [self._record_at(each) for each in path]

    def _record_at(self, path: Any) -> Any:
        import pandas as pd

        if is_session_path(path):
            [eid] = self._core.eids_of_paths([path])
            lab = (parse_session(path) or (None,))[0]
            if eid is None or (row := self._core.session(eid)).lab != (lab or row.lab):
                return None
            return pd.Series(self._table_row(row), name=UUID(eid), dtype=object)
        row = self._dataset_at(path)
        return None if row is None else datasets_frame([row], with_eid=row.eid is not None).iloc[0]

    def _dataset_at(self, path: Any) -> DatasetRow | None:
        name = str(path).rpartition("/")[2]
        if is_uuid_string(uuid := name.rpartition(".")[0].rpartition(".")[2]):
            return self._core.tables.datasets_with([uuid]).get(uuid)
        [eid], below = self._core.eids_of_paths([path]), without_session(path)
        rows = [] if eid is None else self._core.datasets(eid)
        return next((row for row in rows if row.rel_path == below), None)

    @of_several
    def path2url(self, filepath: Any, query_type: str | None = None) -> Any:
        """Return the address of the file at a path, or of each in a list; None for one that is not in the tables."""
        rows = [self._dataset_at(each) for each in filepath]
        urls = iter(self._core.urls([row for row in rows if row is not None]))
        return [None if row is None else next(urls) for row in rows]

    def record2url(self, record: Any) -> Any:
        """Return the address of a dataset or session, given its record (Series), or of each in a frame."""
        _check_record(record)
        if record.ndim == 2:
            return [self.record2url(row) for _, row in record.iterrows()]
        if "rel_path" not in record:
            return self.alyx.rel_path2url(
                f"{record['lab']}/Subjects/{record['subject']}/{record['date']}/{int(record['number']):03d}"
            )
        id = str(record.name[-1] if isinstance(record.name, tuple) else record.name)
        rows = self._core.tables.datasets_with([id])
        return self._core.urls([rows[id]])[0] if id in rows else None

    def record2path(self, dataset: Any) -> Any:
        """Return the path of a dataset below the cache folder, given its record (Series), or of each in a frame."""
        _check_record(dataset)
        if dataset.ndim == 2:
            return [self.record2path(row) for _, row in dataset.iterrows()]
        assert isinstance(dataset.name, tuple) and len(dataset.name) == 2, (
            "the record needs its eid: keep_eid_index=True"
        )
        eid, id = dataset.name
        if (folder := self.eid2path(eid)) is None:
            raise ValueError(f"There is no session {eid}, so its path is not known.")
        path = folder / dataset["rel_path"]
        return path.with_uuid(id) if self.uuid_filenames else path


def _reference(row: SessionRow, as_dict: bool, parse: bool) -> Any:
    number = row.number or 0
    date, sequence = (row.date, number) if parse else (str(row.date), f"{number:03d}")
    parts = AlfBunch(subject=row.subject, date=date, sequence=sequence)
    return parts if as_dict else references.to_text(parts)


def _check_record(record: Any) -> None:
    if not hasattr(record, "ndim") or not hasattr(record, "index"):
        raise TypeError(f"record must be a pandas Series or DataFrame, got {type(record).__name__} instead")

"""Searching sessions and insertions, and listing datasets, with the names of ONE-api."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from os import PathLike
from typing import Any
from uuid import UUID

from labweave.one.api.base import ApiBase
from labweave.one.core import id_argument
from labweave.one.search import matching, searching
from labweave.one.search.frames import datasets_frame
from labweave.one.search.matching import Names, Texts
from labweave.one.search.rows import IN_FRAMES, LISTED, DatasetRow, SessionFilter

log = logging.getLogger(__name__)


class Lists(ApiBase):
    """The methods that search and list."""

    def search_terms(self, query_type: str | None = None, endpoint: str | None = None) -> tuple[str, ...] | None:
        """Return what `search` can be asked by; with an `endpoint`, what `search_insertions` can.

        Examples
        --------
        >>> labweave.ONE(mode="local", silent=True).search_terms()
        ('datasets', 'date_range', 'laboratory', 'number', 'projects', 'subject', 'task_protocol', 'dataset_qc_lte')
        """
        if endpoint in (None, "sessions") and (query_type or self.mode) != "remote":
            return searching.TERMS
        from labweave.one.alyx.filters import filter_names

        names = filter_names(endpoint or "sessions")
        if endpoint not in (None, "sessions"):
            return tuple(names)
        more = [name for name in names if name not in ("lab", "project", "dataset", "offset")]
        return tuple(dict.fromkeys((*searching.TERMS, *searching.MORE_TERMS, "limit", "django", *more)))

    def search(self, details: bool = False, query_type: str | None = None, **filters: Any) -> Any:
        """Return the sessions that fit all terms, newest first.

        Parameters
        ----------
        details : bool, default: False
            Return what is known of each, too.
        query_type : str, optional
            As in ONE-api; without effect, as both kinds of answer come from the same tables.
        **filters
            See `search_terms`; the beginning of a term is enough. Texts are regular expressions found anywhere in a
            name (with `wildcards` off: plain texts); ``datasets`` are whole file names. A list means one of its items,
            for ``datasets``, ``dataset_types`` and ``users`` all of them.

        Returns
        -------
        list of UUID
        list of AlfBunch
            With `details`: id, lab, subject, date, number, start_time, task_protocol, projects, url, local_path.

        Examples
        --------
        >>> one = labweave.ONE(silent=True)
        >>> found = one.search(subject="ZM_1150", date_range="2019-05-07")
        >>> [one.eid2ref(eid, as_dict=False) for eid in found]
        ['2019-05-07_2_ZM_1150', '2019-05-07_1_ZM_1150']
        >>> eids, details = one.search(lab="cortexlab", datasets="spikes.times.npy", details=True)
        >>> [(session.subject, session.task_protocol) for session in details]
        [('KS005', '_iblrig_tasks_ephysChoiceWorld6.4.2')]
        """
        tables = self._core.tables
        with tables.keeper.one_answer():
            wanted = self._wanted(filters)
            if not details:
                return tables.uuids(wanted)
            rows = tables.sessions(wanted)
        return [UUID(row.eid) for row in rows], [self._details(row) for row in rows]

    def _wanted(self, filters: Mapping[str, Any]) -> SessionFilter:
        ours, of_alyx = {}, {}
        for word, value in filters.items():
            try:
                term = searching.complete(word, searching.TERMS)
            except ValueError:
                if any(each.startswith(word.casefold()) for each in searching.TERMS):
                    raise
                term = searching.complete(word, self.search_terms("remote") or ())
            is_ours = term in (*searching.TERMS, *searching.MORE_TERMS)
            if value is not None and term != "limit":  # the size of a page of answers, of which there is one here
                (ours if is_ours else of_alyx)[term] = value
        wanted = searching.modern(self._core.tables, ours, wildcards=self.wildcards)
        if of_alyx:
            eids = [record["id"] for record in self.alyx.rest("sessions", "list", **of_alyx)]
            wanted = replace(wanted, among={**wanted.among, "eid": eids})
        return wanted

    def search_insertions(self, details: bool = False, query_type: str | None = None, **filters: Any) -> Any:
        """Return the ids of probe insertions that fit all terms, the newest session first.

        Parameters
        ----------
        details : bool, default: False
            Return Alyx's record of each, too.
        query_type : str, optional
            As in ONE-api; without effect.
        **filters
            ``name``, ``session``, ``subject``, ``lab``, ``task_protocol``, ``project``, ``model``, ``serial``,
            ``dataset`` (part of a file name), ``datasets`` (whole file names, all of them), ``number``, ``tag``,
            ``atlas_*``, ``django``; the beginning of a term is enough.
        """
        from labweave.one.alyx.filters import filter_names

        terms = (*filter_names("insertions"), "dataset", "laboratory", "number")
        names = {"laboratory": "lab", "number": "experiment_number"}
        completed = {searching.complete(word, terms): value for word, value in filters.items()}
        given = {names.get(term, term): value for term, value in completed.items() if term != "limit"}
        if not isinstance(given.get("dataset", ""), str):
            raise TypeError('"dataset" must be a text; use "datasets" for several.')
        if "session" in given:
            given["session"] = str(self._eid(given["session"]))
        records = self.alyx.rest("insertions", "list", **given)
        pids = [UUID(record["id"]) for record in records]
        return (pids, records) if details else pids

    def list_subjects(self) -> list[str]:
        """Return the names of all subjects with sessions, sorted.

        Examples
        --------
        >>> labweave.ONE(silent=True).list_subjects()[:3]
        ['KS005', 'SWC-043.2', 'ZM_11']
        """
        return sorted(self._core.tables.names("subject"))

    def list_datasets(
        self,
        eid: Any = None,
        filename: Names = None,
        collection: Texts = None,
        revision: Texts = None,
        qc: Any = "FAIL",
        ignore_qc_not_set: bool = False,
        details: bool = False,
        query_type: str | None = None,
        default_revisions_only: bool = False,
        keep_eid_index: bool = False,
    ) -> Any:
        """Return the paths of the datasets of a session, sorted; without one, of all sessions, each path once.

        Parameters
        ----------
        eid : str, UUID, path or dict, optional
            The session.
        filename : str, list of str, or dict of ALF parts, optional
        collection, revision : str or list of str, optional
            Patterns: "" means none, None any.
        qc : str or int
            Leave out datasets whose quality control is worse.
        ignore_qc_not_set : bool, default: False
            Leave out datasets without quality control.
        details : bool, default: False
            Return a frame instead, indexed by dataset id: rel_path, file_size, hash, exists, default_revision, qc.
        query_type : str, optional
            As in ONE-api; without effect.
        default_revisions_only : bool, default: False
        keep_eid_index : bool, default: False
            The frame is indexed by eid and dataset id.

        Examples
        --------
        >>> one = labweave.ONE(silent=True)
        >>> one.list_datasets("2019-04-11_1_KS005", "spikes*", collection="alf/probe01")
        ['alf/probe01/spikes.amps.npy', 'alf/probe01/spikes.clusters.npy', 'alf/probe01/spikes.times.npy']
        >>> frame = one.list_datasets("2019-05-07_1_ZM_1150", "*choice*", details=True)
        >>> list(zip(frame["rel_path"], frame["qc"]))
        [('alf/_ibl_trials.choice.npy', 'FAIL')]
        """
        eid = None if isinstance(eid, str) and not eid else eid
        options = {"once": not details and not default_revisions_only, "ignore_qc_not_set": ignore_qc_not_set}
        rows = self._listed(eid, filename, collection, revision, max_qc=qc, **options)
        if default_revisions_only:
            rows = [row for row in rows if row.is_default]
        if details:
            return datasets_frame(rows, with_eid=keep_eid_index or eid is None)
        paths = [row.rel_path for row in rows]
        return list(dict.fromkeys(paths)) if eid is None else sorted(paths)

    def list_collections(
        self,
        eid: Any = None,
        filename: Names = None,
        collection: Texts = None,
        revision: Texts = None,
        details: bool = False,
        query_type: str | None = None,
    ) -> Any:
        """Return the collections of the datasets that fit, "" for the session's root; see `list_datasets`.

        With `details`, a dictionary collection -> frame.

        Examples
        --------
        >>> labweave.ONE(silent=True).list_collections("2019-04-11_1_KS005", "spikes*")
        ['alf/probe00', 'alf/probe00/pykilosort', 'alf/probe01']
        """
        return self._list_by("collection", eid, filename, collection, revision, details)

    def list_revisions(
        self,
        eid: Any = None,
        filename: Names = None,
        collection: Texts = None,
        revision: Texts = None,
        details: bool = False,
        query_type: str | None = None,
    ) -> Any:
        """Return the revisions of the datasets that fit, "" for those without; see `list_datasets`.

        With `details`, a dictionary revision -> frame.

        Examples
        --------
        >>> labweave.ONE(silent=True).list_revisions("2019-04-11_1_KS005", "spikes.times*")
        ['', '2022-01-01', '2024-05-06']
        """
        return self._list_by("revision", eid, filename, collection, revision, details)

    def _list_by(self, part: str, eid: Any, filename: Names, collection: Texts, revision: Texts, details: bool) -> Any:
        found: dict[str, list[DatasetRow]] = {}
        for row in self._listed(eid, filename, collection, revision, once=not details):
            found.setdefault(getattr(row, part), []).append(row)
        if not details:
            return list(found)
        return {name: datasets_frame(found[name], with_eid=eid is None) for name in sorted(found)}

    def _listed(
        self, eid: Any, filename: Any, collection: Any, revision: Any, *, once: bool, **qc: Any
    ) -> list[DatasetRow]:
        """Return the datasets that fit, of a session or of all.

        Without `once` they have what frames show; with it only what lists need, and of all sessions those of the same
        path come once.
        """
        tables, usual = self._core.tables, qc.get("max_qc", matching.DEFAULT_MAX_QC) == matching.DEFAULT_MAX_QC
        if eid is None and once:
            rows, qc = sorted(tables.paths(matching.outcomes(**qc)), key=lambda row: row.rel_path), {}
        elif eid is None:
            rows = tables.datasets(tables.eids(SessionFilter()))
        elif (text := self._eid(eid, or_none=True)) is None:
            return []
        else:
            rows = tables.datasets_of(text, LISTED if once else IN_FRAMES)
        found = matching.find(rows, filename, collection, revision, wildcards=self.wildcards, **qc)
        if eid is not None and not found and filename and usual:
            bad = [row for row in rows if row.qc == "CRITICAL"]
            if left_out := matching.find(bad, filename, collection, wildcards=self.wildcards, max_qc="CRITICAL"):
                log.warning(
                    "session %s: %d dataset(s) left out for their quality control (%s: %s); qc='CRITICAL' lists them",
                    left_out[0].eid, len(left_out), left_out[0].rel_path, left_out[0].qc,
                )  # fmt: skip
        return found

    @id_argument
    def get_details(self, eid: Any, full: bool = False, query_type: str | None = None) -> Any:
        """Return what is known of a session, or of each in a list.

        Parameters
        ----------
        eid : str, UUID, path, dict, or a list of those
        full : bool, default: False
            In local mode a frame of the session's datasets, with the session beside each; in remote mode Alyx's record.
        query_type : str, optional
            Instead of the mode.

        Returns
        -------
        Series, frame or dict

        Examples
        --------
        >>> session = labweave.ONE(silent=True).get_details("2019-04-11_1_KS005")
        >>> session["lab"], session["date"], session["projects"]
        ('cortexlab', datetime.date(2019, 4, 11), 'brainwide,practice')
        """
        if isinstance(eid, Iterable) and not isinstance(eid, (str, Mapping, PathLike)):
            return [self.get_details(each, full, query_type) for each in eid]
        import pandas as pd

        row = self._core.session(self._eid(eid))
        if full and (query_type or self.mode) == "remote":
            return self.alyx.rest("sessions", "read", id=row.eid)
        if not full:
            return pd.Series(dict(self._details(row)), name=UUID(row.eid), dtype=object)
        return datasets_frame(self._core.datasets(row.eid), with_eid=True).assign(**self._table_row(row))

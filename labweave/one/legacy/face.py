"""ONE as it first was (`oneibl.one`): its names, arguments and results, with texts as eids.

The answers come from the tables, through `labweave.one.core`. Offline only means that no file server is asked.
"""

from __future__ import annotations

import abc
import logging
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from pathlib import Path, PurePosixPath
from typing import Any, Union
from uuid import UUID

import labweave.database
from labweave.formats.alf import names
from labweave.formats.alf.exceptions import ALFObjectNotFound
from labweave.one.alyx.rest import Client, client_of
from labweave.one.core import Core, find_anywhere, id_argument, of_several, uuid_at_end
from labweave.one.files.folders import Folder, path_in_url, path_of_url, url_of
from labweave.one.files.partial import download_raw_partial
from labweave.one.files.recipes import contents_of, load_objects, recipes_among
from labweave.one.legacy.info import SessionDataInfo, is_meant
from labweave.one.legacy.settings_file import ask_settings
from labweave.one.search import searching
from labweave.one.search.rows import DatasetRow, SessionRow

log = logging.getLogger(__name__)

KEYWORDS = ("dataset-types", "datasets", "labs", "subjects", "users")


def Listable(t: Any) -> Any:
    """Return the type of one or several of a type."""
    return Union[t, Sequence[t]]  # noqa: UP007


def parse_id(method: Callable) -> Callable:
    """Let a method take a session in any way that `to_eid` understands, as first argument, ``id`` or ``eid``.

    Raises
    ------
    ValueError
        The session is unknown, or the argument names none.
    TypeError
        The session is given twice, or not at all.
    """

    @wraps(method)
    def wrapper(self, id, /, *args, **kwargs):
        eid = self.to_eid(id)
        if eid is None or (isinstance(eid, list) and None in eid):
            raise ValueError(f"{method.__name__}(): there is no session {id!r}. Is it ingested, and the path right?")
        return method(self, eid, *args, **kwargs)

    return id_argument(wrapper)


class OneAbstract(abc.ABC):
    """What `OneAlyx` and `OneOffline` share.

    Parameters
    ----------
    username, password, base_url : str, optional
        Login and address of an Alyx server, which are not used: the database is the open one, or that of the settings.
    cache_dir : path, optional
        Folder of files and downloads, by default that of the settings.
    silent : bool, optional
        Print nothing.
    trust_pickles : bool, default: False
        Load arrays of Python objects. They are pickles, which can run any code: only do it with your own files.
    """

    _is_offline = True

    def __init__(
        self, username=None, password=None, base_url=None, cache_dir=None, silent=None, *, trust_pickles=False
    ):
        self._core = Core(cache_dir, offline=self._is_offline, silent=bool(silent))
        self._username, self._base_url, self.trust_pickles = username, base_url, trust_pickles
        self._client: Client | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({labweave.database.current().url}, cache_dir={str(self._core.cache_dir)!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_client": None}

    @property
    def alyx(self) -> Client:
        """A client that gives the answers of an Alyx server from the tables."""
        if self._client is None:
            self._client = client_of(self._core, base_url=self._base_url, username=self._username)
        return self._client

    @property
    def _par(self):
        return self.alyx._par

    @abc.abstractmethod
    def load(self, **kwargs):
        """Load datasets of a session."""

    @abc.abstractmethod
    def list(self, **kwargs):
        """List the datasets of a session."""

    @abc.abstractmethod
    def search(self, **kwargs):
        """Find sessions."""

    # ids and paths

    def to_eid(self, id: Any = None, cache_dir: Any = None) -> Any:
        """Return the eid of a session as text, or a list of them for a list.

        Parameters
        ----------
        id : str, UUID, path, mapping, or iterable of these
            A UUID, also at the end of an address; the path of a session or of a file in it; a reference such as
            ``2019-05-07_1_ZM_1150``; the details of a session. Else it is a ValueError. The path of an unknown session
            gives None. Whether a UUID is known is not checked.
        cache_dir : path, optional
            Not needed: the folders above the lab don't matter.
        """
        return self._core.to_eid(id, ignore_case=True)

    @of_several
    def path_from_eid(self, eid: Any, use_cache: bool = True) -> Any:
        """Return the folder of a session below the cache folder, or of each in a list; None for an unknown one.

        It need not be there. `use_cache` has no effect: every answer comes from the tables.
        """
        return self._core.session_paths([self._eid_or_none(each) or "" for each in eid])

    def _eid_or_none(self, eid: Any) -> str | None:
        """Return an eid as text, or print that it is none and return None."""
        text = str(eid) if isinstance(eid, (str, UUID)) else ""
        if (found := uuid_at_end(text)) and (len(text) == 36 or "/" in text):
            return found
        print(f"{eid!r} is not a valid eID/UUID string")
        return None

    @of_several
    def eid_from_path(self, path_obj: Any, use_cache: bool = True) -> Any:
        """Return the eid of the session that a path belongs to, or of each in a list; None for an unknown one.

        The subject may be in another case. `use_cache` has no effect.
        """
        return self._core.eids_of_paths(path_obj, ignore_case=True)

    # datasets

    def _rows(self, eid: str):
        """Return the datasets of a session that can be loaded, whatever their quality control: the seed had none."""
        rows = [row._replace(qc="NOT_SET") for row in self._loadable(eid)]
        if not rows:
            self._core.session(eid)
        return rows

    def _loadable(self, eid: str) -> list[DatasetRow]:
        """Return the datasets of a session that have a copy, or are recipes in the database."""
        _one_session(eid)
        rows = self._core.datasets(eid)
        recipes = recipes_among(rows)
        return [row for row in rows if row.exists or row.id in recipes]

    def _load(self, eid: str, types: Sequence[str], *, download_only: bool, keep_uuid: bool, **options: Any):
        """Return the datasets of one session and their contents; `options` are those of `Files.get`."""
        rows = [row for row in self._rows(eid) if is_meant(types, row.type, row.collection)]
        rows.sort(key=lambda row: (row.collection, row.revision, row.name))
        rows = self._core.with_copies(rows)
        paths = self._core.files.get(rows, keep_uuid=keep_uuid, **options)
        contents = {} if download_only or options["dry_run"] else self._contents(rows, paths)
        if options["offline"] and not options["dry_run"]:
            _require(rows, paths, contents)
        return SessionDataInfo.from_records(
            {
                "dataset_type": row.type,
                "dataset_id": row.id,
                "local_path": str(path) if keep_uuid and path is not None else path,
                "eid": eid,
                "url": url_of(row),
                "data": contents.get(row.id),
                "hash": row.hash,
                "file_size": row.size,
            }
            for row, path in zip(rows, paths, strict=True)
        )

    def _contents(self, rows: Sequence[DatasetRow], paths: Sequence[Any]) -> dict[str, Any]:
        return contents_of(rows, paths, legacy=True, trust_pickles=self.trust_pickles)


class _Front(OneAbstract):
    """Every method of the seed, for both of its classes."""

    @parse_id
    def load(
        self,
        eid,
        dataset_types=None,
        dclass_output=False,
        dry_run=False,
        cache_dir=None,
        download_only=False,
        clobber=False,
        offline=False,
        keep_uuid=False,
    ):
        """Load datasets of a session by their types, downloading the missing ones.

        Parameters
        ----------
        eid : whatever `to_eid` takes, or a list of it
            The session, which may be given as ``id``.
        dataset_types : str or list of str, optional
            None: all with a folder ``alf`` and no ``raw_ephys_data``. ``"__all__"``: all. Either gives a
            `SessionDataInfo`.
        dclass_output : bool, default: False
            Return a `SessionDataInfo`.
        dry_run : bool, default: False
            Download and load nothing.
        cache_dir : path, optional
            Instead of the usual one, for this call.
        download_only : bool, default: False
            Load nothing, and return the paths.
        clobber : bool, default: False
            Download files that are here again.
        offline : bool, default: False
            Download nothing.
        keep_uuid : bool, default: False
            Keep the dataset's UUID in the file names; the paths are texts then.

        Returns
        -------
        list, SessionDataInfo, or list of lists
            One item per dataset, in the order of the types, then by collection, revision and name. It is None for a
            type that the session lacks, and the path if there is nothing to load. For several sessions there is a list
            of each, or only its first item if there is one type.

        Raises
        ------
        FileNotFoundError
            A file is not here, and it is offline.
        DownloadError
            A file can't be downloaded, or arrived damaged.

        Examples
        --------
        >>> from labweave.one import ONE
        >>> one = ONE(offline=True)
        >>> eid = one.to_eid("2019-05-07_1_ZM_1150")
        >>> [choice] = one.load(eid, "trials.choice")
        >>> choice.shape
        (100,)
        """
        types = [dataset_types] if isinstance(dataset_types, str) else list(dataset_types or ())
        as_info = dclass_output or not types or types == ["__all__"]
        options = {"cache_dir": cache_dir, "clobber": clobber, "keep_uuid": keep_uuid, "dry_run": dry_run}
        options |= {"offline": offline or self._is_offline, "download_only": download_only}
        found = [self._load(each, types, **options) for each in ([eid] if isinstance(eid, str) else eid)]
        if as_info:
            joined = SessionDataInfo()
            for info in found:
                joined.append(info)
            return joined
        listed = [_in_order(info, types) for info in found]
        if isinstance(eid, str):
            return listed[0]
        return [items[0] for items in listed] if len(types) == 1 else listed

    @parse_id
    def load_dataset(self, eid, dataset, collection=None, download_only=False):
        """Load one dataset by its file name.

        Parameters
        ----------
        eid : whatever `to_eid` takes
        dataset : str
            File name, ``object.attribute`` with or without its namespace, or path below the session; they may have
            ``*`` and ``?``. If nothing fits, it is looked for anywhere in the names.
        collection : str, optional
            Folders between the session and the file; None and "" mean any.
        download_only : bool, default: False
            Return the path.

        Examples
        --------
        >>> from labweave.one import ONE
        >>> one = ONE(offline=True)
        >>> one.load_dataset(one.to_eid("2019-05-07_1_ZM_1150"), "trials.choice").shape
        (100,)
        """
        row = self._core.choose_dataset(self._rows(eid), dataset, collection or None, substring=True)
        paths = self._core.fetch([row])
        contents = {} if download_only else self._contents([row], paths)
        _require([row], paths, contents)
        return paths[0] if download_only else contents[row.id]

    @parse_id
    def load_object(self, eid, obj, collection="alf", download_only=False, **kwargs):
        """Load the attributes of an object.

        Parameters
        ----------
        eid : whatever `to_eid` takes
        obj : str
            Name of the object, ``*`` for anything.
        collection : str, default: "alf"
            Folders between the session and the files; None, "" and "all" mean any.
        download_only : bool, default: False
            Return the paths.
        **kwargs : str, list of str or None
            Parts of the names: namespace, attribute, timescale, extra, extension; None for a missing part. With
            ``short_keys=True`` the keys leave out extra parts.

        Returns
        -------
        AlfBunch, or list of Path

        Examples
        --------
        >>> from labweave.one import ONE
        >>> one = ONE(offline=True)
        >>> wheel = one.load_object(one.to_eid("2019-05-07_1_ZM_1150"), "wheel")
        >>> sorted(wheel)
        ['position', 'timestamps']
        """
        short_keys = kwargs.pop("short_keys", False)
        parts: Any = {name: "" if value is None else value for name, value in kwargs.items()}
        folder = None if collection in (None, "", "all") else collection
        rows = self._rows(eid)
        try:
            chosen = self._core.choose_object(rows, obj, folder, **parts)
        except ALFObjectNotFound:
            if folder is None:
                raise
            chosen = self._core.choose_object(find_anywhere(rows, "", folder), obj, None, **parts)
        what = f"object {obj!r} of session {eid}"
        options = {"short_keys": short_keys, "legacy": True, "trust_pickles": self.trust_pickles}
        found = load_objects(chosen, self._core.fetch(chosen), what, download_only=download_only, **options)
        return found if download_only else found[chosen[0].object]

    @id_argument
    def list(self, eid=None, details=False):
        """Return the datasets of a session, or the types of all datasets.

        Parameters
        ----------
        eid : whatever `to_eid` takes, optional
            The session, which may be given as ``id``; without it, the names of all dataset types are returned.
        details : bool, default: False
            Return Alyx's records of the datasets.

        Returns
        -------
        list of str, Path or dict
            Paths are collection and name, without revisions. Datasets without a copy are left out.

        Examples
        --------
        >>> from labweave.one import ONE
        >>> one = ONE(offline=True)
        >>> [str(path) for path in one.list(one.to_eid("2019-05-07_2_ZM_1150"))][:1]
        ['alf/_ibl_trials.choice.npy']
        """
        if eid is None:
            return sorted(record["name"] for record in self.alyx.rest("dataset-types", "list"))
        return self._list(eid, details)

    @parse_id
    def _list(self, eid, details):
        rows = self._loadable(eid)
        if not rows and eid not in self._core.tables.sessions_of([eid]):
            log.warning("there is no session %s", eid)
        return self._records(rows) if details else sorted(Path(row.collection, row.name) for row in rows)

    def _records(self, rows: Iterable[DatasetRow]) -> Sequence[dict[str, Any]]:
        """Return Alyx's records of datasets, by collection, revision and name."""
        chosen = sorted(rows, key=lambda row: (row.collection, row.revision, row.name))
        if not chosen:
            return []
        ids = [row.id for row in chosen]
        found = {record["url"][-36:]: record for record in self.alyx.rest("datasets", "list", django=f"id__in,{ids}")}
        return [found[row.id] for row in chosen]

    def search(self, details=False, limit=None, **kwargs):
        """Find sessions, the newest first.

        Parameters
        ----------
        details : bool, default: False
            Return the details of each session as well.
        limit : int, optional
            The largest number of sessions to return.
        **kwargs
            See `search_terms`. Subjects and labs are whole names; protocols, projects and locations are any part of
            them. Case does not matter. A list means any of its items, for users and dataset types all of them.

        Returns
        -------
        list of str, or list of str and list of dict
            None, with an error in the log, if a word is no search term.

        Examples
        --------
        >>> from labweave.one import ONE
        >>> one = ONE(offline=True)
        >>> eids, details = one.search(subject="ZM_1150", details=True)
        >>> [(each["date"].isoformat(), each["number"]) for each in details]
        [('2019-05-07', 2), ('2019-05-07', 1)]
        """
        tables = self._core.tables
        with tables.keeper.one_answer():
            try:
                wanted = searching.legacy(tables, kwargs)
            except KeyError as error:
                valid = ", ".join(self.search_terms())
                log.error('"%s" is not a valid search keyword. Valid are: %s', error.args[0], valid)
                return None
            if not details:
                return tables.eids(wanted, limit)
            rows = tables.sessions(wanted, limit)
        return [row.eid for row in rows], [self._details(row) for row in rows]

    def _details(self, row: SessionRow) -> dict[str, Any]:
        """Return the details of a session, with the keys of both front ends."""
        shown = self._core.details(row, self.alyx.base_url)
        return {**shown, "project": shown["projects"], "projects": list(row.projects)}

    def get_details(self, eid, full=False):
        """Return the details of a session, or of each in a list or tuple of eids; `full` gives Alyx's record.

        What is no UUID gives None and a printed line; an unknown session raises ALFObjectNotFound.
        """
        if isinstance(eid, (list, tuple)):
            return [self.get_details(each, full=full) for each in eid]
        text = self._eid_or_none(eid)
        if text is None:
            return None
        shown = self._details(self._core.session(text))
        path = shown["local_path"]
        return self.alyx.rest("sessions", "read", id=text) if full else {**shown, "local_path": path and Path(path)}

    @parse_id
    def datasets_from_type(self, eid, dataset_type, full=False):
        """Return the file names of a session's datasets of one or several types, also of those without a copy.

        `full` gives Alyx's records.
        """
        _one_session(eid)
        types = [dataset_type] if isinstance(dataset_type, str) else list(dataset_type)
        self._core.session(eid)
        rows = [row for row in self._core.datasets(eid) if row.type in types]
        return self._records(rows) if full else [row.name for row in rows]

    def url_from_path(self, filepath):
        """Return the address of the dataset at a path; the file need not be here.

        A path of no registered dataset, or of one without a copy on a server, raises ALFObjectNotFound.
        """
        eid = self.eid_from_path(filepath)
        below_session = names.without_session(filepath) if eid else None
        rows = [row for row in self._core.datasets(eid) if row.rel_path == below_session] if eid else []
        url = self._core.urls(rows)[0] if len(rows) == 1 else None
        if url is None:
            found = f"{len(rows)} datasets have this path" if eid else "it lies in no known session"
            raise ALFObjectNotFound(f"{filepath}: {found if len(rows) != 1 else 'no copy of it is on a server'}.")
        return url

    def help(self, dataset_type=None):
        """Print the descriptions of one or several dataset types; without any, return Alyx's records of all types."""
        if dataset_type is None:
            return self.alyx.rest("dataset-types", "list")
        if isinstance(dataset_type, str):
            dataset_type = [dataset_type]
        if not isinstance(dataset_type, (list, tuple)) or not all(isinstance(name, str) for name in dataset_type):
            print("No dataset_type provided or wrong type. Should be str")
            return None
        for name in dataset_type:
            print(self.alyx.rest("dataset-types", "read", id=name)["description"])
        return None

    # downloads

    def download_dataset(self, dset, cache_dir=None, **kwargs):
        """Download a dataset, and return its path (a text with `keep_uuid`), or None if no server has a copy.

        Parameters
        ----------
        dset : dict, str or UUID
            Record of a dataset, address or dataset id. An unknown one is a ValueError.
        cache_dir : path, optional
            Instead of the usual one, for this call.
        **kwargs
            clobber, offline and keep_uuid of `load`; file_size and hash in place of the registered ones.
        """
        return self.download_datasets([dset], cache_dir=cache_dir, **kwargs)[0]

    def download_datasets(self, dsets, cache_dir=None, file_size=None, hash=None, keep_uuid=False, **kwargs):
        """Download datasets, in parallel, and return their paths in the order given; see `download_dataset`."""
        dsets = list(dsets)
        ids = [_id_of(dset) for dset in dsets]
        registered = self._core.tables.datasets_with([id for id in ids if id])
        known = {row.id: row for row in self._core.with_copies(list(registered.values()))}
        rows = []
        for id, dset in zip(ids, dsets, strict=True):
            if id in known:
                given = dset if isinstance(dset, Mapping) else {}
                size, digest = file_size or given.get("file_size"), hash or given.get("hash")
                rows.append(known[id]._replace(**{k: v for k, v in (("size", size), ("hash", digest)) if v}))
        paths = iter(self._core.files.get(rows, cache_dir=cache_dir, keep_uuid=keep_uuid, **kwargs))
        found = [next(paths) if id in known else self._by_address(dset) for id, dset in zip(ids, dsets, strict=True)]
        for dset, path in zip(dsets, found, strict=True):
            if path is None:
                log.warning("%s has no copy on a server", dset["name"] if isinstance(dset, Mapping) else dset)
        return [str(path) if keep_uuid and path is not None else path for path in found]

    def _by_address(self, url: Any) -> Path:
        """Download a session's file from an address that is not that of a known dataset."""
        place = path_of_url(url) if isinstance(url, str) and "://" in url else None
        if place is None:
            raise ValueError(
                f"{url!r} is no known dataset: give its record, its id, or the address of a session's file."
            )
        target = Folder(Path(self._core.cache_dir)).path(place)
        if not target.is_file():
            self._core.files.fetch(url, target)
        return target

    def download_raw_partial(self, url_cbin, url_ch, first_chunk=0, last_chunk=0):
        """Download and open some chunks of a recording; see `labweave.one.files.partial.download_raw_partial`."""
        return download_raw_partial(self._core.files, url_cbin, url_ch, first_chunk, last_chunk)

    # words

    @staticmethod
    def search_terms():
        """Return the search terms, sorted."""
        return sorted(searching.LEGACY_TERMS)

    @staticmethod
    def keywords():
        """Return the keywords that the method `list` of the first ONE had, sorted."""
        return sorted(KEYWORDS)

    @staticmethod
    def setup():
        """Ask for the cache folder and the login of the data server, and write them into labweave.toml.

        Without a terminal it asks nothing and writes nothing.
        """
        ask_settings(sys.stdin.isatty())


class OneOffline(_Front):
    """ONE that asks no file server and loads only files on this machine."""


class OneAlyx(_Front):
    """ONE that downloads missing files."""

    _is_offline = False

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        if not kwargs.get("silent"):
            as_whom = f" as {self._username}" if self._username else ""
            print(f"Connected to {labweave.database.current().url}{as_whom}")


def ONE(offline: bool = False, **kwargs: Any) -> OneOffline | OneAlyx:
    """Return a `OneOffline` or `OneAlyx`; `kwargs` are theirs."""
    return OneOffline(**kwargs) if offline else OneAlyx(**kwargs)


def _in_order(found: SessionDataInfo, types: Sequence[str]) -> list[Any]:
    """Return the contents, type by type; None for a missing type, and the path of what can't be loaded."""
    items: list[Any] = []
    for name in types:
        of_type = [n for n, each in enumerate(found.dataset_type) if each == name]
        if not of_type:
            log.warning("there is no dataset of type %s in the session", name)
            items.append(None)
        items += [found.local_path[n] if found.data[n] is None else found.data[n] for n in of_type]
    return items


def _one_session(eid: Any) -> None:
    if not isinstance(eid, str):
        raise TypeError(f"One session is expected, not {len(eid)}: ask for one after the other.")


def _require(rows: Sequence[DatasetRow], paths: Sequence[Any], contents: Mapping[str, Any]) -> None:
    """Raise an error if a dataset has neither a file nor contents."""
    missing = [row.path for row, path in zip(rows, paths, strict=True) if path is None and row.id not in contents]
    if missing:
        raise FileGone(
            f"{len(missing)} of {len(rows)} files are not here, nor on a server that may be asked: {missing[0]}. "
            "Load them with ONE() instead of offline, or look for the disk they are on."
        )


class FileGone(ALFObjectNotFound, FileNotFoundError):
    """A dataset's file is not here. The seed raises a FileNotFoundError here, so this is one as well."""

    explanation = ""


def _id_of(dset: Any) -> str:
    """Return the dataset id in a record, address or id; "" without one."""
    if isinstance(dset, Mapping):
        dset = dset.get("id") or dset.get("url") or dset.get("data_url") or ""
    text = str(dset).rstrip("/")
    return uuid_at_end(text) or uuid_at_end(PurePosixPath(path_in_url(text)).stem)

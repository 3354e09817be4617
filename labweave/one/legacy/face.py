"""ONE as it first was (`oneibl.one`): its names, arguments and results, with texts as eids.

The answers come from the tables, in `labweave.one.search.core`; offline only means that no file server is asked.
"""

from __future__ import annotations

import abc
import logging
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from pathlib import Path, PurePosixPath
from typing import Any, Union
from urllib.parse import urlsplit
from uuid import UUID

import labweave.database
from labweave.formats.alf import names
from labweave.formats.alf.exceptions import ALFObjectNotFound
from labweave.formats.alf.load import load_file, load_object
from labweave.one.alyx.rest import Client, client_of
from labweave.one.files.files import Folder, Wanted, path_of_url
from labweave.one.files.partial import download_raw_partial
from labweave.one.files.recipes import contents_of, recipes_among
from labweave.one.files.sources import DataLogin
from labweave.one.legacy.info import SessionDataInfo
from labweave.one.legacy.settings_file import ask_settings
from labweave.one.search import searching
from labweave.one.search.core import Core, find_anywhere, is_uuid_text
from labweave.one.search.rows import DatasetRow, SessionRow
from labweave.settings import load_settings

log = logging.getLogger(__name__)

KEYWORDS = ("dataset-types", "datasets", "labs", "subjects", "users")


def Listable(t: Any) -> Any:
    """Return the type of one or several of a type."""
    return Union[t, Sequence[t]]  # noqa: UP007


def parse_id(method: Callable) -> Callable:
    """Let a method that takes an eid take whatever names a session.

    Parameters
    ----------
    method : callable
        Its second argument is an eid; it may be given as ``id`` or ``eid``, too.

    Raises
    ------
    ValueError
        The session is not known, or it is no experiment id.
    TypeError
        The session is given twice, or not at all.
    """

    @wraps(method)
    def wrapper(self, *args, **kwargs):
        words = [word for word in ("id", "eid") if word in kwargs]
        if len(words) + bool(args) != 1:
            found = "twice" if args or words else "not at all"
            raise TypeError(f"{method.__name__}() got the session {found}.")
        id, args = (args[0], args[1:]) if args else (kwargs.pop(words[0]), ())
        eid = self.to_eid(id)
        if eid is None or (isinstance(eid, list) and None in eid):
            raise ValueError(f"{method.__name__}(): there is no session {id!r}. Is it ingested, and the path right?")
        return method(self, eid, *args, **kwargs)

    return wrapper


class OneAbstract(abc.ABC):
    """What `OneAlyx` and `OneOffline` share.

    Parameters
    ----------
    username, password, base_url : str, optional
        Taken for code that gives them: the login and address of an Alyx server. The database is that of labweave's
        settings, or the one that `labweave.connect` has opened.
    cache_dir : path, optional
        Where files are looked for and downloaded to; that of the settings without.
    silent : bool, optional
        Print nothing.
    trust_pickles : bool, default: False
        Load arrays of Python objects, which are pickles and can run any code: for a lab whose files are its own only.
    """

    _is_offline = True

    def __init__(
        self, username=None, password=None, base_url=None, cache_dir=None, silent=None, *, trust_pickles=False
    ):
        settings = load_settings().one
        self._core = Core(
            cache_dir or settings.cache_dir, offline=self._is_offline, login=DataLogin.of(settings), silent=bool(silent)
        )
        self._username, self._base_url, self.trust_pickles = username, base_url, trust_pickles
        self._client: Client | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({labweave.database.current().url}, cache_dir={str(self._core.cache_dir)!r})"

    @property
    def alyx(self) -> Client:
        """What an Alyx server would answer, from the tables."""
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
        """Return the eid of what names a session.

        Parameters
        ----------
        id : str, UUID, path, mapping, or iterable of these
            A UUID, also at the end of an address; the path of a session or of a file in it; a reference such as
            ``2019-05-07_1_ZM_1150``; details of a session.
        cache_dir : path, optional
            Not needed: a path is understood whatever is above its lab.

        Returns
        -------
        str, list of str, or None
            None for the path of a session that is not known. That a UUID is known is not checked.

        Raises
        ------
        ValueError
            It is nothing of that kind.
        """
        return self._core.to_eid(id, ignore_case=True)

    def path_from_eid(self, eid: Any, use_cache: bool = True) -> Any:
        """Return the folder of a session below the cache folder, whether it is there or not.

        Parameters
        ----------
        eid : str or UUID, or list or tuple of these
        use_cache : bool
            Taken for the seed's sake: every answer comes from the tables.

        Returns
        -------
        Path or None, or list of these
        """
        if isinstance(eid, (list, tuple)):
            wanted = [self._eid_or_none(one) for one in eid]
            paths = dict(zip(wanted, self._core.session_paths([one or "" for one in wanted]), strict=True))
            return [paths[one] for one in wanted]
        text = self._eid_or_none(eid)
        return self._core.session_paths([text])[0] if text else None

    def _eid_or_none(self, eid: Any) -> str | None:
        """Return an eid as text, or None with a printed line for what is none."""
        text = str(eid) if isinstance(eid, (str, UUID)) else ""
        if is_uuid_text(text[-36:]) and (len(text) == 36 or "/" in text):
            return text[-36:].lower()
        print(f"{eid!r} is not a valid eID/UUID string")
        return None

    def eid_from_path(self, path_obj: Any, use_cache: bool = True) -> Any:
        """Return the eid of the session that a path lies in.

        Parameters
        ----------
        path_obj : str or Path, or list of these
            Of a session, or anything below it; the subject may be in another case.
        use_cache : bool
            Taken for the seed's sake.

        Returns
        -------
        str or None, or list of these
        """
        if isinstance(path_obj, list):
            return self._core.eids_of_paths(path_obj, ignore_case=True)
        return self._core.eids_of_paths([path_obj], ignore_case=True)[0]

    # datasets

    def _rows(self, eid: str):
        """Return the datasets of a session that can be loaded, whatever their quality: the seed knew none.

        Raises
        ------
        ALFObjectNotFound
            There is no such session.
        """
        rows = [row._replace(qc="NOT_SET") for row in self._loadable(eid)]
        if not rows:
            self._core.session(eid)
        return rows

    def _loadable(self, eid: str) -> list[DatasetRow]:
        """Return the datasets of a session that have a copy, or are recipes in the database."""
        rows = self._core.datasets(eid)
        recipes = recipes_among(rows)
        return [row for row in rows if row.exists or row.id in recipes]

    def _load(self, eid: str, types: Sequence[str], *, download_only: bool, keep_uuid: bool, **options: Any):
        """Return the datasets of one session with what is in them; `options` are those of `Files.get`."""
        rows = self._rows(eid)
        if not types:
            rows = [row for row in rows if _is_processed(row)]
        elif list(types) != ["__all__"]:
            rows = [row for row in rows if row.type in types]
        rows.sort(key=lambda row: (row.collection, row.revision, row.name))
        wanted = self._core.wanted(rows)
        paths = self._core.files.get(wanted, keep_uuid=keep_uuid, **options)
        is_loaded = not (download_only or options["dry_run"])
        contents = contents_of(row for row, path in zip(rows, paths, strict=True) if is_loaded and path is None)
        if options["offline"] and not options["dry_run"]:
            _require(rows, paths, contents)
        return SessionDataInfo(
            dataset_type=[row.type for row in rows],
            dataset_id=[row.id for row in rows],
            local_path=[str(path) if keep_uuid and path is not None else path for path in paths],
            eid=[eid] * len(rows),
            url=[self._core.files.url(one) for one in wanted],
            data=[
                self._read(path) if is_loaded and path is not None else contents.get(row.id)
                for row, path in zip(rows, paths, strict=True)
            ],
            hash=[row.hash for row in rows],
            file_size=[row.size for row in rows],
        )

    def _read(self, path: Any) -> Any:
        return load_file(path, legacy=True, trust_pickles=self.trust_pickles)


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
        """Load datasets of a session by their types, downloading those that are not here.

        Parameters
        ----------
        eid : whatever `to_eid` takes, or a list of it
            Of the session; may be given as ``id``.
        dataset_types : str or list of str, optional
            None: all in a folder ``alf``, none of ``raw_ephys_data``. ``"__all__"``: all there are. Either way the
            result is a `SessionDataInfo`.
        dclass_output : bool, default: False
            Return a `SessionDataInfo`.
        dry_run : bool, default: False
            Download and load nothing.
        cache_dir : path, optional
            Instead of the usual one, for this call.
        download_only : bool, default: False
            Load nothing: the paths are returned.
        clobber : bool, default: False
            Download again what is here.
        offline : bool, default: False
            Download nothing.
        keep_uuid : bool, default: False
            Leave the dataset's UUID in the file names; paths are texts then.

        Returns
        -------
        list, SessionDataInfo, or list of lists
            An item per dataset, the types in the order they are asked for, datasets of one type by collection,
            revision and name; None for a type the session lacks; the path where there is nothing to load. For
            several sessions a list for each, or its first item if one type is asked for.

        Raises
        ------
        ALFObjectNotFound
            There is no such session.
        FileNotFoundError
            Offline, and a file is not here.
        DownloadError
            A file can't be downloaded, or arrived damaged.
        """
        types = [dataset_types] if isinstance(dataset_types, str) else list(dataset_types or ())
        as_info = dclass_output or not types or types == ["__all__"]
        options = {"cache_dir": cache_dir, "clobber": clobber, "keep_uuid": keep_uuid, "dry_run": dry_run}
        options |= {"offline": offline or self._is_offline, "download_only": download_only}
        found = [self._load(one, types, **options) for one in ([eid] if isinstance(eid, str) else eid)]
        if as_info:
            joined = SessionDataInfo()
            for one in found:
                joined.append(one)
            return joined
        listed = [_in_order(one, types) for one in found]
        if isinstance(eid, str):
            return listed[0]
        return [one[0] for one in listed] if len(types) == 1 else listed

    @parse_id
    def load_dataset(self, eid, dataset, collection=None, download_only=False):
        """Load one dataset by its file name.

        Parameters
        ----------
        eid : whatever `to_eid` takes
        dataset : str
            File name; ``object.attribute``, with or without its namespace; a path below the session; ``*`` and ``?``
            stand for anything. What nothing fits is looked for anywhere in the names.
        collection : str, optional
            Folders between the session and the file; None and "" for any.
        download_only : bool, default: False
            Return the path.

        Raises
        ------
        ALFObjectNotFound, ALFMultipleCollectionsFound, ALFMultipleObjectsFound
        ValueError
            No name.
        TypeError
            Several sessions.
        """
        _one_session(eid)
        row = self._core.choose_dataset(self._rows(eid), dataset, collection or None, substring=True)
        path: Any = self._core.fetch([row])[0]
        if path is None and not download_only and (found := contents_of([row])):
            return found[row.id]
        _require([row], [path])
        return path if download_only else self._read(path)

    @parse_id
    def load_object(self, eid, obj, collection="alf", download_only=False, **kwargs):
        """Load the attributes of an object.

        Parameters
        ----------
        eid : whatever `to_eid` takes
        obj : str
            Name of the object, ``*`` for anything.
        collection : str, default: "alf"
            Folders between the session and the files; None, "" and "all" for any.
        download_only : bool, default: False
            Return the paths.
        **kwargs : str, list of str or None
            Parts the names must have: namespace, attribute, timescale, extra, extension; None for absent. With
            ``short_keys=True`` the keys are without extra parts.

        Returns
        -------
        AlfBunch, or list of Path

        Raises
        ------
        ALFObjectNotFound, ALFMultipleObjectsFound, ALFMultipleCollectionsFound
        TypeError
            Several sessions, or a part that ALF names don't have.
        """
        _one_session(eid)
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
        contents = {} if download_only else contents_of(chosen)
        paths = [path for _, path in self._core.fetch_present([row for row in chosen if row.id not in contents])]
        if not paths and not contents:
            raise ALFObjectNotFound(f"No file of object {obj!r} of session {eid} is here or on a server.")
        if download_only:
            return paths
        return load_object(
            paths,
            short_keys=short_keys,
            legacy=True,
            trust_pickles=self.trust_pickles,
            contents={row.name: contents[row.id] for row in chosen if row.id in contents},
        )

    def list(self, eid=None, details=False, *, id=None):
        """Return the datasets of a session, or the types of all datasets.

        Parameters
        ----------
        eid, id : whatever `to_eid` takes, optional
            The session; without, the names of all dataset types are returned.
        details : bool, default: False
            Return what Alyx knows of each dataset, as dictionaries.

        Returns
        -------
        list of str, Path or dict
            Paths are collection and name, without revisions; datasets without a copy are left out.

        Raises
        ------
        ValueError
            The session is not known by its path, or it is no experiment id.
        """
        if eid is None and id is None:
            return sorted(record["name"] for record in self.alyx.rest("dataset-types", "list"))
        return self._list(*(() if eid is None else (eid,)), details=details, **({} if id is None else {"id": id}))

    @parse_id
    def _list(self, eid, details):
        _one_session(eid)
        rows = self._loadable(eid)
        if not rows and not self._core.sessions([eid]):
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
            Return what is known of each session, too.
        limit : int, optional
            Return so many at most.
        **kwargs
            See `search_terms`. Subjects and labs are whole names, protocols, projects and locations any part of them,
            in any case; a list means any of its items, for users and dataset types all of them.

        Returns
        -------
        list of str, or list of str and list of dict
            None, with an error in the log, for a word that is no search term.

        Raises
        ------
        ValueError
            A value that can't be understood.
        """
        try:
            wanted = searching.legacy(self._core.tables, kwargs)
        except KeyError as error:
            valid = ", ".join(self.search_terms())
            log.error('"%s" is not a valid search keyword. Valid are: %s', error.args[0], valid)
            return None
        if not details:
            return self._core.tables.eids(wanted, limit)
        rows = self._core.tables.sessions(wanted, limit)
        return [row.eid for row in rows], [self._details(row) for row in rows]

    def _details(self, row: SessionRow, as_text: bool = True) -> dict[str, Any]:
        """Return the short form of a session, with the keys of every ONE."""
        folder = row.folder
        path = None if folder is None else Path(self._core.cache_dir, folder)
        return {
            **row.details(),
            "project": ",".join(row.projects),
            "projects": list(row.projects),
            "url": f"{self.alyx.base_url}/sessions/{row.eid}",
            "local_path": str(path) if as_text and path is not None else path,
        }

    def get_details(self, eid, full=False):
        """Return what is known of a session.

        Parameters
        ----------
        eid : str or UUID, or list or tuple of these
        full : bool, default: False
            Return all that Alyx would show of it.

        Returns
        -------
        dict, list of dict, or None
            None, with a printed line, for what is no UUID.

        Raises
        ------
        ALFObjectNotFound
            There is no such session.
        """
        if isinstance(eid, (list, tuple)):
            return [self.get_details(one, full=full) for one in eid]
        text = self._eid_or_none(eid)
        if text is None:
            return None
        row = self._core.session(text)
        return self.alyx.rest("sessions", "read", id=text) if full else self._details(row, as_text=False)

    @parse_id
    def datasets_from_type(self, eid, dataset_type, full=False):
        """Return the file names of a session's datasets of a type, or of several; registered ones without a copy, too.

        Parameters
        ----------
        eid : whatever `to_eid` takes
        dataset_type : str or list of str
        full : bool, default: False
            Return Alyx's records.
        """
        _one_session(eid)
        types = [dataset_type] if isinstance(dataset_type, str) else list(dataset_type)
        self._core.session(eid)
        rows = [row for row in self._core.datasets(eid) if row.type in types]
        return self._records(rows) if full else [row.name for row in rows]

    def url_from_path(self, filepath):
        """Return the address of a dataset's file.

        Parameters
        ----------
        filepath : str or Path
            Of the file, which need not be here.

        Raises
        ------
        ALFObjectNotFound
            No dataset of a known session has this path, or it has no copy on a server.
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
        """Print what is in datasets of a type, or of several; without, return all types as dictionaries."""
        if dataset_type is None:
            return self.alyx.rest("dataset-types", "list")
        if isinstance(dataset_type, str):
            dataset_type = [dataset_type]
        if not isinstance(dataset_type, (list, tuple)) or not all(isinstance(one, str) for one in dataset_type):
            print("No dataset_type provided or wrong type. Should be str")
            return None
        for one in dataset_type:
            print(self.alyx.rest("dataset-types", "read", id=one)["description"])
        return None

    # downloads

    def download_datasets(self, dsets, **kwargs):
        """Download datasets, in parallel.

        Parameters
        ----------
        dsets : iterable of dict, str or UUID
            Records of datasets, addresses or dataset ids.
        **kwargs
            See `download_dataset`.

        Returns
        -------
        list of Path or None
            In the order of `dsets`; None without a copy on a server.
        """
        return self._download(list(dsets), **kwargs)

    def download_dataset(self, dset, cache_dir=None, **kwargs):
        """Download a dataset.

        Parameters
        ----------
        dset : dict, str or UUID
            Record of a dataset, address or dataset id.
        cache_dir : path, optional
            Instead of the usual one, for this call.
        **kwargs
            clobber, offline, keep_uuid, and file_size and hash to check instead of the registered ones.

        Returns
        -------
        Path or None
            A text with keep_uuid; None without a copy on a server.

        Raises
        ------
        ValueError
            There is no such dataset.
        DownloadError
            It can't be fetched.
        """
        return self._download([dset], cache_dir=cache_dir, **kwargs)[0]

    def _download(self, dsets, cache_dir=None, file_size=None, hash=None, keep_uuid=False, **options):
        ids = [_id_of(one) for one in dsets]
        rows = self._core.tables.datasets_with([one for one in ids if one])
        items = []
        for one, id in zip(dsets, ids, strict=True):
            if id not in rows:
                items.append(None)
                continue
            given = one if isinstance(one, Mapping) else {}
            (item,) = self._core.wanted([rows[id]])
            size, digest = file_size or given.get("file_size"), hash or given.get("hash")
            items.append(Wanted(item.dataset_id, item.path, size or item.size, digest or item.hash, item.copies))
        known = [item for item in items if item is not None]
        paths = iter(self._core.files.get(known, cache_dir=cache_dir, keep_uuid=keep_uuid, **options))
        found = [self._by_address(one) if item is None else next(paths) for item, one in zip(items, dsets, strict=True)]
        for one, path in zip(dsets, found, strict=True):
            if path is None:
                log.warning("%s has no copy on a server", one["name"] if isinstance(one, Mapping) else one)
        return [str(path) if keep_uuid and path is not None else path for path in found]

    def _by_address(self, url: Any) -> Path:
        """Download a file of a session from an address of no known dataset."""
        place = path_of_url(url) if isinstance(url, str) and "://" in url else None
        if place is None:
            raise ValueError(
                f"{url!r} is no known dataset: give its record, its id, or the address of a session's file."
            )
        target = Folder(Path(self._core.cache_dir)).path(place)
        if not target.is_file():
            self._core.files.fetch(url.replace("#", "%23"), target)
        return target

    def download_raw_partial(self, url_cbin, url_ch, first_chunk=0, last_chunk=0):
        """Download some chunks of a compressed recording and open them.

        Parameters
        ----------
        url_cbin, url_ch : str
            Addresses of the ``.cbin`` and of its ``.ch``, which may be a Path.
        first_chunk, last_chunk : int, default: 0
            Counted from 0, both included.

        Returns
        -------
        spikeglx.Reader
        """
        return download_raw_partial(self._core.files, url_cbin, url_ch, first_chunk, last_chunk)

    # words

    @staticmethod
    def search_terms():
        """Return the words that `search` takes, sorted."""
        return sorted(searching.LEGACY_TERMS)

    @staticmethod
    def keywords():
        """Return the words that the first ONE's list took, sorted."""
        return sorted(KEYWORDS)

    @staticmethod
    def setup():
        """Ask for the cache folder and the login of the data server, and write them into labweave.toml.

        Without a terminal nothing is asked and nothing written.
        """
        ask_settings(sys.stdin.isatty())


class OneOffline(_Front):
    """ONE that asks no file server: only files that are here are loaded."""


class OneAlyx(_Front):
    """ONE that downloads files that are not here."""

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
    """Return what was loaded, type by type; None for a type that is missing, the path for what can't be loaded."""
    items: list[Any] = []
    for name in types:
        of_type = [n for n, one in enumerate(found.dataset_type) if one == name]
        if not of_type:
            log.warning("there is no dataset of type %s in the session", name)
            items.append(None)
        items += [found.local_path[n] if found.data[n] is None else found.data[n] for n in of_type]
    return items


def _one_session(eid: Any) -> None:
    if not isinstance(eid, str):
        raise TypeError(f"One session is expected, not {len(eid)}: ask for one after the other.")


def _is_processed(row: DatasetRow) -> bool:
    folders = PurePosixPath(row.collection).parts
    return "alf" in folders and "raw_ephys_data" not in folders


def _require(rows: Sequence[DatasetRow], paths: Sequence[Any], contents: Mapping[str, Any] = {}) -> None:
    """Raise if a file is not here, and can't be had."""
    missing = [row.path for row, path in zip(rows, paths, strict=True) if path is None and row.id not in contents]
    if missing:
        raise FileGone(
            f"{len(missing)} of {len(rows)} files are not here, nor on a server that may be asked: {missing[0]}. "
            "Load them with ONE() instead of offline, or look for the disk they are on."
        )


class FileGone(ALFObjectNotFound, FileNotFoundError):
    """A dataset whose file is not here; a FileNotFoundError as well, which the seed raises here."""

    explanation = ""


def _id_of(dset: Any) -> str | None:
    """Return the dataset id in a record, address or id."""
    if isinstance(dset, Mapping):
        dset = dset.get("id") or dset.get("url") or dset.get("data_url") or ""
    text = str(dset).rstrip("/")
    if is_uuid_text(text[-36:]):
        return text[-36:].lower()
    name = PurePosixPath(urlsplit(text, allow_fragments=False).path).stem
    return name[-36:].lower() if is_uuid_text(name[-36:]) else None

"""The names of ONE-api 3 over the lab's tables: `One`, and the factory `ONE` (also ``labweave.ONE``).

Arguments and results are those of ONE-api; eids, dataset ids and pids are `uuid.UUID`. Every answer is that of the
database when it is asked for, so there are no cache tables to load, refresh or save.
"""

from __future__ import annotations

import datetime as dt
import warnings
from pathlib import Path
from typing import Any
from uuid import UUID

from labweave.one.api.ids import Ids
from labweave.one.api.lists import Lists
from labweave.one.api.loads import Loads
from labweave.one.api.types import Types
from labweave.version import __version__

__all__ = ["ONE", "One"]


class One(Lists, Loads, Ids, Types):
    """Search, list and load the lab's sessions with the methods of ONE-api 3.

    Parameters
    ----------
    cache_dir : path, optional
        Where files are looked for, and downloaded to; the one of the settings without.
    mode : {"local", "remote"}
        In local mode nothing is downloaded.
    wildcards : bool, default: True
        Names are shell patterns, else regular expressions.
    tables_dir : path, optional
        Where `save_cache` writes; the cache folder without.
    silent : bool, default: False
        Show no progress of downloads.
    trust_pickles : bool, default: False
        Load arrays of Python objects, which are pickles and can run any code: for a lab whose files are its own only.

    Raises
    ------
    ALFObjectNotFound
        By its methods: a session, dataset or file that is not there.
    ValueError
        By its methods: an id, a search term or a value that can't be understood.

    Attributes
    ----------
    mode, wildcards, trust_pickles
        As above; they may be set at any time.
    uuid_filenames : bool
        Downloaded files keep the dataset's UUID in their names.
    record_loaded : bool
        Remember which datasets are loaded, for `save_loaded_ids`.

    Examples
    --------
    >>> one = labweave.ONE(mode="local", silent=True)
    >>> eid = one.search(subject="KS005", datasets="spikes.times.npy")[0]
    >>> one.load_object(eid, "wheel").keys()
    dict_keys(['position', 'timestamps'])
    """

    def load_cache(self, tables_dir: Any = None, clobber: bool = True, tag: str | None = None) -> dt.datetime:
        """Do nothing and return the time: every answer comes from the database anyway. A tag is a ValueError."""
        if tag:
            raise ValueError(f"Answers can't be narrowed to the tag {tag!r}; use search(tag={tag!r}).")
        return dt.datetime.now()

    def save_cache(self, save_dir: Any = None, clobber: bool = False) -> None:
        """Write ONE-api's cache tables of the whole database into a folder; see `labweave.one.export`.

        Without a folder it is ``tables_dir`` or the cache folder. `clobber` has no effect: the whole is always written.
        """
        from labweave.one.export import export_tables

        export_tables(Path(save_dir or self._tables_dir or self.cache_dir))

    def save_loaded_ids(self, sessions_only: bool = False, clear_list: bool = True) -> tuple[list[UUID], Path | None]:
        """Write the ids of the datasets loaded while `record_loaded` was set, or of their sessions, into a file.

        Return the ids and the file, which is None when nothing was loaded.
        """
        if not self._loaded:
            warnings.warn("No datasets were loaded; is record_loaded set?", UserWarning, stacklevel=2)
            return [], None
        name = "session_uuid" if sessions_only else "dataset_uuid"
        given = self._loaded.values() if sessions_only else self._loaded
        ids = sorted({each for each in given if each is not None})
        stamp = dt.datetime.now().strftime("%Y-%m-%dT%H-%M-%S")
        path = Path(self._tables_dir or self.cache_dir) / f"{stamp}_loaded_{name}s.csv"
        path.write_text("\n".join([name, *map(str, ids)]) + "\n", encoding="utf-8")
        if clear_list:
            self._loaded = {}
        return ids, path

    @staticmethod
    def setup(cache_dir: Any = None, silent: bool = False, **options: Any) -> One:
        """Return an instance for a folder. It asks nothing: settings are in labweave.toml and the environment."""
        return One(cache_dir, **options, silent=silent)


# --- the factory


class _Factory:
    """``ONE(...)``: an instance of `One`, the same one again for the same arguments."""

    version = __version__

    def __init__(self) -> None:
        self._made: tuple[Any, One] | None = None

    def __call__(self, *, mode: str = "remote", wildcards: bool = True, **options: Any) -> One:
        """Return an instance of `One`, with its arguments.

        ``base_url``, ``username``, ``password``, ``token`` and ``cache_rest`` are accepted as in ONE-api and have no
        effect: the database is that of the settings.
        """
        for name in ("base_url", "username", "password", "token", "cache_rest"):
            options.pop(name, None)
        from labweave.database import _open

        key = (mode, wildcards, tuple(sorted((name, str(value)) for name, value in options.items())), id(_open))
        made = self._made  # another thread may change it
        if made is None or made[0] != key or _open is None:
            made = self._made = key, One(mode=mode, wildcards=wildcards, **options)
        return made[1]

    def cache_clear(self) -> None:
        """Forget the instance that was made last."""
        self._made = None

    def setup(self, *args: Any, **options: Any) -> One:
        """Return an instance, as `One.setup` does."""
        self.cache_clear()
        return One.setup(*args, **options)


ONE = _Factory()

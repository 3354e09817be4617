"""Which files belong to one session: those of a folder that begin with the same six digits."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from labweave.formats.stytra.logs import SUFFIXES

METADATA = "metadata.json"
_SUFFIX = "|".join(re.escape(suffix) for suffix in SUFFIXES)
_LOG = re.compile(
    rf"(?P<prefix>\d{{6}})_(?P<name>(?:behavior|estimator|stimulus)_log|video_times)(?P<before>_before_\d+)?(?P<suffix>{_SUFFIX})"
)
_ANY = re.compile(r"(\d{6})_.+")
_FISH_FOLDER = re.compile(r"(?P<day>\d{6})_f(?P<animal>.+)")


@dataclass
class SessionFiles:
    """The files of one session.

    Attributes
    ----------
    folder : str
        Posix path below the root; empty for the root itself.
    prefix : str
        Six digits that its files begin with.
    metadata : str
        File name; empty without one.
    logs : dict
        Log (behavior, estimator, stimulus, video_times; ``behavior_before_1`` and so on) -> file names, the one to
        read first.
    others : list of str
        Names of its other files: images, videos.
    """

    folder: str
    prefix: str
    metadata: str = ""
    logs: dict[str, list[str]] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)

    @property
    def path(self) -> str:
        """Folder and prefix, which name the session below the root."""
        return f"{self.folder}/{self.prefix}".lstrip("/")

    @property
    def names(self) -> list[str]:
        """Names of metadata and logs: the files that say what the session is."""
        return [name for name in (self.metadata, *(name for names in self.logs.values() for name in names)) if name]

    def below_root(self, name: str) -> str:
        """Return the path of one of its files."""
        return f"{self.folder}/{name}".lstrip("/")


def find_sessions(
    root: str | Path,
    on_error: Callable[[OSError], object] | None = None,
    follows: Callable[[str], bool] = os.path.isfile,
) -> Iterator[SessionFiles]:
    """Yield the sessions at or below a folder, by path; hidden folders and links to folders are left out.

    Parameters
    ----------
    root : path or str
    on_error : callable, optional
        Called with the error of a folder that can't be read, which is left out.
    follows : callable, optional
        Called with the path of each link that is no other file; says whether it is read as the file that it leads to.

    Examples
    --------
    >>> from pathlib import Path
    >>> from labweave.formats.stytra import find_sessions
    >>> folder = Path("data/okr/240305_f1")
    >>> folder.mkdir(parents=True)
    >>> for name in ("metadata.json", "behavior_log.csv", "img.png"):
    ...     (folder / f"140709_{name}").touch()
    >>> [session] = find_sessions("data")
    >>> session.path, session.metadata, session.logs, session.others
    ('okr/240305_f1/140709', '140709_metadata.json', {'behavior': ['140709_behavior_log.csv']}, ['140709_img.png'])
    """
    root = Path(root)
    for folder, folders, names in os.walk(root, onerror=on_error):
        links = {name for name in (*folders, *names) if os.path.islink(f"{folder}/{name}")}  # noqa: PTH114
        left_out = {name for name in links if _is_told(folder, name) and not follows(f"{folder}/{name}")}
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in left_out)
        relative = Path(folder).relative_to(root).as_posix()
        yield from _sessions_of("" if relative == "." else relative, sorted(set(names) - left_out))


def _is_told(folder: str, name: str) -> bool:
    """Say whether a link stands for a folder, for metadata or a log, or for nobody knows what."""
    is_read = _LOG.fullmatch(name) or name[6:] == f"_{METADATA}"
    return not name.startswith(".") and bool(is_read or not os.path.isfile(f"{folder}/{name}"))  # noqa: PTH113


def _sessions_of(folder: str, names: list[str]) -> Iterator[SessionFiles]:
    found: dict[str, SessionFiles] = {}
    for name in names:
        match = _ANY.fullmatch(name)
        if match is None:
            continue
        session = found.setdefault(match[1], SessionFiles(folder, match[1]))
        if name == f"{match[1]}_{METADATA}":
            session.metadata = name
        elif log := _LOG.fullmatch(name):
            key = log["name"].removesuffix("_log") + (log["before"] or "")
            session.logs.setdefault(key, []).append(name)
        else:
            session.others.append(name)
    for session in found.values():
        if session.metadata or session.logs:
            for files in session.logs.values():
                files.sort(key=lambda name: SUFFIXES.index(name[name.rindex(".") :]))
            yield session


def fish_of_folder(name: str) -> tuple[str, str] | None:
    """Return day (yymmdd) and animal id of a folder that is named like ``240305_f1``; None of another."""
    match = _FISH_FOLDER.fullmatch(name)
    return (match["day"], match["animal"]) if match else None

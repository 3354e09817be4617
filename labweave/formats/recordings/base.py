"""What the reader of a format must say: a class, whose object is one file of recordings.

To add a format, write a subclass of `RecordingFile` in a file of its own and give it a line in
`labweave.formats.recordings.READERS`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

from labweave.errors import SourceError
from labweave.formats.recordings.files import pick_sweeps


@dataclass(frozen=True)
class ListedSweep:
    """What a file says of one of its sweeps, besides the samples; None where it says nothing."""

    name: str | None  # by which ``file_metadata["sweep"]`` picks it; None where a file holds one sweep
    protocol: str | None = None
    cell: str | None = None
    repetition: int | None = None


class RecordingFile:
    """One file of recordings; each subclass reads one format.

    A format must give `reader`, `suffixes`, `list_sweeps` and `read_sweeps`. It opens the file in `opened`, and may
    replace `read_facts`, `pick`, `roles`, `holds_recordings` and `recordings_among`.

    Parameters
    ----------
    file_metadata : dict
        ``filepath``, or ``v_file`` and ``i_file``, as str or Path, and whatever a person says of the file,
        which wins over what the file says. It is not changed.

    Attributes
    ----------
    path : Path
    metadata : dict
    reader : str
        Name of the format, as people write it.
    suffixes : tuple of str
        In lower case.
    cell_from : "file", "folder" or "mapping"
        Where ingestion finds the cell: in each file (named in it, else the file's name), in the name of the
        folder, or only in a mapping that a person writes.

    Raises
    ------
    SourceError
        The metadata has no path.
    """

    reader: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    cell_from: ClassVar[Literal["file", "folder", "mapping"]] = "file"

    def __init__(self, file_metadata: Mapping[str, Any]):
        self.path = recording_path(file_metadata)
        self.metadata = dict(file_metadata)

    def __repr__(self):
        return f"<{type(self).__name__} {self.path.name}>"

    @property
    def sweeps(self) -> list[ListedSweep]:
        """The sweeps that the metadata asks for, without their samples."""
        return self._contents[0]

    @property
    def facts(self) -> dict[str, Any]:
        """What the file says of subject, session and cell: ``subject``, ``session_date`` (ISO), ..."""
        return self._contents[1]

    def read(self) -> list[dict]:
        """Read the samples of `sweeps`: a dict each, see `labweave.formats.recordings`."""
        with self.opened() as handle:
            return list(self.read_sweeps(handle, self.pick(handle, self.list_sweeps(handle))))

    @cached_property
    def _contents(self) -> tuple[list[ListedSweep], dict[str, Any]]:
        with self.opened() as handle:
            return self.pick(handle, self.list_sweeps(handle)), self.read_facts(handle)

    @contextmanager
    def opened(self) -> Iterator[Any]:
        """Open the file for the methods below, which get what this yields as ``handle``."""
        yield None

    def list_sweeps(self, handle) -> list[ListedSweep]:
        """List all sweeps in the file; ReadError for metadata that lacks what reading them needs."""
        raise NotImplementedError

    def read_sweeps(self, handle, sweeps: list[Any]) -> Iterable[dict]:
        """Read the samples of some of the listed sweeps, in this order."""
        raise NotImplementedError

    def read_facts(self, handle) -> dict[str, Any]:
        """Say what the file knows of subject, session and cell."""
        return {}

    def pick(self, handle, sweeps: list[Any]) -> list[Any]:
        """Choose the sweeps that the metadata asks for: those that ``sweep`` names, else all."""
        by_name = {sweep.name: sweep for sweep in sweeps}
        return [by_name[name] for name in pick_sweeps(self.path, self.metadata, by_name)]

    @classmethod
    def roles(cls, file_metadata: Mapping[str, Any]) -> tuple[str, ...]:
        """Name the keys of the metadata whose files are read."""
        return ("filepath",) if "filepath" in file_metadata else ("v_file",)

    @classmethod
    def holds_recordings(cls, path: Path) -> bool:
        """Say whether a file of such a suffix is one of this format, where many others have the suffix too."""
        return True

    @classmethod
    def recordings_among(cls, paths: Sequence[Path]) -> tuple[list[dict[str, Any]], dict[Path, SourceError]]:
        """Group the files of a folder: the metadata of each recording, which may need more than one file.

        Returns the files that are in none, too, and why.
        """
        return [{"filepath": path} for path in paths], {}


def recording_path(file_metadata) -> Path:
    """Path of the recording: ``filepath``, else ``v_file``; SourceError when both are missing."""
    path = file_metadata.get("filepath") or file_metadata.get("v_file")
    if not path:
        raise SourceError(
            "A recording's metadata names no file: neither 'filepath' nor 'v_file' is there. "
            "Add the path of the file (and 'i_file' for Igor pairs)."
        )
    return Path(path)

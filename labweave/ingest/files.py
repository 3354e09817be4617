"""Files of a unit: their size and time, and their hashes when somebody asks for them.

A reader looks at a file before it is hashed: 23 GB that are no recording are refused by their first bytes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from labweave.database.connection import LabConnection
from labweave.database.reads import among, in_parts
from labweave.errors import SourceError
from labweave.formats.hashing import NO_HASH
from labweave.ingest.base import Adapter, Unit
from labweave.schemas.ingestion import SourceFile

NOT_READ, NOT_READ_OLDER = "0" * 64, "f" * 64
"""What stands for the hash of the options in ``ingestion.SourceFile`` when a unit must be read again from its files on;
the second one of a unit that was last read whole before labweave kept keys."""


def read_again(connection: LabConnection, source: str, units: Sequence[str], mark: str = NOT_READ) -> None:
    """Mark units as not read: the next look at them reads all of their files."""
    for part in in_parts(units):
        connection.query(
            f"update {SourceFile.full_table_name} set options_sha256 = %s where source = %s and {among('unit', part)}",
            (mark, source, *part),
        )


class Files(Mapping[str, str]):
    """The files of a unit, as a mapping of path -> sha256; a file is hashed when its hash is asked for.

    Parameters
    ----------
    adapter : Adapter
        Hashes files.
    unit : Unit
    known : mapping
        Path -> what an earlier run has recorded of it. A file with the size and time of then is not read.

    Attributes
    ----------
    facts : dict
        Path -> its ``size``, ``mtime_ns``, and ``sha256``, which is None for a file that has not been hashed yet.

    Raises
    ------
    SourceError
        One of them can't be looked at.
    """

    def __init__(self, adapter: Adapter, unit: Unit, known: Mapping[str, Mapping[str, Any]]):
        self._adapter = adapter
        self._hashed: list[str] = []
        self.facts: dict[str, dict[str, Any]] = {}
        for path in unit.files:
            facts = self._look(path)
            before = known.get(path)
            sha256 = None
            if before is not None and all(before[name] == facts[name] for name in facts):
                is_read = before["sha256"] != NO_HASH and before["options_sha256"] != NOT_READ
                sha256 = before["sha256"] if is_read else None
            self.facts[path] = {**facts, "sha256": sha256}

    def _look(self, path: str) -> dict[str, int]:
        full = f"{self._adapter.root}/{path}"  # as text: joining paths takes longer than looking at the file
        try:
            stat = os.stat(full)  # noqa: PTH116
        except OSError as error:
            raise SourceError(f"{full}: {error.strerror or error}. Is the path right, and the file readable?") from None
        return {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns}

    def are_younger(self, seconds: float) -> bool:
        """Say whether one of them was written in the last so many seconds; a time in the future is a wrong clock's."""
        now = time.time()
        return any(0 <= now - file["mtime_ns"] / 1e9 < seconds for file in self.facts.values())

    def __getitem__(self, path: str) -> str:
        file = self.facts[path]
        if file["sha256"] is None:
            file["sha256"] = self._adapter.hash_file(Path(self._adapter.root, path))
            self._hashed.append(path)
        return file["sha256"]

    def __contains__(self, path: object) -> bool:
        return path in self.facts

    def __iter__(self) -> Iterator[str]:
        return iter(self.facts)

    def __len__(self) -> int:
        return len(self.facts)

    def read(self, paths: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Return the facts of files that were read, all with a hash.

        One that changed meanwhile gets `NO_HASH`: nobody knows what was read, so that the next run reads it again.
        """
        facts = {path: {**self.facts[path], "sha256": self[path]} for path in paths}
        for path in facts.keys() & set(self._hashed):
            if any(self.facts[path][name] != value for name, value in self._look(path).items()):
                facts[path]["sha256"] = NO_HASH
        return facts

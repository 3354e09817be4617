"""The metadata file of a session: plain JSON, with what it can't say for certain told apart."""

from __future__ import annotations

import datetime as dt
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labweave.errors import ReadError

MAX_BYTES = 64 * 2**20
MAX_DEPTH = 64


@dataclass
class Metadata:
    """What a metadata file says.

    Attributes
    ----------
    content : dict
        All of it, NaN and infinities as None.
    not_finite : dict
        Path, with ``/`` -> ``nan``, ``inf`` or ``-inf``.
    """

    content: dict[str, Any]
    not_finite: dict[str, str] = field(default_factory=dict)

    @property
    def start(self) -> dt.datetime | None:
        """Start of the protocol, by the clock of the rig."""
        return _moment(self._general("t_protocol_start"))

    @property
    def end(self) -> dt.datetime | None:
        """End of the protocol; None when it has none."""
        return _moment(self._general("t_protocol_end"))

    @property
    def fish_id(self) -> str:
        """Day and animal, as ``240305_f1``."""
        return _text(self._general("fish_id"))

    @property
    def animal(self) -> dict[str, Any]:
        """What was entered of the animal."""
        return _mapping(self._general("animal"))

    @property
    def basic(self) -> dict[str, Any]:
        """What was entered of experimenter and setup."""
        return _mapping(self._general("basic"))

    @property
    def protocol(self) -> str:
        """Name of the protocol; empty without one."""
        return next(iter(_mapping(self._stimulus("protocol"))), "")

    @property
    def protocol_version(self) -> str:
        """Version of the protocol, where an old Stytra nests one."""
        inner = _mapping(_mapping(self._stimulus("protocol")).get(self.protocol))
        return next(iter(inner)) if len(inner) == 1 and isinstance(next(iter(inner.values())), dict) else ""

    @property
    def parameters(self) -> dict[str, Any]:
        """Parameters of the protocol."""
        inner = _mapping(_mapping(self._stimulus("protocol")).get(self.protocol))
        return inner[self.protocol_version] if self.protocol_version else inner

    @property
    def stimuli(self) -> list[dict[str, Any]]:
        """One per stimulus that was shown, in order; empty for one that never ran."""
        log = self._stimulus("log")
        return [_mapping(stimulus) for stimulus in log] if isinstance(log, list) else []

    @property
    def program(self) -> dict[str, Any]:
        """Version, git hash, script and packages of the program; 0, which stands for none, is None."""
        program = _mapping(self._general("program_version"))
        facts = {name: program.get(name) or None for name in ("version", "git_hash", "dependencies")}
        script = program.get("name")
        return {**facts, "script": base_name(script) if isinstance(script, str) else None}

    @property
    def log_format(self) -> str:
        """Format that the logs were to be saved in; empty when it does not say."""
        arguments = _mapping(_mapping(self._general("program_version")).get("arguments"))
        return _text(arguments.get("log_format"))

    def declared(self, log_name: str) -> str:
        """Return the file name that it gives of a log, without folders; empty without one."""
        for part in ("stimulus",) if log_name == "stimulus" else ("tracking", "behavior"):
            name = _mapping(self.content.get(part)).get(f"{log_name}_log")
            if isinstance(name, str) and name:
                return base_name(name)
        return ""

    def _general(self, name: str) -> Any:
        return _mapping(self.content.get("general")).get(name)

    def _stimulus(self, name: str) -> Any:
        return _mapping(self.content.get("stimulus")).get(name)


def read_metadata(path: str | Path) -> Metadata:
    """Read a metadata file.

    Raises
    ------
    ReadError
        It is cut, no JSON object, or larger or deeper than metadata are.

    Examples
    --------
    >>> import json
    >>> from pathlib import Path
    >>> from labweave.formats.stytra import read_metadata
    >>> content = {"general": {"fish_id": "240305_f1", "t_protocol_start": "2024-03-05T14:07:09"}}
    >>> _ = Path("140709_metadata.json").write_text(json.dumps(content))
    >>> metadata = read_metadata("140709_metadata.json")
    >>> metadata.fish_id, metadata.start
    ('240305_f1', datetime.datetime(2024, 3, 5, 14, 7, 9))
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ReadError(path, f"larger than {MAX_BYTES >> 20} MB, which no metadata are", "Take it away.")
        with path.open(encoding="utf-8") as file:
            content = json.load(file)
        not_finite: dict[str, str] = {}
        content = _clean(content, (), not_finite)
    except FileNotFoundError:
        raise ReadError(path, "the file is gone", "Is its disk mounted?") from None
    except (ValueError, RecursionError, OSError) as error:
        advice = "Correct it; or move it away, and the logs go in without it."
        raise ReadError(path, f"no complete metadata ({error})", advice) from None
    if not isinstance(content, dict):
        raise ReadError(path, "no metadata: not an object", "Take it away.")
    return Metadata(content, not_finite)


def _clean(value: Any, path: tuple[str, ...], not_finite: dict[str, str]) -> Any:
    if len(path) > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, dict):
        return {key: _clean(item, (*path, key), not_finite) for key, item in value.items()}
    if isinstance(value, list):
        return [_clean(item, (*path, str(index)), not_finite) for index, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        not_finite["/".join(path)] = repr(value)
        return None
    if isinstance(value, str):
        return value.replace("\0", "").encode("utf-8", "replace").decode()
    return value


def base_name(name: str) -> str:
    """Return the last part of a path of any system."""
    return name.replace("\\", "/").rstrip("/").rpartition("/")[2]


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return str(value) if isinstance(value, (str, int)) and value != 0 else ""


def _moment(value: Any) -> dt.datetime | None:
    """Return a time, with or without fractions of a second; None of anything else."""
    if not isinstance(value, str):
        return None
    try:
        moment = dt.datetime.fromisoformat(value)
    except ValueError:
        return None
    return moment.astimezone(dt.timezone.utc).replace(tzinfo=None) if moment.tzinfo else moment

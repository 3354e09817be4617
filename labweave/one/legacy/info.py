"""SessionDataInfo: the datasets of a session with what is known of them, as the seed's `load` returns it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import pandas as pd


@dataclass
class SessionDataInfo:
    """Datasets as parallel lists, one item per dataset.

    Attributes
    ----------
    dataset_type, dataset_id : list of str
    local_path : list of Path or None
    eid : list of str
    url : list of str or None
    data : list
        What was loaded, None where nothing was.
    hash : list of str
    file_size : list of int
    """

    dataset_type: list = field(default_factory=list)
    dataset_id: list = field(default_factory=list)
    local_path: list = field(default_factory=list)
    eid: list = field(default_factory=list)
    url: list = field(default_factory=list)
    data: list = field(default_factory=list)
    hash: list = field(default_factory=list)
    file_size: list = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{one.name:<12} : {len(getattr(self, one.name))} items" for one in fields(self)]
        return "\n".join(
            line + (f", first {getattr(self, line.split()[0])[0]!r:.80}" if len(self) else "") for line in lines
        )

    def __len__(self) -> int:
        return len(self.dataset_type)

    def __getitem__(self, index: int | slice) -> SessionDataInfo:
        return SessionDataInfo(**{one.name: getattr(self, one.name)[index] for one in fields(self)})

    def append(self, other: SessionDataInfo) -> None:
        """Add the datasets of another one to this."""
        for one in fields(self):
            more = getattr(other, one.name)
            getattr(self, one.name).extend(more if isinstance(more, list) else [more])

    @staticmethod
    def from_datasets(
        dsets: Iterable[Mapping[str, Any]], dataset_types: Iterable[str] | None = None, eid: str | None = None
    ) -> SessionDataInfo:
        """Choose from the datasets of a session.

        Parameters
        ----------
        dsets : iterable of mapping
            As ``data_dataset_session_related`` of a session.
        dataset_types : iterable of str, optional
            Types to take. Without, all with an address that has a folder ``alf`` and none ``raw_ephys_data``;
            ``["__all__"]`` takes all that have an address.
        eid : str, optional
            Of their session.
        """
        types = list(dataset_types or ())
        if not types:
            chosen = [one for one in dsets if _is_processed(one["data_url"])]
        elif types == ["__all__"]:
            chosen = [one for one in dsets if one["data_url"]]
        else:
            chosen = [one for one in dsets if one["dataset_type"] in types]
        return SessionDataInfo(
            dataset_type=[one["dataset_type"] for one in chosen],
            dataset_id=[one["id"] for one in chosen],
            local_path=[None] * len(chosen),
            eid=[eid] * len(chosen),
            url=[one["data_url"] for one in chosen],
            data=[None] * len(chosen),
            hash=[one["hash"] for one in chosen],
            file_size=[one["file_size"] for one in chosen],
        )

    @staticmethod
    def from_session_details(
        ses_info: Mapping[str, Any] | list[Mapping[str, Any]],
        dataset_types: Iterable[str] | None = None,
        eid: str | None = None,
    ) -> SessionDataInfo:
        """Choose from the datasets of one session's record, or of several."""
        sessions = ses_info if isinstance(ses_info, list) else [ses_info]
        dsets = [one for session in sessions for one in session["data_dataset_session_related"]]
        return SessionDataInfo.from_datasets(dsets, dataset_types, eid)

    @staticmethod
    def from_pandas(df: pd.DataFrame, cache_dir: str | Path) -> SessionDataInfo:
        """Take all rows of a table of datasets, with the columns of the seed's local table.

        Ids are either ``id`` and ``eid``, or 64-bit halves ``id_0, id_1, eid_0, eid_1``.
        """
        if not len(df):
            return SessionDataInfo()
        rows: list[dict[Any, Any]] = df.to_dict("records")
        return SessionDataInfo(
            dataset_type=[row["dataset_type"] for row in rows],
            dataset_id=[_id_of(row, "id") for row in rows],
            local_path=[_path_of(row, Path(cache_dir)) for row in rows],
            eid=[_id_of(row, "eid") for row in rows],
            url=[None] * len(rows),
            data=[None] * len(rows),
            hash=[row["hash"] for row in rows],
            file_size=[row["file_size"] for row in rows],
        )


def _is_processed(url: str | None) -> bool:
    folders = PurePosixPath(urlsplit(url or "", allow_fragments=False).path).parts
    return "alf" in folders and "raw_ephys_data" not in folders


def _path_of(row: Mapping[str, Any], root: Path) -> Path:
    day = row["start_time"].isoformat()[:10]
    return (
        root
        / row["lab"]
        / "Subjects"
        / row["subject"]
        / day
        / f"{int(row['number']):03d}"
        / row["collection"]
        / row["name"]
    )


def _id_of(row: Mapping[str, Any], name: str) -> str:
    """Return a uuid as text; its halves are integers in the byte order of the machines that wrote them."""
    if name in row:
        return str(row[name])
    import uuid

    halves = b"".join(int(row[f"{name}_{half}"]).to_bytes(8, "little", signed=True) for half in (0, 1))
    return str(uuid.UUID(bytes=halves))

"""SessionDataInfo: the datasets of a session and what is known of them, as the seed's `load` returns them."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from labweave.formats.alf.names import session_folder
from labweave.one.files.folders import path_in_url

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
        The contents, None where nothing was loaded.
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
        lists = {each.name: getattr(self, each.name) for each in fields(self)}
        first = {name: f", first {items[0]!r:.80}" if items else "" for name, items in lists.items()}
        return "\n".join(f"{name:<12} : {len(items)} items{first[name]}" for name, items in lists.items())

    def __len__(self) -> int:
        return len(self.dataset_type)

    def __getitem__(self, index: int | slice) -> SessionDataInfo:
        return SessionDataInfo(**{each.name: getattr(self, each.name)[index] for each in fields(self)})

    def append(self, other: SessionDataInfo) -> None:
        """Add the datasets of another one to this."""
        for each in fields(self):
            more = getattr(other, each.name)
            getattr(self, each.name).extend(more if isinstance(more, list) else [more])

    @staticmethod
    def from_records(records: Iterable[Mapping[str, Any]]) -> SessionDataInfo:
        """Return datasets from mappings of the attributes' names; what one lacks is None."""
        rows = list(records)
        return SessionDataInfo(**{each.name: [row.get(each.name) for row in rows] for each in fields(SessionDataInfo)})

    @staticmethod
    def from_datasets(
        dsets: Iterable[Mapping[str, Any]], dataset_types: Iterable[str] | None = None, eid: str | None = None
    ) -> SessionDataInfo:
        """Choose from the datasets of a session, given as ``data_dataset_session_related`` of its record.

        Without types, take all whose address has a folder ``alf`` and no ``raw_ephys_data``; ``["__all__"]`` takes all
        that have an address.
        """
        types = list(dataset_types or ())
        same = ("dataset_type", "hash", "file_size")
        return SessionDataInfo.from_records(
            {"dataset_id": dset["id"], "eid": eid, "url": dset["data_url"], **{name: dset[name] for name in same}}
            for dset in dsets
            if is_meant(types, dset["dataset_type"], path_in_url(dset["data_url"] or "") or None)
        )

    @staticmethod
    def from_session_details(
        ses_info: Mapping[str, Any] | list[Mapping[str, Any]],
        dataset_types: Iterable[str] | None = None,
        eid: str | None = None,
    ) -> SessionDataInfo:
        """Choose from the datasets of one session's record, or of several."""
        sessions = ses_info if isinstance(ses_info, list) else [ses_info]
        dsets = [dset for session in sessions for dset in session["data_dataset_session_related"]]
        return SessionDataInfo.from_datasets(dsets, dataset_types, eid)

    @staticmethod
    def from_pandas(df: pd.DataFrame, cache_dir: str | Path) -> SessionDataInfo:
        """Take all rows of a table of datasets, with the columns of the seed's local table.

        Ids are either ``id`` and ``eid``, or 64-bit halves ``id_0, id_1, eid_0, eid_1``.
        """
        rows: list[dict[Any, Any]] = df.to_dict("records")
        return SessionDataInfo.from_records(
            {**row, "dataset_id": _id_of(row, "id"), "eid": _id_of(row, "eid"), "local_path": _path_of(row, cache_dir)}
            for row in rows
        )


def is_meant(types: Sequence[str], dataset_type: str, path: str | None) -> bool:
    """Say whether a dataset is one to load; without types, those are below a folder ``alf``, not ``raw_ephys_data``."""
    if types and types != ["__all__"]:
        return dataset_type in types
    folders = PurePosixPath(path or "").parts
    return path is not None if types else "alf" in folders and "raw_ephys_data" not in folders


def _path_of(row: Mapping[str, Any], root: str | Path) -> Path:
    folder = session_folder(row["lab"], row["subject"], row["start_time"], int(row["number"]))
    return Path(root, folder, row["collection"], row["name"])


def _id_of(row: Mapping[str, Any], name: str) -> str:
    """Return a UUID as text; its halves are integers in the byte order of the machines that wrote them."""
    if name in row:
        return str(row[name])
    halves = (int(row[f"{name}_{half}"]).to_bytes(8, "little", signed=True) for half in (0, 1))
    return str(uuid.UUID(bytes=b"".join(halves)))

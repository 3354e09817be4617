"""HDF5 files of others: what is read of them lies in the file itself."""

from __future__ import annotations

from typing import Any

import h5py


def dataset_inside(file: h5py.File, path: str) -> h5py.Dataset:
    """Return a dataset; a LookupError when there is none, a ValueError when it, or its data, is elsewhere."""
    place: Any = file
    for part in path.strip("/").split("/"):
        link = place.get(part, getlink=True) if isinstance(place, h5py.Group) else None
        if link is None:
            raise LookupError(f"there is no dataset {path}")
        if not isinstance(link, h5py.HardLink):
            raise ValueError(f"{path} is a link")
        place = place[part]
    if not isinstance(place, h5py.Dataset):
        raise LookupError(f"{path} is no dataset")
    if place.is_virtual or place.external:
        raise ValueError(f"the data of {path} is in other files")
    return place

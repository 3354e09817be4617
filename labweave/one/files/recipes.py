"""The contents of datasets: of their files, and of those that are onedata recipes in the database."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

from labweave.formats.alf.bunch import AlfBunch
from labweave.formats.alf.exceptions import ALFObjectNotFound, ALFWarning
from labweave.formats.alf.load import load_file, load_object
from labweave.one.search.rows import DatasetRow
from labweave.schemas import onedata


def recipes_among(rows: Iterable[DatasetRow]) -> set[str]:
    """Return the ids of those datasets that are recipes in the database and have no file."""
    missing = [row for row in rows if not row.exists and row.eid and row.name.endswith(".npy")]
    if not missing:
        return set()
    from labweave.formats.onedata.names import FOLDERS

    candidates = {(row.eid, row.name): row.id for row in missing if row.collection == FOLDERS[0]}
    if not candidates:
        return set()
    recipes = onedata.recipes_alone() & [{"eid": eid} for eid in {eid for eid, _ in candidates}]
    found = {(row["eid"], f"{row['one_name']}.npy") for row in recipes.proj().to_dicts()}
    return {candidates[place] for place in found & candidates.keys()}


def contents_of(rows: Iterable[DatasetRow], paths: Iterable[Any], **options: Any) -> dict[str, Any]:
    """Return the contents of datasets by id: of their files, and of recipes; `options` are those of `load_file`."""
    pairs = list(zip(rows, paths, strict=True))
    recipes = recipes_among(row for row, path in pairs if path is None)
    return {
        row.id: onedata.load_dataset(row.eid, row.name) if path is None else load_file(path, **options)
        for row, path in pairs
        if path is not None or row.id in recipes
    }


def load_objects(
    rows: Sequence[DatasetRow], paths: Sequence[Any], what: str, *, download_only: bool, **options: Any
) -> Any:
    """Return the objects that datasets make, by name; with `download_only`, the files of the datasets.

    A warning tells of what has neither a file nor is a recipe; if nothing has, that is ALFObjectNotFound. The `options`
    are those of `load_object`.
    """
    files = {row.id: path for row, path in zip(rows, paths, strict=True) if path is not None}
    others = [row for row in rows if row.id not in files]
    contents = {} if download_only else contents_of(others, [None] * len(others))
    if missing := [row.rel_path for row in others if row.id not in contents]:
        warnings.warn(
            f"Left out, as no file is here or can be downloaded: {', '.join(missing)}", ALFWarning, stacklevel=5
        )
    if not files and not contents:
        raise ALFObjectNotFound(f"No file of {what} is here or can be downloaded.")
    if download_only:
        return [*files.values()]
    objects: dict[str, list[DatasetRow]] = {}
    for row in rows:
        if row.id in files or row.id in contents:
            objects.setdefault(row.object, []).append(row)
    return AlfBunch(
        {
            name: load_object(
                [files[row.id] for row in parts if row.id in files],
                contents={row.name: contents[row.id] for row in parts if row.id in contents},
                **options,
            )
            for name, parts in objects.items()
        }
    )

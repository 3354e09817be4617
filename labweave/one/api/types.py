"""Dataset types, revisions and aggregates, with the names of ONE-api."""

from __future__ import annotations

import re
from collections.abc import Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any
from uuid import UUID

from labweave.formats.alf.exceptions import ALFObjectNotFound
from labweave.formats.alf.names import split_rel_path
from labweave.one.api.base import ApiBase
from labweave.one.core import id_argument, uuid_at_end
from labweave.one.search import matching
from labweave.one.search.frames import datasets_frame
from labweave.one.search.matching import Names, Texts
from labweave.one.search.rows import DatasetRow

if TYPE_CHECKING:
    import pandas as pd


class Types(ApiBase):
    """The methods about the types and revisions of datasets, and about datasets of no session."""

    def describe_dataset(self, dataset_type: str | None = None) -> Any:
        """Print what a dataset type is, given its name or a file name, and return its record; all without one."""
        if not dataset_type:
            return self.alyx.rest("dataset-types", "list")
        is_type = any(dataset_type == known for known, _, _ in self._core.tables.dataset_types())
        name = dataset_type if is_type else self.dataset2type(dataset_type)
        record = self.alyx.rest("dataset-types", "read", id=name)
        print(record["description"])
        return record

    def dataset2type(self, dset: Any) -> Any:
        """Return the dataset type of a dataset, given its id, record or file name; of each in a list."""
        if isinstance(dset, (list, tuple)):
            return [self.dataset2type(each) for each in dset]
        if isinstance(dset, Mapping):
            dset = dset.get("id") or str(dset["url"])[-36:]
        elif hasattr(dset, "name") and not isinstance(dset, (str, UUID, PathLike)):
            dset = dset.name[-1] if isinstance(dset.name, tuple) else dset.name
        text = str(dset)
        if len(text) == 36 and (id := uuid_at_end(text)):
            row = self._core.tables.datasets_with([id]).get(id)
            if row is not None and row.type:
                return row.type
            raise ValueError(f"{text}: there is no such dataset, or it has no type.")
        name = text.rpartition("/")[2]
        records = self.alyx.rest("datasets", "list", name=name)
        types = sorted({record["dataset_type"] for record in records if record["dataset_type"]})
        if len(types) == 1:
            return types[0]
        found = f"it has the types {', '.join(types)}" if types else "no dataset of that name has a type"
        raise ValueError(f"{text!r}: {found}.")

    @id_argument
    def type2datasets(self, eid: Any, dataset_type: Any, details: bool = False) -> Any:
        """Return the paths of a session's datasets of a type, or of each in a list; with `details`, a frame."""
        types = matching.as_list(dataset_type)
        rows = [row for row in self._core.datasets(self._eid(eid)) if row.type in types]
        return datasets_frame(rows) if details else sorted(row.rel_path for row in rows)

    def describe_revision(self, revision: str, full: bool = False) -> Any:
        """Print what a revision is; with `full`, return its record. Of an unknown one, say so and return None."""
        known = self._core.tables.revisions()
        if full and revision in known:
            return self.alyx.rest("revisions", "list", name=revision)[0]
        print(known.get(revision, f'revision "{revision}" not found'))
        return None

    def list_aggregates(
        self,
        relation: str,
        identifier: str | None = None,
        dataset: Names = None,
        revision: Texts = None,
        assert_unique: bool = False,
    ) -> pd.DataFrame:
        """Return a frame of datasets that belong to no session but to subjects, projects or tags.

        Parameters
        ----------
        relation : str
            The folder below ``aggregates``, for example ``Subjects``; in any case.
        identifier : str, optional
            Part of what follows it, for example lab/subject.
        dataset, revision
            Patterns, see `list_datasets`.
        assert_unique : bool, default: False
            Several datasets are an error.
        """
        rows = self._aggregates(relation, identifier, dataset, revision)
        if assert_unique and rows:
            matching.only_collection(rows)
            matching.only_one(rows)
        return datasets_frame(rows).assign(relation=relation.casefold(), identifier=[_owner(row) for row in rows])

    def _aggregates(self, relation: str, identifier: Any, dataset: Any, revision: Any) -> list[DatasetRow]:
        found = []
        for row in self._core.tables.aggregates():
            below = re.search(r"(?:^|/)(aggregates/([^/]+)/.*)$", row.rel_path)
            if below is not None and below[2].casefold() == relation.casefold():
                found.append(row._replace(**split_rel_path(below[1])._asdict()))
        if identifier is not None:
            found = [row for row in found if re.search(identifier, _owner(row))]
        return sorted(matching.find(found, dataset, None, revision, wildcards=True), key=lambda row: row.rel_path)

    def load_aggregate(
        self,
        relation: str,
        identifier: str,
        dataset: Names = None,
        revision: Texts = None,
        download_only: bool = False,
    ) -> Any:
        """Load one dataset of a subject, project or tag; see `list_aggregates`."""
        name = matching.with_extension(dataset, self.wildcards)
        rows = self._aggregates(relation, identifier, name, revision)
        if not rows:
            raise ALFObjectNotFound(f"{dataset or 'dataset'} not found for {relation}/{identifier}.")
        matching.only_collection(rows)
        row = matching.only_one(rows)
        return self._load(self._core.tables.datasets_with([row.id])[row.id], download_only, True)


def _owner(row: DatasetRow) -> str:
    """Return whose an aggregate is: its folders below ``aggregates/<relation>``."""
    return "/".join(row.collection.split("/")[2:])

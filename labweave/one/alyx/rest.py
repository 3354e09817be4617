"""``one.alyx``: what clients ask an Alyx server, answered from the tables.

Nothing is sent anywhere. `Client.rest` and `Client.get` take what Alyx's REST interface takes, for reading,
and give records with Alyx's fields. Lists come whole and are real lists; ``limit`` is a true maximum.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

import requests

from labweave.errors import LabweaveError
from labweave.formats.hashing import sha256_and_md5_of_file
from labweave.one.alyx.filters import FILTERS, TOGETHER, by_dataset, filter_names
from labweave.one.alyx.models import MODELS, django
from labweave.one.alyx.records import DETAILS, RECORDS
from labweave.one.files.cache import Files
from labweave.one.files.folders import path_in_url
from labweave.one.search.rows import rank_of_repository
from labweave.secret import reveal
from labweave.settings import load_settings

if TYPE_CHECKING:
    from labweave.one.core import Core

log = logging.getLogger(__name__)

DEFAULT_URL = "https://labweave.invalid"
"""What the addresses of records begin with when no Alyx server is named; it never resolves."""


class NotOnAlyx(LabweaveError, requests.HTTPError):
    """A record that is not there, or an address that is none; as requests raises for status 404."""

    def __init__(self, message: str, status: int = 404):
        response = requests.Response()
        response.status_code = status
        response._content = json.dumps({"detail": message}).encode()
        requests.HTTPError.__init__(self, status, message, response=response)
        self.message = message

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True)
class Parameters:
    """What a client is set up with, by the names of ONE's parameter file; passwords don't show."""

    ALYX_URL: str
    ALYX_LOGIN: str | None
    CACHE_DIR: str
    HTTP_DATA_SERVER: str
    ALYX_PWD: str | None = dataclasses.field(default=None, repr=False)
    HTTP_DATA_SERVER_LOGIN: str | None = None
    HTTP_DATA_SERVER_PWD: str | None = dataclasses.field(default=None, repr=False)

    def as_dict(self) -> dict[str, str | None]:
        """Return the parameters by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def set(self, name: str, value: str | None) -> Parameters:
        """Return the parameters with one changed."""
        return dataclasses.replace(self, **{name: value})


READ_BY = {
    "subjects": ("nickname", "id"),
    "users": ("username", "id"),
    **dict.fromkeys(("labs", "projects", "locations", "data-repository"), ("name",)),
    **dict.fromkeys(("procedures", "revisions", "tags", "dataset-types", "data-formats"), ("name", "id")),
}
"""Endpoint -> the fields that its records are read by, where it is not the id alone."""
WRITES = {"create", "update", "partial_update", "delete"}


def _newest_first(record: dict[str, Any]) -> tuple[Any, ...]:
    return record["start_time"] is None, record["start_time"] or "", record["subject"], record["number"] or -1


def _order(endpoint: str, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return records in the one order their list has."""
    if endpoint == "sessions":
        return sorted(sorted(records, key=lambda record: record["id"]), key=_newest_first, reverse=True)
    if endpoint == "insertions":
        newest = sorted(records, key=lambda record: record["name"])
        return sorted(newest, key=lambda record: (record["session_info"] or {}).get("start_time") or "", reverse=True)
    if endpoint in ("weighings", "water-administrations"):
        return sorted(records, key=lambda record: (record["subject"], record["date_time"] or "", record["url"]))
    name = next((name for name in ("nickname", "name", "username") if records and records[0].get(name)), "")
    if endpoint in ("datasets", "files"):
        name = "url"
    return sorted(
        records,
        key=lambda record: (str(record.get(name) or ""), str(record.get("id") or ""), json.dumps(record, default=str)),
    )


def client_of(core: Core, *, base_url: str | None = None, username: str | None = None) -> Client:
    """Return the client of a front end, with the addresses of the settings or else of the tables."""
    settings = load_settings()
    password = reveal(settings.one.data_password, "one.data_password")
    parameters = Parameters(
        ALYX_URL=(base_url or settings.alyx.url or DEFAULT_URL).rstrip("/"),
        ALYX_LOGIN=username or settings.alyx.user or None,
        CACHE_DIR=str(core.cache_dir),
        HTTP_DATA_SERVER=(settings.one.data_url or data_server()).rstrip("/"),
        HTTP_DATA_SERVER_LOGIN=settings.one.data_user or None,
        HTTP_DATA_SERVER_PWD=password or None,
    )
    return Client(parameters, core.files, silent=core.silent)


def data_server() -> str:
    """Return the address below which the folders of labs lie, by the repositories; empty without one."""
    held = (MODELS["data-repository"].rows() - {"data_url": ""}).to_dicts()
    held.sort(key=lambda row: (rank_of_repository(row["repository_kind"]), row["repository"]))
    return re.sub(r"(/\w+/Subjects)?/*$", "", held[0]["data_url"]) if held else ""


class Client:
    """Alyx's REST interface over the tables, read-only.

    Parameters
    ----------
    parameters : Parameters
        Addresses, folders and logins; no server is asked but the file server, for downloads.
    files : Files
        What downloads.
    silent : bool
        Print nothing.
    """

    def __init__(self, parameters: Parameters, files: Files, *, silent: bool = True):
        self._par, self._files, self.silent = parameters, files, silent
        self.base_url, self.user = parameters.ALYX_URL, parameters.ALYX_LOGIN
        self.is_logged_in, self.cache_mode, self.default_expiry = True, None, None

    def __repr__(self) -> str:
        return f"<labweave's answers for {self.base_url}>"

    @property
    def cache_dir(self) -> Path:
        """Where downloads go."""
        return Path(self._par.CACHE_DIR)

    def authenticate(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: whoever may open the database may ask."""

    def logout(self) -> None:
        """Do nothing: there is no session to leave."""

    def clear_rest_cache(self) -> None:
        """Do nothing: every answer is fresh."""

    def list_endpoints(self) -> list[str]:
        """Return the names of what can be asked for."""
        return sorted(RECORDS)

    def print_endpoint_info(self, endpoint: str, action: str | None = None) -> None:
        """Print the filters of an endpoint."""
        print(f"{endpoint}: list (filters: {', '.join(filter_names(endpoint))}), read")

    def rest(
        self,
        url: str | None = None,
        action: str | None = None,
        id: Any = None,
        data: Any = None,
        files: Any = None,
        no_cache: bool = False,
        **filters: Any,
    ) -> Any:
        """Return the records of an endpoint, or one.

        Parameters
        ----------
        url : str
            Endpoint, for example ``sessions``, also with a query behind a question mark.
        action : {"list", "read"}
        id : str or UUID, optional
            Which record to read: its id, name or address; with ``list``, the one to list.
        no_cache : bool
            Every answer is fresh; taken and ignored.
        **filters
            As Alyx has them for the endpoint, with ``django``, ``limit`` and ``offset``; a list means any of
            its values, for ``users``, ``datasets`` and ``dataset_types`` all of them.

        Returns
        -------
        list of dict, or dict

        Raises
        ------
        ValueError
            No such endpoint, action or filter.
        requests.HTTPError
            With status 404: no such record.
        LabweaveError
            An action that writes.

        Examples
        --------
        >>> one = labweave.ONE(silent=True)
        >>> (newest,) = one.alyx.rest("sessions", "list", limit=1)
        >>> detail = one.alyx.rest("sessions", "read", id=newest["id"])
        >>> detail["subject"] == newest["subject"]
        True
        """
        if not url:
            print("\n".join(self.list_endpoints()))
            return None
        parts = urlsplit(url if "//" in url else url.lstrip("/"))
        endpoint = parts.path.strip("/").split("/")[0]
        if endpoint not in RECORDS:
            raise ValueError(f"There is no endpoint {endpoint!r}. There are: {', '.join(self.list_endpoints())}.")
        action = "list" if parts.query else (action or "").replace("-", "_")
        if not action:
            self.print_endpoint_info(endpoint)
            return None
        if action in WRITES:
            raise LabweaveError(
                f"alyx.rest({endpoint!r}, {action!r}): these answers come from the tables and can't be written to. "
                "Write to the Alyx server itself, and ingest it again."
            )
        if action not in ("list", "read"):
            raise ValueError(f"{action!r} is no action of {endpoint}. There are: list, read.")
        if action == "read":
            if id is None or id == "":
                raise ValueError(f"alyx.rest({endpoint!r}, 'read') needs an id.")
            return self._read(endpoint, str(id))
        filters.pop("expires", None)
        filters = {**dict(parse_qsl(parts.query, keep_blank_values=True)), **filters}
        if id is not None:
            filters["django"] = ",".join(filter(None, [filters.get("django"), f"pk,{id}"]))
        return self._list(endpoint, filters)

    def get(self, rest_query: str, **_: Any) -> Any:
        """Return what is at an address, whole or from its path on: ``/sessions?subject=KS005``, ``/sessions/<eid>``."""
        parts = urlsplit(rest_query)
        endpoint, _slash, name = parts.path.strip("/").partition("/")
        if endpoint not in RECORDS:
            raise NotOnAlyx(f"{rest_query}: there is no {endpoint!r}. There are: {', '.join(self.list_endpoints())}.")
        if name:
            return self._read(endpoint, unquote(name))
        return self._list(endpoint, dict(parse_qsl(parts.query, keep_blank_values=True)))

    def _list(self, endpoint: str, filters: Mapping[str, Any]) -> list[dict[str, Any]]:
        filters = {name: value for name, value in filters.items() if value is not None}
        known = filter_names(endpoint)
        if unknown := [name for name in filters if name not in known]:
            raise ValueError(f"{endpoint} has no filter {', '.join(unknown)}. It has: {', '.join(known)}.")
        query = MODELS[endpoint].rows()
        for name, value in filters.items():
            if name == "django":
                query = django(endpoint, query, value) if value else query
            elif name not in ("limit", "offset", *TOGETHER) and value != "":
                query = FILTERS[endpoint][name](query, value)
        if together := {name: filters[name] for name in TOGETHER if name in filters}:
            query = by_dataset(endpoint, query, together)
        records = _order(endpoint, RECORDS[endpoint](query, self.base_url))
        first = int(filters.get("offset", 0))
        limit = int(filters.get("limit", 0))
        return records[first : first + limit] if limit > 0 else records[first:]

    def _read(self, endpoint: str, name: str) -> dict[str, Any]:
        model, name = MODELS[endpoint], name.rstrip("/").rpartition("/")[2]
        fields = [field for field in READ_BY.get(endpoint, ("id",)) if field in model.columns]
        rows = model.rows()
        if not fields:
            raise ValueError(f"Records of {endpoint} can't be read one by one: list them.")
        keys = [{model.columns[field].attribute: name.lower() if field == "id" else name} for field in fields]
        records = DETAILS.get(endpoint, RECORDS[endpoint])(rows & keys, self.base_url)
        if not records:
            raise NotOnAlyx(f"{endpoint}/{name}: there is no such record in the tables.")
        if len(records) > 1:
            raise NotOnAlyx(f"{endpoint}/{name}: {len(records)} records have this name. Read one by its id.", 500)
        return records[0]

    # files

    def rel_path2url(self, path: str | Path) -> str:
        """Return the address of a file below the root of the file server."""
        return f"{self._par.HTTP_DATA_SERVER}/{str(path).strip('/')}"

    def download_file(
        self,
        url: str | Iterable[str],
        *,
        target_dir: str | Path | None = None,
        clobber: bool = False,
        chunks: tuple[int, int] | None = None,
        return_md5: bool = False,
        silent: bool | None = None,
    ) -> Any:
        """Download files, each into a file of its name, and return its path; of each in a list.

        Parameters
        ----------
        url : str or iterable of str
            Whole addresses, or paths below the root of the file server.
        target_dir : path, optional
            The cache folder without.
        clobber : bool, default: False
            Download again what is there already.
        chunks : tuple of int, optional
            First byte and number of bytes, for a part of the file.
        return_md5 : bool, default: False
            Return the md5 of each, too.
        silent : bool, optional
            Taken for ONE's sake; progress shows on terminals only.
        """
        if not isinstance(url, str):
            options = {"target_dir": target_dir, "clobber": clobber, "chunks": chunks, "return_md5": return_md5}
            return [self.download_file(item, **options) for item in url]
        address = url if "://" in url else self.rel_path2url(url)
        target = Path(target_dir or self.cache_dir, path_in_url(address).rpartition("/")[2])
        if clobber or not target.is_file():
            self._files.fetch(address, target, span=None if chunks is None else (int(chunks[0]), int(chunks[1])))
        return (target, sha256_and_md5_of_file(target)[1]) if return_md5 else target

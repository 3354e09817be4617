"""Sources of bytes: a server (HTTP, HTTPS), or any filesystem that fsspec knows.

A source is opened at a position, so that a broken download can go on. There are three errors: after `Passing` it is
worth trying again, after `CannotContinue` one must begin again, and after `DownloadError` give up.
"""

from __future__ import annotations

import logging
import re
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import fsspec
import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import HTTPBasicAuth

from labweave.errors import ConfigError, PlaceError
from labweave.one.files.folders import scheme_of

log = logging.getLogger(__name__)

CONNECT_SECONDS = 10
READ_SECONDS = 60
"""The longest wait for a byte."""

BLOCK = 1 << 16
"""Small, because a block is lost when the connection breaks in it."""

FILE_BLOCK = 1 << 20

PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Status codes of errors that pass."""


class DownloadError(PlaceError):
    """A file can't be fetched: where, what happened, and what to do about it.

    `where` has no credentials in it. `status` is that of the server's answer; 404 stands for a missing file on other
    filesystems as well. With several files, `results` is what `Files.get` would have returned, None for those that
    failed.
    """

    results: Sequence[Path | None] = ()


class HostUnreachable(DownloadError):
    """Nothing answers at the address; there is no use in asking it for another file."""


class WrongContent(DownloadError):
    """A whole file arrived, but its size or hash is not the registered one. Nothing was replaced.

    `fingerprint` tells whether the server still has the same file.
    """

    fingerprint: tuple[str, int | None] = ("", None)


class Passing(Exception):
    """The connection broke, nothing answered, or the server asks to wait: it is worth trying again."""

    def __init__(self, found: str, wait_s: float = 0.0, unreachable: bool = False):
        self.found, self.wait_s, self.unreachable = found, wait_s, unreachable
        super().__init__(found)


class CannotContinue(Exception):
    """The file is not the one whose beginning is already here."""


@dataclass
class Stream:
    """Bytes of a file as they arrive: from `first` on, of `total` bytes if the source tells that.

    The `mark` stays as long as the file does; it is "" if the source tells none. The server may have packed the bytes
    (`is_encoded`), so that positions mean nothing.
    """

    first: int
    total: int | None
    mark: str
    blocks: Iterator[bytes]
    is_encoded: bool = False


@dataclass(frozen=True, repr=False)
class DataLogin:
    """User and password of one server. They are sent to no other, and never shown.

    Attributes
    ----------
    url : str
        Address of the server, for example ``https://data.example.org``.
    user, password : str
    """

    url: str
    user: str
    password: str

    def __post_init__(self):
        if not urlsplit(self.url).hostname:
            raise ConfigError(
                "There is a login of a data server, but no address of that server. Set LABWEAVE_ONE_DATA_URL, "
                "or [one] data_url in labweave.toml, for example https://data.example.org."
            )

    def __repr__(self) -> str:
        return f"DataLogin({show(self.url)!r})"

    def is_for(self, url: str) -> bool:
        """Return whether an address is of this server: same scheme, host and port."""
        return _origin(url) == _origin(self.url)


class Web(requests.Session):
    """Connections to web servers for a while; none lives on in a process that forks."""

    def __init__(self, login: DataLogin | None = None, n_connections: int = 1):
        super().__init__()
        self.login, self.auth = login, self._sign
        for scheme in ("https://", "http://"):
            self.mount(scheme, HTTPAdapter(pool_connections=n_connections, pool_maxsize=n_connections))

    def _sign(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the login to a request to its own server; requests itself drops it on the way to another."""
        if self.login is None or not self.login.is_for(request.url or ""):
            return request
        return HTTPBasicAuth(self.login.user.encode(), self.login.password.encode())(request)


class HttpSource:
    """A file of a web server, at an address that is percent-encoded."""

    def __init__(self, web: Web, url: str):
        self.url, self.shown, self._web = url, show(url), web

    @contextmanager
    def open(self, first: int, last: int | None, mark: str, size: int) -> Iterator[Stream]:
        """Give a `Stream` of the bytes from `first` to `last`, both included; of a server without ranges, from 0.

        `mark` is that of the bytes that are already here; `size` is the registered one, 0 if it is unknown.
        """
        headers = {"Accept-Encoding": "identity"}
        if first or last is not None:
            headers["Range"] = f"bytes={first}-{'' if last is None else last}"
            if mark:
                headers["If-Range"] = mark
        timeout = CONNECT_SECONDS, READ_SECONDS
        with (
            self._translated(),
            self._web.get(self.url, headers=headers, stream=True, timeout=timeout) as response,
        ):
            yield self._stream(response, first, last, size)

    def _stream(self, response: requests.Response, first: int, last: int | None, size: int) -> Stream:
        self._check_status(response, first, last)
        headers = response.headers
        if "text/html" in headers.get("Content-Type", "") and not urlsplit(self.url).path.endswith((".html", ".htm")):
            raise DownloadError(
                self.shown, "the server sent a web page, not the file", "Is a login needed, or the address wrong?"
            )
        length = int(headers["Content-Length"]) if headers.get("Content-Length", "").isdecimal() else None
        etag = headers.get("ETag", "")
        mark = etag if etag and not etag.startswith("W/") else headers.get("Last-Modified", "")
        # Some servers call a file encoded that is packed itself (x.tar.gz): then the length is the registered one.
        is_encoded = headers.get("Content-Encoding", "identity").lower() != "identity" and not (size and length == size)
        start, total = 0, None if is_encoded else length
        if response.status_code == 206:
            parts = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", "").strip())
            if parts is None or int(parts[1]) != first:
                raise CannotContinue
            start, total = first, None if parts[2] == "*" else int(parts[2])
        blocks = response.raw.stream(BLOCK, decode_content=is_encoded)
        return Stream(start, total, mark, blocks, is_encoded)

    def _check_status(self, response: requests.Response, first: int, last: int | None) -> None:
        status = response.status_code
        if status in (200, 206):
            return
        if status == 416 and first and last is None:
            raise CannotContinue
        found = f"the server answered {status} {response.reason or ''}".rstrip()
        if status in PASSING:
            wait_s = 0.0
            with suppress(urllib3.exceptions.InvalidHeader, ValueError):
                wait_s = float(urllib3.Retry().parse_retry_after(response.headers.get("Retry-After", "0")))
            raise Passing(found, wait_s)
        gone = "The file is registered there, but the server does not have it."
        wants_login = (
            "The server wants a login: set LABWEAVE_ONE_DATA_URL, LABWEAVE_ONE_DATA_USER and "
            "LABWEAVE_ONE_DATA_PASSWORD."
        )
        if self._web.login is not None and self._web.login.is_for(self.url):
            wants_login = "The user or the password of LABWEAVE_ONE_DATA_USER is wrong for this server."
        advice = {
            401: wants_login,
            403: "This login may not read the file; the people who run the server can allow it.",
            404: gone,
            410: gone,
        }.get(status, "Is the address of the repository right?")
        raise DownloadError(self.shown, found, advice, status)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn the errors of requests and urllib3 into those of a source."""
        try:
            yield
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            causes = list(_causes(error))

            def has(*kinds: type[BaseException]) -> bool:
                return any(isinstance(cause, kinds) for cause in causes)

            host = urlsplit(self.url).hostname
            if has(urllib3.exceptions.NameResolutionError, socket.gaierror):
                raise HostUnreachable(
                    self.shown, f"no address is known for the server {host}", "Is the name right, and the network up?"
                ) from None
            if has(ssl.SSLCertVerificationError):
                raise HostUnreachable(
                    self.shown, f"the certificate of {host} is not accepted", "Is the address right, and the clock?"
                ) from None
            if isinstance(error, requests.TooManyRedirects):
                raise DownloadError(self.shown, "it sends in circles", "Is the address right?") from None
            if isinstance(error, (ValueError, requests.exceptions.InvalidSchema)):
                raise DownloadError(self.shown, "no address that can be asked", "Correct it.") from None
            if has(urllib3.exceptions.NewConnectionError):  # a subclass of a timeout, but none
                raise Passing(f"nothing answers at {host}", unreachable=True) from None
            if has(requests.Timeout, urllib3.exceptions.TimeoutError):
                unreachable = has(urllib3.exceptions.ConnectTimeoutError)
                raise Passing(f"no answer from {host} in time", unreachable=unreachable) from None
            raise Passing(f"the connection to {host} broke") from None


class FilesystemSource:
    """A file of a filesystem that fsspec opens, for example ``s3://bucket/file``; the address is not encoded."""

    def __init__(self, url: str):
        self.url, self.shown = url, show(url)

    @contextmanager
    def open(self, first: int, last: int | None, mark: str, size: int) -> Iterator[Stream]:
        """Give a `Stream`, as `HttpSource.open`."""
        with self._translated():
            filesystem, path = _open_filesystem(self.url)
            total = filesystem.info(path).get("size")
            now = filesystem.ukey(path)
            file = filesystem.open(path, "rb")
            file.seek(first)
        if first and mark and mark != now:
            file.close()
            raise CannotContinue
        try:
            yield Stream(first, total, now, self._blocks(file, None if last is None else last - first + 1))
        finally:
            file.close()

    def _blocks(self, file, n_left: int | None) -> Iterator[bytes]:
        while True:
            with self._translated():
                block = file.read(FILE_BLOCK if n_left is None else min(FILE_BLOCK, n_left))
            if not block:
                return
            yield block
            if n_left is not None:
                n_left -= len(block)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except ConfigError:
            raise
        except FileNotFoundError:
            raise DownloadError(
                self.shown, "the file is not there", "It is registered there, but missing.", 404
            ) from None
        except PermissionError:
            raise DownloadError(self.shown, "it may not be read", "Are the credentials set up?", 403) from None
        except (TimeoutError, ConnectionError) as error:
            raise Passing(f"the connection broke ({type(error).__name__})") from None
        except Exception as error:  # each filesystem has errors of its own
            log.debug("%s", self.shown, exc_info=True)
            reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
            raise DownloadError(
                self.shown, f"it can't be read ({reason})", "Are address and credentials right, and the network up?"
            ) from None


Source = HttpSource | FilesystemSource


def make_source(web: Web, url: str) -> Source:
    """Return the source of an address, or raise DownloadError for one of a kind that can't be read."""
    scheme = scheme_of(url)
    if scheme in ("http", "https"):
        return HttpSource(web, url.replace("#", "%23"))  # of a #revision#, which is no fragment
    if not scheme or "::" in url or scheme == "reference":  # which follows addresses inside of files
        raise DownloadError(show(url), "no address that can be read", "Correct data_url of the repository.")
    return FilesystemSource(url)


def show(url: str) -> str:
    """Return an address without user, password and query, which may be secret."""
    scheme, colon, rest = url.partition("://")
    if not colon:
        return url
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path.partition('?')[0]}"


def _open_filesystem(url: str) -> tuple[Any, str]:
    try:
        return fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise ConfigError(
            f"{show(url)} needs a package that is not installed: {error}. "
            "For s3:// it is s3fs: pip install s3fs; for gs:// gcsfs; for sftp:// paramiko."
        ) from None
    except ValueError:
        raise ConfigError(
            f"{show(url)}: this kind of address is not known. Correct data_url of the repository, "
            "or install the fsspec package for it."
        ) from None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its causes; urllib3 keeps them in ``reason`` and ``args``."""
    seen: set[int] = set()
    waiting: list[Any] = [error]
    while waiting:
        cause = waiting.pop()
        if not isinstance(cause, BaseException) or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        waiting += [cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args]


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    return parts.scheme.lower(), parts.hostname, port or {"http": 80, "https": 443}.get(parts.scheme.lower())

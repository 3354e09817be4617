"""A client of one Alyx server: logs in, keeps its pace, tries again what may pass, tells where it is sent.

Answers are complete or an error: a body that is cut, is no JSON or no page is never taken.
"""

from __future__ import annotations

import logging
import random
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter

from labweave.errors import ConfigError, PlaceError

log = logging.getLogger(__name__)

CONNECT_SECONDS = 10
READ_SECONDS = 300
"""As long as the server itself gives a request."""

ATTEMPTS = 6
FIRST_WAIT_SECONDS = 1.0
PASSING = frozenset({429, 502, 503, 504})
"""Answers that say: later."""

MAX_REDIRECTS = 5
MAX_WAIT_SECONDS = 120
REQUESTS_PER_MINUTE = 480
"""Alyx takes 550 from one user."""

PAGE_ROWS = 1000
REFUSED = "the token was refused"
ANOTHER_LOGIN = (
    "It was deleted, or is of another server. Set LABWEAVE_ALYX_TOKEN to a new one, or set LABWEAVE_ALYX_USER and "
    "LABWEAVE_ALYX_PASSWORD, with which labweave logs in by itself."
)
IS_IT_ALYX = "Is this an Alyx server, and the address right?"
BEYOND_END = 1_000_000_000
"""An offset beyond every list: no rows are sent, and the count is right."""


class AlyxError(PlaceError):
    """An answer of an Alyx server that can't be used."""


@dataclass(frozen=True, repr=False)
class Login:
    """User and password, or a token; never shown.

    Examples
    --------
    >>> from labweave.formats.alyx import Login
    >>> Login("sync", "swordfish")
    Login(user='sync')
    """

    user: str = ""
    password: str = ""
    token: str = ""

    def __repr__(self) -> str:
        return f"Login(user={self.user!r})"


@dataclass(frozen=True)
class Page:
    """One answer of a list: its rows, how many the server counts, and whether there are more."""

    rows: list[dict[str, Any]]
    count: int
    is_last: bool


def check_url(url: str) -> str:
    """Return the address of a server in one spelling.

    Raises
    ------
    ConfigError
        It is no http address, or has a user or password in it.
    """
    text = url.strip().rstrip("/")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = urlsplit(""), None, None
    if parts.scheme not in {"http", "https"} or not host or parts.query or parts.fragment:
        raise ConfigError("The address of an Alyx server looks like https://alyx.example.org. Correct it.")
    if parts.username is not None or parts.password is not None:
        raise ConfigError(
            f"The address of {host} has a user or password in it, which would be stored. "
            "Take them out, and set LABWEAVE_ALYX_USER and LABWEAVE_ALYX_PASSWORD."
        )
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}{f':{port}' if port else ''}{parts.path}"


class AlyxClient:
    """One connection to an Alyx server.

    Parameters
    ----------
    url : str
        Address, for example ``https://alyx.example.org``.
    login : Login
    requests_per_minute : int, default: 480
        The pace that is kept; Alyx counts those of one user in a sliding minute.

    Attributes
    ----------
    broken : dict
        Path of a list -> how it fails, whatever is asked of it; kept by those who use the client.

    Raises
    ------
    ConfigError
        The address can't be used.

    Examples
    --------
    >>> from labweave.formats.alyx import AlyxClient, Login
    >>> client = AlyxClient("https://alyx.example.org/", Login("sync", "swordfish"))
    >>> client
    AlyxClient('https://alyx.example.org')
    >>> client.close()
    """

    def __init__(self, url: str, login: Login, requests_per_minute: int = REQUESTS_PER_MINUTE):
        self.url, self._login, self._token = check_url(url), login, login.token
        self._sent: deque[float] = deque(maxlen=max(1, requests_per_minute))
        self._session = requests.Session()
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, HTTPAdapter(pool_connections=1, pool_maxsize=1))
        self.broken: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"AlyxClient({self.url!r})"

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def count(self, path: str, filters: Mapping[str, str]) -> int:
        """Return how many rows a list has; no row is sent."""
        return self.page(path, {**filters, "limit": "1", "offset": str(BEYOND_END)}).count

    def page(self, path: str, query: Mapping[str, str]) -> Page:
        """Return one page of a list.

        Raises
        ------
        AlyxError
            The answer is an error, or no page.
        """
        body = self.get(path, query)
        where = self.url + path
        if isinstance(body, list):
            rows, count, following = body, len(body), None
        elif isinstance(body, dict) and isinstance(body.get("results"), list) and isinstance(body.get("count"), int):
            rows, count, following = body["results"], body["count"], body.get("next")
        else:
            raise AlyxError(where, "the answer is no list of rows", IS_IT_ALYX)
        if not all(isinstance(row, dict) for row in rows):
            raise AlyxError(where, "a row of the answer is no object", IS_IT_ALYX)
        return Page(rows, count, following is None)

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        """Return the JSON body of one answer.

        Raises
        ------
        AlyxError
            An error of the server, or an answer that is no JSON; 429, 502, 503, 504 and lost
            connections are tried again first, 500 once: it may be the request's fault.
        """
        if not self._token:
            self._log_in()
        try:
            return self._json("GET", path, query)
        except AlyxError as error:
            if not error.found.startswith(REFUSED) or not self._login.password:  # other refusals are about rights
                raise
        self._log_in()
        return self._json("GET", path, query)

    def _log_in(self) -> None:
        if not self._login.user or not self._login.password:
            raise ConfigError(
                f"{self.url} needs a login. Set LABWEAVE_ALYX_USER and LABWEAVE_ALYX_PASSWORD, or LABWEAVE_ALYX_TOKEN, "
                "or write [alyx] user and password into labweave.toml."
            )
        self._token = ""
        try:
            body = self._json(
                "POST", "/auth-token", data={"username": self._login.user, "password": self._login.password}
            )
        except AlyxError as error:
            if error.status == 400:
                raise ConfigError(
                    f"{self.url} refuses the user {self._login.user!r} or the password. "
                    "Check LABWEAVE_ALYX_USER and LABWEAVE_ALYX_PASSWORD, or [alyx] in labweave.toml."
                ) from None
            raise
        token = body.get("token") if isinstance(body, dict) else None
        if not isinstance(token, str) or not token:
            raise AlyxError(f"{self.url}/auth-token", "the answer has no token", IS_IT_ALYX)
        self._token = token

    def _json(
        self, method: str, path: str, query: Mapping[str, str] | None = None, data: Mapping[str, str] | None = None
    ) -> Any:
        """Return a body, trying again what may pass."""
        where = self.url + path
        for attempt in range(1, ATTEMPTS + 1):
            retry_after, may_pass = None, True
            try:
                answer = self._send(method, path, query, data)
            except requests.exceptions.SSLError:
                raise AlyxError(
                    where,
                    "its certificate can't be verified",
                    "Use the name the certificate is for, or install the lab's own authority on this machine.",
                ) from None
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
                found = f"no answer ({type(error).__name__})"
                failure = AlyxError(where, found, "Is the server running, and the address right?")
            else:
                kind, retry_after = answer.headers.get("Content-Type", ""), answer.headers.get("Retry-After")
                if answer.status_code >= 400:
                    failure = _refusal(where, answer)
                    may_pass = answer.status_code in PASSING or (answer.status_code == 500 and attempt == 1)
                else:
                    try:
                        return answer.json()
                    except ValueError:  # JSON that was cut comes whole another time
                        found = f"the answer is no JSON ({kind.partition(';')[0] or 'nothing'})"
                        failure, may_pass = AlyxError(where, found, IS_IT_ALYX), not kind or "json" in kind
            if attempt == ATTEMPTS or not may_pass:
                raise failure from None
            seconds = random.uniform(0.5, 1) * FIRST_WAIT_SECONDS * 2 ** (attempt - 1)  # noqa: S311
            if retry_after is not None and retry_after.strip().isdigit():
                seconds = min(float(retry_after), MAX_WAIT_SECONDS)
            log.info("%s: %s, attempt=%d of %d, again in %.1f s", where, failure.found, attempt, ATTEMPTS, seconds)
            time.sleep(seconds)
        raise AssertionError("unreachable")

    def _send(
        self, method: str, path: str, query: Mapping[str, str] | None, data: Mapping[str, str] | None
    ) -> requests.Response:
        """Send one request, and follow redirects that stay on this server."""
        if len(self._sent) == self._sent.maxlen:  # keep the pace
            time.sleep(max(0.0, self._sent[0] + 60 - time.monotonic()))
        self._sent.append(time.monotonic())
        url, params = self.url + path, query
        for _ in range(MAX_REDIRECTS):
            answer = self._session.request(
                method,
                url,
                params=params,
                data=data,
                headers={"Accept": "application/json"},
                auth=self._sign,
                timeout=(CONNECT_SECONDS, READ_SECONDS),
                allow_redirects=False,
            )
            if not answer.is_redirect:
                return answer
            target = urljoin(url, answer.headers["Location"])
            if urlsplit(target)[:2] != urlsplit(self.url)[:2]:
                raise AlyxError(
                    self.url + path,
                    f"it sends to another server, {urlsplit(target).scheme}://{urlsplit(target).hostname}",
                    "Use that address, if it is the right one.",
                )
            url, params = target, None
        raise AlyxError(self.url + path, "it redirects without end", "Is the address right?")

    def _sign(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the token. Without an `auth` of its own, requests would take a login from .netrc."""
        if self._token:
            request.headers["Authorization"] = f"Token {self._token}"
        return request


def _refusal(where: str, answer: requests.Response) -> AlyxError:
    try:
        body = answer.json()
    except ValueError:
        body = ""
    detail = str(body.get("detail", body)) if isinstance(body, dict) else str(body)
    advice = {
        400: "A filter or value is not known to this server: is it older or newer than Alyx 3?",
        403: "Check the login, or ask the administrator for the right.",
        404: IS_IT_ALYX,
        429: "Another program uses this login. Try later, or use a login of its own.",
    }.get(answer.status_code, "Look into the server's log, or try again later.")
    found = f"status {answer.status_code}" + (f", {' '.join(detail.split())[:300]}" if detail else "")
    if answer.status_code == 403 and any(word in detail.lower() for word in ("token", "credentials")):
        found, advice = f"{REFUSED} ({found})", ANOTHER_LOGIN
    return AlyxError(where, found, advice, answer.status_code)

"""An Alyx to test against: real HTTP, recorded or invented rows, and every fault a night can bring.

``AlyxServer([day1, day2])`` serves the first base; `advance` goes on to the next. Run as a program it serves a folder
of recordings until it is ended: ``python tests/alyx_server.py FOLDER [--copies N] [--like-real]``.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import re
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qsl, unquote, urlsplit

from alyx_filters import BadFilter, UnknownFilter
from alyx_recordings import load_recordings, multiplied, normal
from alyx_rows import NAMED_BY, ORIGIN, RESOURCES, Base, Row, page_path

USER, PASSWORD, TOKEN = "sync_user", "alyx-sync", "bbbbbbbb11111111111111111111111111111111"
MODELS = {"files": "FileRecord", "trajectories": "TrajectoryEstimate", "insertions": "ProbeInsertion"}
DATED = ("weighings", "water-administrations")
NOT_FOUND = (
    '\n<!doctype html>\n<html lang="en">\n<head>\n  <title>Not Found</title>\n</head>\n<body>\n'
    "  <h1>Not Found</h1><p>The requested resource was not found on this server.</p>\n</body>\n</html>\n"
)


@dataclass
class Request:
    """One request as it came, without its secrets."""

    method: str
    path: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    authorized: bool
    status: int = 0
    n_rows: int | None = None
    began_s: float = field(default_factory=time.perf_counter)
    ended_s: float = 0.0

    @property
    def resource(self) -> str:
        """Return the first part of the path."""
        return self.path.split("/")[1]


@dataclass
class Answer:
    """What goes back."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    fault: str = ""


@dataclass
class Fault:
    """What goes wrong with the next `times` requests whose path matches."""

    kind: str
    times: int
    match: str
    after: int
    details: dict[str, Any]


@dataclass(frozen=True)
class Cost:
    """What answering takes, by the times measured at a real Alyx 3.6.1 with one process and two cores.

    A list takes a time per request and per row, a session's detail a time of its own; a share of it is one request's
    alone, so that four connections get 1.4 times the rows of one.
    """

    request_s: float = 0.04
    dataset_request_s: float = 0.40
    row_s: tuple[tuple[str, float], ...] = (
        ("datasets", 0.0017), ("files", 0.0005), ("subjects", 0.018), ("insertions", 0.0055), ("trajectories", 0.010),
        ("water-administrations", 0.0026), ("notes", 0.003), ("channels", 0.0035),
    )  # fmt: skip
    other_row_s: float = 0.0007
    count_s: float = 0.06
    counted_row_s: float = 3.4e-6
    session_detail_s: float = 0.27
    alone: float = 0.72

    def of_list(self, resource: str, n_rows: int, n_held: int) -> float:
        """Return the time of one page, or of counting: 0.06 s, and 0.26 s where there are 60,000."""
        fixed = self.dataset_request_s if resource == "datasets" else self.request_s
        if not n_rows:
            return self.count_s + n_held * self.counted_row_s if resource in ("datasets", "files") else fixed / 2
        return fixed + n_rows * dict(self.row_s).get(resource, self.other_row_s)


class AlyxServer:
    """A server of Alyx's REST answers on 127.0.0.1, to be used as a context manager.

    Parameters
    ----------
    days : sequence of Base
        The rows of each day; the first is served until `advance`.
    user, password, token : str
        The one login.
    rate : int, optional
        Requests allowed within `rate_window_s`; more are answered 429. Alyx: 550 within 60 s.
    max_limit : int, optional
        Largest page; None is a server from before July 2026, without a cap.
    cost : Cost, optional
        Makes answers take the time that a real server takes.

    Attributes
    ----------
    log : list of Request
        What was asked, in order.
    on_request : callable
        Called with each request before it is answered; may change `base`.
    broken : set of str
        Ids of rows that make every list with them, and their detail, a 500.
    next_origin : str, optional
        What ``next`` starts with instead of the server's own address.
    """

    def __init__(
        self,
        days: Sequence[Base],
        *,
        user: str = USER,
        password: str = PASSWORD,
        token: str = TOKEN,
        rate: int | None = None,
        rate_window_s: float = 60.0,
        cost: Cost | None = None,
    ):
        self.days, self.day = list(days), 1
        self.user, self.password, self.token = user, password, token
        self.rate, self.rate_window_s, self.cost = rate, rate_window_s, cost
        self.log: list[Request] = []
        self.clock: Callable[[], float] = time.monotonic
        self.on_request: Callable[[Request], object] = lambda request: None
        self.next_origin: str | None = None
        self.broken: set[str] = set()
        self._faults: list[Fault] = []
        self._accepted: list[float] = []
        self._lock, self._worker = threading.RLock(), threading.Lock()
        handler = type("Handler", (_Handler,), {"alyx": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    @classmethod
    def of_recordings(cls, *folders: Path, copies: int = 1, **options: Any) -> AlyxServer:
        """Serve folders of recordings, one a day, with `copies` of each dataset."""
        return cls(
            [multiplied(load_recordings(f), copies) if copies > 1 else load_recordings(f) for f in folders], **options
        )

    def __enter__(self) -> AlyxServer:
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    @property
    def base(self) -> Base:
        """Return the rows of the day."""
        return self.days[self.day - 1]

    def log_in(self, monkeypatch: Any) -> None:
        """Put the login of this server into the environment."""
        monkeypatch.setenv("LABWEAVE_ALYX_USER", self.user)
        monkeypatch.setenv("LABWEAVE_ALYX_PASSWORD", self.password)

    def sync(self, **options: Any) -> Any:
        """Sync the open database with this server, and return the report."""
        from labweave import ingest

        return ingest.run("alyx", self.url, **options)

    def advance(self) -> None:
        """Go on to the next day's rows."""
        with self._lock:
            assert self.day < len(self.days), "there is no further day"
            self.day += 1

    def fail(self, kind: str, times: int = 1, *, match: str = "/", after: int = 0, **details: Any) -> None:
        """Let requests go wrong: the next `times` whose path and query match, once `after` such have passed.

        Faults with one `match` happen in the order they were ordered, each counting from the one before.

        Kinds: a status such as "503" (429 with ``retry_after``, a number), "drop" (the connection closes without an
        answer), "cut" (half a body), "bad_json", "html" (200 and a page), "token" (403 Invalid token), "redirect"
        (302 to ``location``), "slow" (the right answer after ``seconds``).
        """
        with self._lock:
            self._faults.append(Fault(kind, times, match, after, details))

    def forgive(self) -> None:
        """Let nothing fail any more."""
        with self._lock:
            self._faults.clear()

    @property
    def faults_left(self) -> int:
        """Return how many faults were ordered and have not happened."""
        return sum(fault.times for fault in self._faults)

    def expire_token(self) -> None:
        """Make the token invalid; the next login gets another."""
        with self._lock:
            self.token = self.token[::-1] if self.token != self.token[::-1] else "c" * len(self.token)

    def requests(self, resource: str | None = None) -> list[Request]:
        """Return the logged requests for a resource."""
        return [request for request in self.log if resource in (None, request.resource)]

    # answering

    def answer(self, request: Request, headers: Any, body: bytes) -> Answer:
        """Answer a request, or let it fail as ordered."""
        with self._lock:
            self.log.append(request)
            self.on_request(request)
            fault = self._next_fault(request)
        if fault and fault.kind == "slow":
            time.sleep(fault.details["seconds"])
            fault = None
        answer = self._failed(fault) if fault else self._right_answer(request, headers, body)
        if self.cost and request.resource == "sessions" and request.path != "/sessions":
            self._take_time(request, self.cost.session_detail_s, self.cost.alone)
        elif self.cost and request.n_rows is not None:
            n_held = len(self.base.resources[request.resource])
            self._take_time(request, self.cost.of_list(request.resource, request.n_rows, n_held), self.cost.alone)
        request.status, request.ended_s = answer.status, time.perf_counter()
        return answer

    def _next_fault(self, request: Request) -> Fault | None:
        asked = request.path + "?" + "&".join(f"{name}={value}" for name, value in request.query)
        for fault in self._faults:
            if fault.times and re.search(fault.match, asked):
                if fault.after:
                    fault.after -= 1
                    return None
                fault.times -= 1
                return fault
        return None

    def _failed(self, fault: Fault) -> Answer:
        page = b"<html><head><title>Welcome</title></head><body>Please log in to the network.</body></html>"
        match fault.kind:
            case "drop" | "cut":
                return Answer(
                    200, b'{"count": 1, "next": null, "previous": null, "results": [{"id": "', fault=fault.kind
                )
            case "bad_json":
                return Answer(200, b'{"count": 1, "next": null, "results": [{"id": NaN, ]}')
            case "html":
                return Answer(200, page, "text/html; charset=utf-8")
            case "token":
                return _error(403, "Invalid token.")
            case "redirect":
                return Answer(302, b"", "text/html; charset=utf-8", {"Location": fault.details["location"]})
            case "429":
                wait = fault.details.get("retry_after", 1)
                answer = _error(429, f"Request was throttled. Expected available in {wait} seconds.")
                return dataclasses.replace(answer, headers={"Retry-After": str(wait)})
            case "500":
                return _json(500, {"status_code": 500, "detail": fault.details.get("detail", "")})
            case status:
                return Answer(int(status), page, "text/html; charset=utf-8")

    def _right_answer(self, request: Request, headers: Any, body: bytes) -> Answer:
        if request.path == "/auth-token":
            return self._login(request, body)
        if request.path in ("/docs", "/cache/info"):
            return Answer(301, b"", "text/html; charset=utf-8", {"Location": f"{request.path}/"})
        if request.path == "/api/schema":
            return _json(200, self.base.openapi, "application/vnd.oai.openapi+json")
        if refused := self._check_token(headers.get("Authorization", "")):
            return refused
        accepts = headers.get("Accept", "*/*")
        if "text/html" in accepts:
            return Answer(200, b"<html><body>Django REST framework</body></html>", "text/html; charset=utf-8")
        if request.path in ("/cache.zip",) and self.base.fixed.get("/cache.zip"):
            return Answer(200, self.base.fixed["/cache.zip"][2], "application/zip")
        if "json" not in accepts and "*/*" not in accepts:
            return _error(406, "Could not satisfy the request Accept header.")
        if throttled := self._throttle():
            return throttled
        if request.method in ("HEAD", "OPTIONS") and request.path == "/sessions":
            return _json(500, {"status_code": 500, "detail": "'list' object has no attribute 'items'"})
        if request.method != "GET":
            return _error(405, f'Method "{request.method}" not allowed.')
        return self._get(request)

    def _login(self, request: Request, body: bytes) -> Answer:
        if request.method != "POST":
            return _error(405, f'Method "{request.method}" not allowed.')
        text = body.decode()
        given = json.loads(text) if text.startswith("{") else dict(parse_qsl(text, keep_blank_values=True))
        missing = {name: ["This field is required."] for name in ("username", "password") if name not in given}
        if missing:
            return _json(400, {**missing, "status_code": 400})
        if (given["username"], given["password"]) != (self.user, self.password):
            return _json(400, {"non_field_errors": ["Unable to log in with provided credentials."], "status_code": 400})
        return _json(200, {"token": self.token})

    def _check_token(self, header: str) -> Answer | None:
        scheme, _, token = header.partition(" ")
        if scheme != "Token":
            return _error(403, "Authentication credentials were not provided.")
        if not token.strip():
            return _error(403, "Invalid token header. No credentials provided.")
        return None if token.strip() == self.token else _error(403, "Invalid token.")

    def _throttle(self) -> Answer | None:
        if self.rate is None:
            return None
        now = self.clock()
        with self._lock:
            self._accepted = [moment for moment in self._accepted if moment > now - self.rate_window_s]
            if len(self._accepted) < self.rate:
                self._accepted.append(now)
                return None
            wait = math.ceil(self._accepted[0] + self.rate_window_s - now)
        answer = _error(429, f"Request was throttled. Expected available in {wait} seconds.")
        return dataclasses.replace(answer, headers={"Retry-After": str(wait)})

    def _get(self, request: Request) -> Answer:
        path = request.path
        asked = normal(path + ("?" + "&".join(f"{n}={v}" for n, v in request.query) if request.query else ""))
        fixed = self.base.fixed.get(_unquoted(path, request.query), self.base.fixed.get(asked))
        if fixed and fixed[0] != 200:
            return self._of_recording(fixed)
        _, resource, *names = path.split("/", 2)
        if resource in RESOURCES and names != [""]:
            try:
                with self._lock:
                    return self._detail(resource, names[0]) if names else self._list(request)
            except BadFilter as bad:
                if not fixed:
                    return _json(bad.status, bad.body)
            except UnknownFilter as unknown:
                if not fixed:
                    return _error(501, f"The replay server does not know the filter {unknown}.")
        if fixed:
            return self._of_recording(fixed)
        return Answer(404, NOT_FOUND.encode(), "text/html; charset=utf-8")

    def _of_recording(self, fixed: tuple[int, str, bytes]) -> Answer:
        status, content_type, body = fixed
        return Answer(status, body.replace(ORIGIN.encode(), self.url.encode()), content_type)

    def _list(self, request: Request) -> Answer:
        resource, base = request.resource, self.base
        if known := base.lossy.get(_unquoted(request.path, request.query)):
            page = base.list(resource, request.query)
            page.rows = [base.resources[resource][row_id] for row_id in known]
        else:
            page = base.list(resource, request.query)
        if any(self._is_broken(resource, row) for row in page.rows):
            return _json(500, {"status_code": 500, "detail": ""})
        origin = self.next_origin or ORIGIN
        links = {"next": None, "previous": None}
        if page.has_next:
            links["next"] = origin + page_path(request.path, request.query, page.limit, page.offset + page.limit)
        if page.offset:
            links["previous"] = origin + page_path(
                request.path, request.query, page.limit, max(0, page.offset - page.limit)
            )
        head = json.dumps({"count": page.count, **links})[:-1]
        text = head + ', "results": [' + ",".join(row.as_json() for row in page.rows) + "]}"
        request.n_rows = len(page.rows)
        return Answer(200, text.replace(ORIGIN, self.url).encode())

    def _take_time(self, request: Request, seconds: float, alone: float) -> None:
        """Wait as long as the real server would have taken; finding the rows here has been a part of that."""
        spent_s = time.perf_counter() - request.began_s
        with self._worker:
            time.sleep(max(0.0, seconds * alone - spent_s))
        time.sleep(max(0.0, min(seconds * (1 - alone), seconds - spent_s)))

    def _detail(self, resource: str, name: str) -> Answer:
        base = self.base
        rows = base.one(resource, unquote(name))
        if not rows:
            if resource not in NAMED_BY and not _is_uuid(name):
                return Answer(404, NOT_FOUND.encode(), "text/html; charset=utf-8")
            kind = MODELS.get(resource, resource.removesuffix("s").title().replace("-", ""))
            return _error(404, f"No {kind} matches the given query.")
        if len(rows) > 1:
            detail = f"get() returned more than one Subject -- it returned {len(rows)}!"
            return _json(500, {"status_code": 500, "detail": detail})
        if self._is_broken(resource, rows[0]):
            return _json(500, {"status_code": 500, "detail": ""})
        shown = rows[0].detail if rows[0].detail is not None else rows[0].shown
        if resource == "datasets":
            shown = {key: value for key, value in shown.items() if key not in ("protected", "public")}
        return Answer(rows[0].detail_status, json.dumps(shown, ensure_ascii=False).replace(ORIGIN, self.url).encode())

    def _is_broken(self, resource: str, row: Row) -> bool:
        """Say whether a row can't be shown; a subject can't that has a weighing or water without a time."""
        if resource != "subjects" or row.id in self.broken:
            return row.id in self.broken
        dated = [one for name in DATED for one in self.base.named(name, "subject", row.shown["nickname"])]
        return any(one.shown["date_time"] is None and row in self.base.owners(one) for one in dated)


def _unquoted(path: str, query: Iterable[tuple[str, str]]) -> str:
    text = "&".join(f"{name}={value}" for name, value in sorted(query))
    return unquote(path) + ("?" + text if text else "")


def _is_uuid(text: str) -> bool:
    return len(text) == 36 and text.count("-") == 4


def _json(status: int, value: Any, content_type: str = "application/json") -> Answer:
    return Answer(status, json.dumps(value, ensure_ascii=False).encode(), content_type)


def _error(status: int, detail: str) -> Answer:
    return _json(status, {"detail": detail, "status_code": status})


class _Handler(BaseHTTPRequestHandler):
    alyx: ClassVar[AlyxServer]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        request = Request(
            self.command,
            parts.path,
            parse_qsl(parts.query, keep_blank_values=True),
            {name: value for name, value in self.headers.items() if name not in ("Authorization", "Cookie")},
            "Authorization" in self.headers,
        )
        answer = self.alyx.answer(request, self.headers, body)
        if answer.fault == "drop":
            self.close_connection = True
            return
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        cut = answer.fault == "cut"
        self.send_header("Content-Length", str(len(answer.body) * (2 if cut else 1)))
        self.end_headers()
        self.wfile.write(answer.body if self.command != "HEAD" else b"")
        self.close_connection = self.close_connection or cut

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = do_HEAD = do_OPTIONS = _handle

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet: `AlyxServer.log` has it all."""


def main() -> None:
    """Serve a folder of recordings, print the address, stay until ended."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="+", help="recordings, one folder a day")
    parser.add_argument("--copies", type=int, default=1, help="of each dataset")
    parser.add_argument("--like-real", action="store_true", help="take the time that a real Alyx takes")
    chosen = parser.parse_args()
    cost = Cost() if chosen.like_real else None
    with AlyxServer.of_recordings(*chosen.folder, copies=chosen.copies, cost=cost) as server:
        print(server.url, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()

"""A data server to test against: real HTTP, ranges, and every fault that a download can meet.

Run as a program it serves invented files until its input ends: ``python tests/file_server.py N BYTES LATENCY_S``.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import random
import re
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

USER, PASSWORD = "reader", "open-sesame"


@dataclass
class Request:
    """One request as it came."""

    path: str
    headers: dict[str, str]

    @property
    def range(self):
        return self.headers.get("Range")


@dataclass
class Fault:
    """What goes wrong with an answer. Each one is used up by one request."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    break_after: int | None = None
    """Bytes of the body, then the connection is cut."""
    ignores_range: bool = False
    content: bytes | None = None
    """Sent instead of the file."""
    is_chunked: bool = False
    """No Content-Length; the end of the connection is that of the file."""
    is_gzip: bool = False
    pause: threading.Event | None = None
    """Waited for after half of the body."""
    before: Callable[[], None] | None = None
    """Called when the request has come."""


class FileServer:
    """Serves ``files`` (path without the first slash -> bytes) with strong ETags.

    Parameters
    ----------
    files : dict
    has_login : bool, default: False
        Ask for USER and PASSWORD.
    has_marks : bool, default: True
        Send ETags.
    latency_s : float, default: 0.0
        How long each new connection and each request take longer, as over a network.
    """

    def __init__(
        self, files: dict[str, bytes], has_login: bool = False, has_marks: bool = True, latency_s: float = 0.0
    ):
        self.files, self.has_login, self.has_marks = files, has_login, has_marks
        self.faults: list[Fault] = []
        self.log: list[Request] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # as real servers do: or each small file waits 40 ms

            def setup(self):
                super().setup()
                time.sleep(latency_s)

            def do_GET(self):
                time.sleep(latency_s)
                server.log.append(Request(unquote(self.path[1:]), dict(self.headers)))
                with server._lock:
                    fault = server.faults.pop(0) if server.faults else Fault()
                server.answer(self, fault)

            def log_message(self, *args):
                pass

        self._lock = threading.Lock()

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, client_address):
                """A client that hangs up is no news here."""

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def asked_for(self, name: str) -> list[Request]:
        return [request for request in self.log if request.path.endswith(name)]

    def answer(self, handler: BaseHTTPRequestHandler, fault: Fault) -> None:
        if fault.before:
            fault.before()
        if fault.status:
            self._send(handler, fault.status, {**fault.headers, "Content-Length": "0"}, b"")
            return
        given = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if self.has_login and handler.headers.get("Authorization") != f"Basic {given}":
            self._send(handler, 401, {"WWW-Authenticate": "Basic", "Content-Length": "0"}, b"")
            return
        content = fault.content if fault.content is not None else self.files.get(unquote(handler.path[1:]))
        if content is None:
            self._send(handler, 404, {"Content-Length": "0"}, b"")
            return
        status, first, body = 200, 0, content
        headers = dict(fault.headers)
        if self.has_marks:
            headers.setdefault("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", handler.headers.get("Range", ""))
        condition = handler.headers.get("If-Range")
        if match and not fault.ignores_range and condition in (None, headers.get("ETag")):
            first, last = int(match[1]), min(int(match[2] or len(content) - 1), len(content) - 1)
            if first >= len(content):
                self._send(handler, 416, {"Content-Length": "0"}, b"")
                return
            status, body = 206, content[first : last + 1]
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        if fault.is_gzip:
            body = gzip.compress(body)
            headers["Content-Encoding"] = "gzip"
        if fault.is_chunked:
            headers["Connection"] = "close"
        else:
            headers.setdefault("Content-Length", str(len(body)))
        self._send(handler, status, headers, body[: fault.break_after], fault.pause)
        if fault.is_chunked or len(body[: fault.break_after]) < int(headers.get("Content-Length", 0)):
            handler.close_connection = True

    def _send(self, handler, status, headers, body, pause=None):
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        middle = len(body) // 2 if pause else len(body)
        try:
            handler.wfile.write(body[:middle])
            if pause:
                pause.wait()
                handler.wfile.write(body[middle:])
        except (BrokenPipeError, ConnectionResetError):
            handler.close_connection = True


if __name__ == "__main__":
    n_files, n_bytes, latency_s = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    invented = {f"s1/2020-01-31/001/alf/a.b{i}.npy": random.Random(i).randbytes(n_bytes) for i in range(n_files)}
    with FileServer(invented, has_marks=False, latency_s=latency_s) as server:
        print(server.url, flush=True)
        sys.stdin.read()

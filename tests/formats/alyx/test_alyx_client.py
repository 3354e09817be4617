"""The Alyx client over real HTTP: logins, pace, faults, and that its credentials stay with the server."""

import json
import pickle
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from labweave.errors import ConfigError
from labweave.formats.alyx import AlyxClient, AlyxError, Login, client

TOKEN, PASSWORD = "0123456789abcdef0123456789abcdef01234567", "a secret: p%ss"
LOGIN = Login("sync", PASSWORD)
PAGE = {"count": 1, "next": None, "previous": None, "results": [{"name": "cortexlab"}]}


class Server:
    """Answers what it is told, in turn, and keeps what it was asked."""

    def __init__(self):
        self.answers, self.requests, self.logins = [], [], 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                outer.logins += 1
                if "username=sync" in body and "password=a+secret%3A+p%25ss" in body:
                    self.answer(200, {"token": TOKEN})
                else:
                    self.answer(400, {"non_field_errors": ["Unable to log in with provided credentials."]})

            def do_GET(self):
                outer.requests.append((self.path, dict(self.headers)))
                self.answer(*(outer.answers.pop(0) if outer.answers else (200, PAGE)))

            def answer(self, status, body, headers=(), cut=0):
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data) + cut))
                for name, value in dict(headers or {"Content-Type": "application/json"}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)
                self.close_connection = bool(cut)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def close(self):
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(client, "FIRST_WAIT_SECONDS", 0.001)
    made = Server()
    yield made
    made.close()


@pytest.fixture
def other():
    made = Server()
    yield made
    made.close()


def test_it_logs_in_once_and_signs_each_request(server):
    alyx = AlyxClient(server.url, LOGIN)
    assert alyx.page("/labs", {}).rows == alyx.page("/labs", {}).rows == [{"name": "cortexlab"}]
    assert server.logins == 1
    assert [headers["Authorization"] for _, headers in server.requests] == [f"Token {TOKEN}"] * 2


def test_a_count_asks_for_no_row(server):
    server.answers = [(200, {"count": 1510, "next": None, "results": []})]
    assert AlyxClient(server.url, LOGIN).count("/datasets", {"django": "id__gte,0"}) == 1510
    assert server.requests[0][0] == "/datasets?django=id__gte%2C0&limit=1&offset=1000000000"


def test_a_token_that_is_refused_is_fetched_anew(server):
    server.answers = [(403, {"detail": "Invalid token.", "status_code": 403}), (200, PAGE)]
    assert AlyxClient(server.url, Login("sync", PASSWORD, "f" * 40)).page("/labs", {}).count == 1
    assert server.logins == 1
    assert server.requests[1][1]["Authorization"] == f"Token {TOKEN}"


def test_a_missing_right_is_no_reason_to_log_in_again(server):
    server.answers = [(403, {"detail": "You do not have permission to perform this action.", "status_code": 403})]
    alyx = AlyxClient(server.url, LOGIN)
    with pytest.raises(AlyxError, match="status 403, You do not have permission"):
        alyx.get("/users")
    assert server.logins == 1


def test_a_wrong_password_says_so_without_showing_it(server):
    with pytest.raises(ConfigError, match="refuses the user 'sync' or the password") as error:
        AlyxClient(server.url, Login("sync", "wr0ng-one")).get("/labs")
    assert "wr0ng-one" not in str(error.value)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(server, status):
    server.answers = [(status, {"detail": "later"}, {"Retry-After": "0"})]
    assert AlyxClient(server.url, LOGIN).page("/labs", {}).count == 1
    assert len(server.requests) == 2


def test_an_answer_that_was_cut_is_tried_again(server):
    server.answers = [(200, b'{"count": 3, "next": null, "res', {}, 500), (200, b'{"count": 3, "ne')]
    assert AlyxClient(server.url, LOGIN).page("/labs", {}).count == 1


def test_a_server_error_that_stays_is_tried_twice_and_told(server):
    server.answers = [(500, {"status_code": 500, "detail": "Cannot resolve keyword 'x' into field."})] * 3
    with pytest.raises(AlyxError, match="Cannot resolve keyword 'x'") as error:
        AlyxClient(server.url, LOGIN).get("/sessions")
    assert (error.value.status, len(server.requests)) == (500, 2)


@pytest.mark.parametrize(
    "body", [b"<html>Sign in</html>", b'"text"', b'{"detail": "hello"}', b'{"count": 1, "results": [3]}']
)
def test_what_is_no_list_is_never_taken_for_one(server, body):
    server.answers = [(200, body, {"Content-Type": "text/html"})]
    with pytest.raises(AlyxError, match="Is this an Alyx server"):
        AlyxClient(server.url, LOGIN).page("/labs", {})


def test_the_token_goes_to_no_other_server(server, other):
    server.answers = [(302, {}, {"Location": f"{other.url}/labs"})]
    with pytest.raises(AlyxError, match="it sends to another server"):
        AlyxClient(server.url, LOGIN).get("/labs")
    assert other.requests == []


def test_a_redirect_on_the_same_server_is_followed(server):
    server.answers = [(301, {}, {"Location": "/cache/info/"}), (200, {"tables": {}})]
    assert AlyxClient(server.url, LOGIN).get("/cache/info") == {"tables": {}}


def test_a_next_page_elsewhere_is_not_asked(server, other):
    server.answers = [(200, {**PAGE, "count": 2, "next": f"{other.url}/labs?offset=1"})]
    assert AlyxClient(server.url, LOGIN).page("/labs", {}).is_last is False
    assert other.requests == []


def test_a_netrc_adds_nothing(server, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login someone password else")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    AlyxClient(server.url, LOGIN).get("/labs")
    assert server.requests[0][1]["Authorization"] == f"Token {TOKEN}"


def test_credentials_are_in_no_repr_or_error(server):
    alyx = AlyxClient(server.url, LOGIN)
    server.answers = [(404, {"detail": "gone"})]
    with pytest.raises(AlyxError) as error:
        alyx.get("/sessions/x")
    shown = repr(alyx) + repr(LOGIN) + str(LOGIN) + repr(error.value) + str(pickle.loads(pickle.dumps(error.value)))
    assert PASSWORD not in shown and TOKEN not in shown


@pytest.mark.parametrize("url", ["alyx.example.org", "ftp://alyx.example.org", "https://", "https://a.org/?x=1"])
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(ConfigError, match="looks like https://"):
        client.check_url(url)


def test_a_password_in_the_address_is_refused_unseen():
    with pytest.raises(ConfigError, match="LABWEAVE_ALYX_USER") as error:
        client.check_url("https://sync:pa55@alyx.example.org/")
    assert "pa55" not in str(error.value)


def test_the_pace_is_kept_over_a_minute(server, monkeypatch):
    now, slept = [1000.0], []
    monkeypatch.setattr(client.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(client.time, "sleep", slept.append)
    alyx = AlyxClient(server.url, Login(token=TOKEN), requests_per_minute=3)
    for _ in range(3):
        alyx.get("/labs")
    assert slept == []
    now[0] += 10
    alyx.get("/labs")
    assert slept == [50.0]

"""The replay server answers as the real Alyx answered, and fails as it is told to."""

import json

import pytest
import requests
from alyx_recordings import recorded_requests
from alyx_rows import ORIGIN, identity
from alyx_server import AlyxServer
from alyx_small_base import small_base, small_days

SETS = ("alyx_rest", "alyx_rest_day2")
# Recorded while the server was in another state, or of a document that was not kept.
NOT_REPLAYED = ("/docs", "/docs/")


class Client(requests.Session):
    """A session that is logged in."""

    def __init__(self, server):
        super().__init__()
        login = self.post(server.url + "/auth-token", data={"username": server.user, "password": server.password})
        self.headers.update({"Authorization": f"Token {login.json()['token']}", "Accept": "application/json"})
        self.server = server

    def ask(self, path, **options):
        return self.get(self.server.url + path, allow_redirects=False, timeout=10, **options)

    def follow(self, path):
        """Return the ids of all pages, following next."""
        found, url = [], self.server.url + path
        while url:
            answer = self.get(url, timeout=10).json()
            found += [identity(path[1:].split("?")[0], row) for row in answer["results"]]
            url = answer["next"]
        return found


@pytest.fixture
def server():
    with AlyxServer(small_days()) as opened:
        yield opened


@pytest.fixture
def client(server):
    with Client(server) as opened:
        yield opened


def without_order(value):
    """Return rows with the lists that Alyx gives in any order sorted."""
    if isinstance(value, dict):
        return {name: without_order(one) for name, one in value.items()}
    if isinstance(value, list):
        return sorted((without_order(one) for one in value), key=lambda one: json.dumps(one, sort_keys=True))
    return value


@pytest.mark.parametrize("day", [1, 2])
def test_every_recorded_question_gets_the_recorded_answer(shared, day):
    compared = 0
    with AlyxServer.of_recordings(*(shared / "data" / name for name in SETS)) as server, Client(server) as client:
        if day == 2:
            server.advance()
        for entry in recorded_requests(shared / "data" / SETS[day - 1]):
            if entry["method"] != "GET" or entry["auth"] != "valid" or entry["path"] in NOT_REPLAYED:
                continue
            if entry["status"] in (406, 429) or entry.get("note", "").startswith("while "):
                continue
            answer = client.ask(entry["path"])
            assert answer.status_code == entry["status"], entry["path"]
            compared += 1
            body = entry["body"].replace(ORIGIN.encode(), server.url.encode())
            if not entry.get("file", "").removesuffix(".gz").endswith(".json"):
                assert answer.content == body, entry["path"]
                continue
            expected, given = json.loads(body), answer.json()
            if entry["group"] == "paging_lossy":
                assert given == expected, entry["path"]
            elif "results" not in expected:
                assert without_order(given) == without_order(expected), entry["path"]
            else:
                for name in ("count", "next", "previous"):
                    assert given[name] == expected[name], (entry["path"], name)
                assert len(given["results"]) == len(expected["results"]), entry["path"]
                if given["next"] is None and given["previous"] is None:
                    assert without_order(given["results"]) == without_order(expected["results"]), entry["path"]
    assert compared > 200


def test_offsets_lose_rows_where_the_real_server_loses_them(shared):
    with AlyxServer.of_recordings(shared / "data" / SETS[0]) as server, Client(server) as client:
        for path, count, distinct in (("/datasets?limit=250", 1510, 1307), ("/weighings?limit=50", 210, 210)):
            found = client.follow(path)
            assert (len(found), len(set(found))) == (count, distinct)


def test_offsets_lose_rows_of_any_large_table_without_an_order_and_id_ranges_do_not():
    with AlyxServer(small_days(n_sessions=100)) as server, Client(server) as client:
        count = len(server.base.resources["datasets"])
        found = client.follow("/datasets?limit=100")
        assert len(found) == count > 400 > len(set(found))
        edges = [f"{n:x}0000000-0000-0000-0000-000000000000" for n in range(16)]
        ranged = []
        for first, last in zip(edges, [*edges[1:], "g"], strict=True):
            ranged += client.follow(f"/datasets?limit=1000&django=id__gte,{first},id__lt,{last}")
        assert len(ranged) == len(set(ranged)) == count


def test_login_and_token(server):
    def asked(**headers):
        answer = requests.get(server.url + "/labs", headers=headers, timeout=10)
        return answer.status_code, answer.json().get("detail")

    missing = "Authentication credentials were not provided."
    assert asked() == asked(Authorization=f"Bearer {server.token}") == (403, missing)
    assert asked(Authorization="Token wrong") == (403, "Invalid token.")
    assert asked(Authorization=f"Token {server.token}") == (200, None)
    server.expire_token()
    wrong = requests.post(server.url + "/auth-token", json={"username": server.user, "password": "no"}, timeout=10)
    assert (wrong.status_code, list(wrong.json())) == (400, ["non_field_errors", "status_code"])
    assert requests.get(server.url + "/auth-token", timeout=10).status_code == 405
    assert server.password not in repr(server.log) and server.token not in repr(server.log)


def test_the_limit_of_requests_is_that_of_a_sliding_window():
    with AlyxServer([small_base()], rate=3, rate_window_s=60) as server, Client(server) as client:
        server.clock = iter((0, 30.5, 31, 59.5, 60.5, 61, 91)).__next__
        answers = [client.ask("/labs") for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert answers[3].headers["Retry-After"] == "1" and answers[3].json()["status_code"] == 429
        later = [client.ask("/labs") for _ in range(3)]
        assert [answer.status_code for answer in later] == [200, 429, 200]
        assert later[1].headers["Retry-After"] == "30"


def test_a_limit_that_is_no_number_is_the_page_size_and_a_large_one_is_cut():
    with AlyxServer(small_days(n_sessions=300)) as server, Client(server) as client:
        sizes = {n: len(client.ask(f"/datasets?limit={n}").json()["results"]) for n in ("0", "-3", "x", "7", "5000")}
        assert sizes == {"0": 250, "-3": 250, "x": 250, "7": 7, "5000": 1000}
        assert "limit=1000&offset=1000" in client.ask("/datasets?limit=5000").json()["next"]


def test_unknown_names_are_ignored_and_unknown_filters_are_not(client, server):
    everything = client.ask("/labs").json()
    assert client.ask("/labs?auto_datetime__gt=2026-01-01").json() == everything
    assert client.ask("/projects?django=name,none").json()["count"] == len(server.base.resources["projects"])
    assert client.ask("/sessions?django=nosuchfield,1").status_code == 500
    assert client.ask("/sessions?django=start_time").json()["detail"] == "list index out of range"


def test_filters_cross_relations(client):
    def counted(path):
        return client.ask(path).json()["count"]

    assert counted("/datasets?django=session__subject__nickname,NL_001") == counted(
        "/datasets?django=session__subject__nickname__in,['NL_001','nobody']"
    )
    twins = [
        counted(f"/sessions?django=subject__nickname,TWIN_01,subject__lab__name,{lab}")
        for lab in ("northlab", "southlab")
    ]
    assert min(twins) > 0 and sum(twins) == counted("/sessions?subject=twin_01")
    n_all = counted("/sessions")
    assert counted("/sessions?django=start_time__isnull,True") == 1
    assert counted("/sessions?django=~subject__nickname,NL_001") + counted("/sessions?subject=NL_001") == n_all


@pytest.mark.parametrize("kind", ["500", "502", "503", "429", "token", "html", "bad_json", "redirect"])
def test_an_ordered_fault_happens_as_often_as_ordered(client, server, kind):
    server.fail(kind, 2, match=r"/datasets\?limit", after=1, retry_after=7, location=server.url + "/labs")
    answers = [client.ask("/datasets?limit=1") for _ in range(4)]
    assert client.ask("/labs").status_code == 200 and server.faults_left == 0
    status = {"token": 403, "html": 200, "bad_json": 200, "redirect": 302}.get(kind) or int(kind)
    assert [answer.status_code for answer in answers] == [200, status, status, 200]
    if kind in ("html", "bad_json"):
        with pytest.raises(ValueError):
            answers[1].json()
    if kind == "429":
        assert answers[1].headers["Retry-After"] == "7"


@pytest.mark.parametrize("kind", ["drop", "cut"])
def test_a_connection_breaks_as_ordered(client, server, kind):
    server.fail(kind)
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        client.ask("/labs").json()
    assert client.ask("/labs").status_code == 200


def test_rows_come_and_go_while_pages_are_asked_for(client, server):
    ids = list(server.base.resources["sessions"])

    def meddle(request):
        if ("offset", "10") in request.query:
            server.base.remove("sessions", ids[0])

    n_datasets = len(server.base.resources["datasets"])
    server.on_request = meddle
    assert len(client.follow("/sessions?limit=10")) == len(ids) - 1
    assert len(server.base.resources["datasets"]) < n_datasets


def test_a_weighing_without_a_time_breaks_its_subject(client, server):
    weighing = next(iter(server.base.rows("weighings")))
    server.base.edit("weighings", weighing.id, date_time=None)
    assert client.ask("/subjects").status_code == client.ask("/subjects/NL_001").status_code == 500
    assert client.ask("/subjects?lab=southlab").status_code == 200
    assert client.ask("/subjects/TWIN_01").json()["detail"].endswith("it returned 2!")


def test_copies_have_ids_and_paths_of_their_own(shared):
    with AlyxServer.of_recordings(shared / "data" / SETS[0], copies=3) as server:
        files, datasets = server.base.resources["files"], server.base.resources["datasets"]
        assert (len(datasets), len(files)) == (3 * 1510, 3 * 2339)
        assert len({(row.shown["data_repository"], row.shown["relative_path"]) for row in files.values()}) == len(files)
        owners = {row.shown["dataset"] for row in files.values()}
        assert owners <= {row.shown["url"] for row in datasets.values()}
        for row in datasets.values():
            assert {record["id"] for record in row.shown["file_records"]} <= files.keys()


def test_the_small_base_agrees_with_itself():
    for base in small_days():
        files = base.resources["files"]
        paths = {(row.shown["data_repository"], row.shown["relative_path"]) for row in files.values()}
        assert len(paths) == len(files)
        held = [record["id"] for row in base.rows("datasets") for record in row.shown["file_records"]]
        assert sorted(held) == sorted(files)


def test_one_reads_the_replay_as_it_reads_alyx(shared, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    webclient = pytest.importorskip("one.webclient", reason="pip install ONE-api to compare with its client")
    with AlyxServer.of_recordings(shared / "data" / SETS[0]) as server:
        client = webclient.AlyxClient(
            base_url=server.url, username=server.user, password=server.password, silent=True, cache_dir=tmp_path
        )
        assert len(client.rest("sessions", "list")) == 121
        eid = "be397dee-c450-49f8-80a4-79a3825c4cb6"
        assert client.rest("sessions", "read", id=eid)["subject"] == "PL_004"
        assert len(list(client.rest("datasets", "list", django="session__lab__name,cortexlab"))) == 532

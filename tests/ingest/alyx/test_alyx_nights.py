"""How much a night asks of an Alyx, and what it does about a server that answers in its own way."""

import contextlib
import datetime as dt

import alyx_rows
import pytest
from alyx_server import AlyxServer
from alyx_small_base import small_base, small_days, surgery
from alyx_truth import TABLES, all_wrong, vanished, wrong

from labweave.errors import LabweaveError
from labweave.formats.alyx import client as alyx_client
from labweave.ingest.alyx.plan import DIGITS, NIGHTS, Choice, files_of_nights
from labweave.schemas import dataset, ingestion, session, subject

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def no_long_waits(monkeypatch):
    """Try again at once what is tried again."""
    monkeypatch.setattr(alyx_client, "FIRST_WAIT_SECONDS", 0.01)


# what it does


class Inflating(AlyxServer):
    """Counts more datasets than it has, as a join without distinct does."""

    def _list(self, request):
        answer = super()._list(request)
        if request.resource == "datasets":
            answer.body = answer.body.replace(b'{"count": ', b'{"count": 1', 1)
        return answer


def test_an_inflated_count_is_not_taken_for_complete(database, monkeypatch):
    with Inflating([small_base()]) as server:
        server.log_in(monkeypatch)
        assert server.sync().exit_code == 1
    assert not dataset.Dataset()
    assert set(vanished("datasets").values()) == set()


def test_a_server_of_short_pages_is_pulled_whole(database, monkeypatch):
    monkeypatch.setattr(alyx_rows, "MAX_LIMIT", 23)
    with AlyxServer([small_base()]) as server:
        server.log_in(monkeypatch)
        assert server.sync().exit_code == 0
        assert all_wrong(server.base) == []


# what a night asks


@pytest.fixture
def server(monkeypatch):
    with AlyxServer(small_days()) as opened:
        opened.log_in(monkeypatch)
        yield opened


def edit_as_now(server, resource, row_id, stamp, **values):
    server.base.edit(resource, row_id, auto_datetime=stamp.isoformat(), **values)


def test_nothing_is_asked_twice(database, server):
    for _ in range(3):
        began = len(server.log)
        server.sync()
        asked = [(r.path, tuple(r.query)) for r in server.log[began:]]
        assert len(asked) == len(set(asked))
        if server.day == 1:
            server.advance()


def test_a_quiet_night_reads_no_dataset_file_or_detail_again(database, server):
    server.sync()
    began = len(server.log)
    server.sync()
    rows = {}
    for request in server.log[began:]:
        rows[request.resource] = rows.get(request.resource, 0) + (request.n_rows or 0)
    assert [rows[name] for name in ("datasets", "insertions", "trajectories", "channels", "files")] == [0] * 5
    assert not [r for r in server.log[began:] if r.path.startswith("/sessions/")]


def test_a_change_that_gets_a_stamp_which_is_known_arrives(database, server):
    # One update gives many rows one stamp: some were read with it, another was not there yet.
    now = dt.datetime.now(dt.timezone.utc).replace(tzinfo=None)
    first, second = list(server.base.resources["datasets"])[:2]
    eid, other = list(server.base.resources["sessions"])[:2]
    edit_as_now(server, "datasets", first, now, hash="a" * 32)
    edit_as_now(server, "sessions", eid, now, narrative="seen")
    server.sync()
    edit_as_now(server, "datasets", second, now, hash="b" * 32)
    edit_as_now(server, "sessions", other, now, narrative="not yet seen")
    assert server.sync().exit_code == 0
    assert all_wrong(server.base) == []


def test_a_change_that_was_read_half_way_is_read_again(database, server):
    # A request of Alyx is no transaction: the stamp may be there before the rest.
    now = dt.datetime.now(dt.timezone.utc).replace(tzinfo=None)
    row_id, eid = next(iter(server.base.resources["datasets"])), next(iter(server.base.resources["sessions"]))
    edit_as_now(server, "datasets", row_id, now)
    edit_as_now(server, "sessions", eid, now)
    server.sync()
    server.base.edit("datasets", row_id, version="the rest")
    server.base.edit("sessions", eid, users=["grace"])
    assert server.sync().exit_code == 0
    assert all_wrong(server.base) == []


def test_a_server_that_does_not_take_excluded_stamps_is_asked_without(database, server):
    server.sync()
    server.advance()
    server.fail("500", 10_000, match="~")
    assert server.sync().exit_code == 0
    assert all_wrong(server.base) == []


def test_changed_files_arrive_after_an_interruption_between_the_stages(database, server, monkeypatch):
    server.sync()
    server.advance()
    server.fail("503", 6, match=r"/files\?.*dataset__auto_datetime")
    monkeypatch.setattr(alyx_client, "ATTEMPTS", 1)
    first = None
    with contextlib.suppress(LabweaveError):
        first = server.sync()
    assert first is None or first.exit_code == 1
    server.forgive()
    assert server.sync().exit_code == 0
    assert all_wrong(server.base) == []


# names that the server does not show where they are meant


def test_a_renamed_procedure_has_its_new_name_in_surgeries_and_sessions(database, server):
    procedure = next(iter(server.base.rows("procedures")))
    server.base.put("surgeries", surgery(procedure.id))
    eid = next(iter(server.base.resources["sessions"]))
    server.base.edit("sessions", eid, procedures=[procedure.shown["name"]])
    server.sync()
    server.base.edit("procedures", procedure.id, name="Ephys, chronic")
    server.base.edit("sessions", eid, procedures=["Ephys, chronic"])  # as the server shows it: no stamp moves
    report = server.sync()
    assert (report.exit_code, report.resources["surgeries"].changed) == (0, 1)
    assert subject.Surgery().fetch1("surgery_procedures") == ["Ephys, chronic"]
    assert (session.SessionProcedure & {"eid": eid}).to_arrays("procedure").tolist() == ["Ephys, chronic"]
    assert server.sync().resources["surgeries"].changed == 0


# subjects that the server can't show


@pytest.mark.parametrize("nickname", ["NL_001", "TWIN_01"])
def test_all_that_belongs_to_a_subject_which_the_server_cannot_show_arrives(database, server, nickname):
    base = server.base
    water = {
        "url": f"{alyx_rows.ORIGIN}/water-administrations/{alyx_rows.made_uuid('water')}", "subject": nickname,
        "date_time": None, "water_administered": 1.5, "water_type": "Water", "user": "ada", "session": None,
        "adlib": False,
    }  # fmt: skip
    lost = next(row for row in base.rows("subjects") if row.shown["nickname"] == nickname)
    administration = base.put("water-administrations", water, owner=lost.id)
    for night in range(2):
        began = len(server.log)
        report = server.sync()
        assert report.exit_code == 1
        (failure,) = report.failures
        assert failure.path == f"subjects/{lost.id}"
        assert f"{server.url}/admin/actions/wateradministration/{administration.id}/change/" in failure.message
        assert [line for name in TABLES if name != "subjects" for line in wrong(base, name)] == []
        row = (subject.Subject & {"subject_uuid": lost.id}).fetch1()
        assert (row["subject"], row["lab"]) == (nickname, lost.shown["lab"])
        asked = [request for request in server.log[began:] if request.resource == "subjects"]
        assert night == 0 or len(asked) < 30  # its id is known now
    base.edit("water-administrations", administration.id, date_time="2026-02-01T09:00:00")
    assert server.sync().exit_code == 0
    assert all_wrong(base) == []


def test_a_subject_that_was_known_keeps_what_is_known_while_the_server_cannot_show_it(database, server):
    server.sync()
    before = subject.Subject().to_dicts(order_by="subject_uuid")
    weighing = next(iter(server.base.rows("weighings")))
    server.base.edit("weighings", weighing.id, date_time=None)
    report = server.sync()
    assert report.exit_code == 1
    assert f"/admin/actions/weighing/{weighing.id}/change/" in report.failures[0].message
    assert subject.Subject().to_dicts(order_by="subject_uuid") == before


# what moves no stamp and no count


def let_pass(days):
    """Let the syncs so far be older by some days."""
    for row in ingestion.Run().to_dicts():
        ingestion.Run.update1({"run": row["run"], "started": row["started"] - dt.timedelta(days=days)})


def move_files(base, rows):
    """Give files another path, as a bulk update does: no stamp moves."""
    for row in rows:
        path = f"moved/{row.shown['relative_path']}"
        base.edit("files", row.id, relative_path=path)


def swap_tag(base):
    """Take a tag from one dataset and give it to another."""
    rows = list(base.rows("datasets"))
    one, other = (next(row for row in rows if bool(row.shown["tags"]) is has_any) for has_any in (True, False))
    one_tags, other_tags = one.shown["tags"], other.shown["tags"]
    base.edit("datasets", one.id, tags=other_tags)
    base.edit("datasets", other.id, tags=one_tags)


def test_what_moves_no_stamp_and_no_count_arrives_within_thirty_nights(database, server):
    server.sync()
    move_files(server.base, [next(iter(server.base.rows("files")))])
    swap_tag(server.base)
    let_pass(days=30)  # nights without a sync are made up for by the next one
    assert server.sync().exit_code == 0
    assert all_wrong(server.base) == []


@pytest.mark.parametrize("last", [0, 1, 29])
def test_thirty_nights_list_every_file_once(database, last):
    nights = range(739_000 + last, 739_030 + last)
    ranges = sorted(tuple(scope["range"]) for _, scope in files_of_nights("alyx", nights))
    assert ranges[0][0] == "00000000-0000-0000-0000-000000000000" and ranges[-1][1] == ""
    assert [low for low, _ in ranges[1:]] == [high for _, high in ranges[:-1]]


def test_a_night_lists_a_thirtieth_of_the_files(database, monkeypatch):
    with AlyxServer(small_days(n_sessions=150)) as server:
        server.log_in(monkeypatch)
        server.sync()
        n_files = len(server.base.resources["files"])
        quiet, began = [], len(server.log)
        for days in (0, 1):
            let_pass(days)
            server.sync()
            quiet.append(server.log[began:])
            began = len(server.log)
        assert len(quiet[1]) <= len(quiet[0]) + 1
        rows = [sum(request.n_rows or 0 for request in log if request.resource == "files") for log in quiet]
        assert rows[0] == 0 < rows[1] < n_files / 20


def test_files_that_were_moved_together_are_all_found_on_the_night_that_finds_one(database, server):
    server.sync()
    move_files(server.base, server.base.rows("files"))
    let_pass(days=1)
    assert server.sync().exit_code == 0
    assert wrong(server.base, "files") == []


@pytest.mark.parametrize("first", range(739_000, 739_060, 7))
def test_thirty_nights_have_every_turn_whichever_night_is_the_first(first):
    choices = [Choice("alyx", nights=(night,)) for night in range(first, first + NIGHTS)]
    for of in (2, 7, NIGHTS):
        assert set.union(*(choice.turns(of) for choice in choices)) == set(range(of))
    halves = {DIGITS[night // 2 % len(DIGITS)] for (night,) in (choice.nights for choice in choices) if night % 2}
    assert len(halves) == NIGHTS / 2
    assert Choice("alyx").turns(7) == set(range(7))


def test_labels_that_were_renamed_arrive_within_two_nights(database, server):
    for resource, label in (("insertions", "model"), ("trajectories", "coordinate_system")):
        for row in server.base.rows(resource):
            server.base.edit(resource, row.id, **{label: "old name"})
    server.sync()
    for resource, label in (("insertions", "model"), ("trajectories", "coordinate_system")):
        for row in server.base.rows(resource):
            server.base.edit(resource, row.id, **{label: "new name"})
    for _ in range(2):
        let_pass(days=1)
        assert server.sync().exit_code == 0
    assert all_wrong(server.base) == []


def test_a_renamed_probe_model_arrives_the_next_night(database, server):
    for name in ("old name", "new name"):
        server.sync()
        for resource, label in (("insertions", "model"), ("trajectories", "coordinate_system")):
            for row in server.base.rows(resource):
                server.base.edit(resource, row.id, **{label: name})
        server.sync(full=name == "old name")
    assert server.sync().exit_code == 0
    assert all_wrong(server.base) == []


def test_the_atlas_is_read_again_when_it_has_more_or_fewer_regions(database, server):
    server.sync()
    began = len(server.log)
    server.sync()
    assert sum(request.n_rows or 0 for request in server.log[began:] if request.resource == "brain-regions") == 0
    shown = server.base.resources["brain-regions"]["3"].shown
    server.base.put("brain-regions", {**shown, "id": 30, "acronym": "R30", "parent": 3})
    server.base.put("brain-regions", {**shown, "id": 31, "acronym": "R31", "parent": 3})
    server.base.remove("brain-regions", "9")
    assert server.sync().exit_code == 0
    assert wrong(server.base, "brain-regions") == []
    assert set(vanished("brain-regions")) == {(float(number),) for number in (0, 1, 2, 3, 9, 30, 31)}


def test_a_server_without_an_atlas_is_synced(database, server):
    server.fail("404", 10_000, match="/brain-regions")
    assert server.sync().exit_code == 0

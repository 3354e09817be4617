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
from labweave.schemas import dataset, session, subject

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

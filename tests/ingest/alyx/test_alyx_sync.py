"""A whole Alyx in the tables: the first night, the second, one on which nothing happened, and bad ones."""

import contextlib
import dataclasses
import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys

import datajoint as dj
import pytest
import requests
from alyx_filters import last_part
from alyx_recordings import load_recordings
from alyx_server import AlyxServer
from alyx_small_base import facts, render, small_days
from alyx_truth import TABLES, all_wrong, contains, found, moment, plain, present, vanished, wrong
from conftest import drop_schemas
from simulated import contents, differences

import labweave
from labweave import ingest, populate
from labweave.errors import LabweaveError
from labweave.formats.alyx import client as alyx_client
from labweave.ingest.alyx import tables as alyx
from labweave.ingest.alyx.plan import DETAILS_PER_PART
from labweave.schemas import dataset, ingestion, lab, session, subject

pytestmark = pytest.mark.slow

SETS = ("alyx_rest", "alyx_rest_day2")
N_CHANGES = 60
# What a night over an unchanged Alyx may write: that it took place.
BOOKKEEPING = {"ingestion.run", "alyx.sync_run", "alyx.sync_part", "alyx._sync_page", "alyx.__sync_page"}
CREDENTIALS = ("LABWEAVE_ALYX_USER", "LABWEAVE_ALYX_PASSWORD", "LABWEAVE_ALYX_TOKEN")
# A field of Alyx -> the attribute that holds it, where a change of the recorded day names it.
ATTRIBUTES = {
    "subjects": {"nickname": "subject", "description": "subject_description"},
    "datasets": {"name": "dataset_name", "qc": "dataset_qc", "default_dataset": "is_default"},
    "files": {"exists": "present"},
    "water-restriction": {"end_time": "restriction_end"},
    "tags": {"protected": "is_protected"},
    "users": {"username": "user"},
    "projects": {"name": "project"},
}
KEYS_OF_VANISHED = {"session.session": ("eid",), "dataset.dataset": ("dataset_id",), "lab.project": ("project",)}
LINKED = {
    ("sessions", "projects"): session.SessionProject,
    ("sessions", "users"): session.SessionUser,
    ("sessions", "procedures"): session.SessionProcedure,
    ("datasets", "tags"): dataset.DatasetTag,
    ("datasets", "file_records"): dataset.FileRecord,
}


@pytest.fixture(autouse=True)
def no_long_waits(monkeypatch):
    """Try again at once what is tried again."""
    monkeypatch.setattr(alyx_client, "FIRST_WAIT_SECONDS", 0.01)


@pytest.fixture
def server(monkeypatch):
    """A small invented Alyx, its login in the environment."""
    with AlyxServer(small_days(), password="swordfish-1") as opened:
        opened.log_in(monkeypatch)
        yield opened


def present_rows(url, prefix):
    """Return the rows of a prefix that mirror the server, without those that vanished and what hangs on them."""
    rows, gone = {}, set()
    for table, held in contents((url, prefix)).items():
        schema, _, name = table.partition(".")
        if schema in ("lab", "subject", "session", "dataset") and "~" not in name:
            rows[table] = set()
            for row in map(dict, held):
                mark = next((column for column in row if column.endswith("_vanished")), None)
                if mark and row[mark] != "None":
                    gone |= {(name, value) for name, value in row.items() if name in KEYS_OF_VANISHED.get(table, ())}
                else:
                    rows[table].add(tuple((name, value) for name, value in row.items() if name != mark))
    return {table: {row for row in held if gone.isdisjoint(row)} for table, held in rows.items()}


# the recorded Alyx


@dataclasses.dataclass
class Nights:
    """What the nights of a recorded Alyx left behind."""

    changes: list
    bases: list
    wrong: list
    n_rows: list
    outputs: list
    n_requests: list
    before_quiet: dict
    after_quiet: dict
    tables: dict
    history: list
    links: dict
    notes: list
    vanished: dict
    day2: dict
    fresh: dict


@pytest.fixture(scope="module")
def nights(request, database_url, tmp_path_factory):
    """Pull day 1, again, then day 2, and day 2 into another prefix, by the command."""
    shared = request.getfixturevalue("shared") / "data"
    folder = tmp_path_factory.mktemp("nights")
    bases = [load_recordings(shared / name) for name in SETS]
    prefixes = [f"lw{os.getpid()}n{n}_" for n in range(2)]
    outputs, n_requests, wrongs, n_rows = [], [], [], []
    with AlyxServer.of_recordings(*(shared / name for name in SETS)) as server:

        def night(prefix, **options):
            asked = len(server.log)
            outputs.append(run_command(database_url, prefix, server, folder, **options))
            n_requests.append(len(server.log) - asked)
            with labweave.connect(database_url, prefix=prefix):
                wrongs.append(all_wrong(bases[server.day - 1]))
                n_rows.append({resource: len(found(resource)) for resource in TABLES})

        try:
            night(prefixes[0])
            before = contents((database_url, prefixes[0]))
            night(prefixes[0])
            after = contents((database_url, prefixes[0]))
            server.advance()
            night(prefixes[0])
            night(prefixes[1])
            with labweave.connect(database_url, prefix=prefixes[0]):
                result = Nights(
                    changes=json.loads((shared / SETS[1] / "changes.json").read_text("utf-8"))["changes"],
                    bases=bases,
                    wrong=wrongs,
                    n_rows=n_rows,
                    outputs=outputs,
                    n_requests=n_requests,
                    before_quiet=before,
                    after_quiet=after,
                    tables={resource: found(resource) for resource in TABLES},
                    history=ingestion.Change().to_dicts(),
                    links={table.__name__: present(table) for table in LINKED.values()},
                    notes=present(session.SessionNote),
                    vanished={resource: vanished(resource) for resource in TABLES},
                    day2=present_rows(database_url, prefixes[0]),
                    fresh=present_rows(database_url, prefixes[1]),
                )
        finally:
            for prefix in prefixes:
                drop_schemas(database_url, prefix)
    return result


def run_command(url, prefix, server, folder, *arguments, check=(0,)):
    environment = {name: value for name, value in os.environ.items() if name not in CREDENTIALS}
    result = subprocess.run(
        [sys.executable, "-m", "labweave", "ingest", "alyx", server.url, *arguments],
        cwd=folder,
        env={
            **environment,
            "LABWEAVE_DATABASE_URL": url,
            "LABWEAVE_PREFIX": prefix,
            "LABWEAVE_ALYX_USER": server.user,
            "LABWEAVE_ALYX_PASSWORD": server.password,
            "COLUMNS": "200",
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode in check, result.stdout + result.stderr
    return result.stdout + result.stderr


@pytest.mark.parametrize("night", range(4), ids=["day 1", "day 1 again", "day 2", "day 2 afresh"])
def test_the_tables_hold_what_the_server_shows(nights, night):
    assert nights.wrong[night] == []
    base = nights.bases[night // 2]
    assert nights.n_rows[night] == {resource: len(base.resources[resource]) for resource in TABLES}


def test_a_night_on_which_nothing_happened_writes_nothing(nights):
    assert set(differences(nights.before_quiet, nights.after_quiet)) <= BOOKKEEPING
    assert nights.n_requests[1] < nights.n_requests[0] / 2


def test_after_the_second_day_the_tables_equal_a_fresh_pull(nights):
    different = {
        table: (sorted(nights.day2[table] - rows), sorted(rows - nights.day2[table]))
        for table, rows in nights.fresh.items()
        if nights.day2[table] != rows
    }
    assert different == {}
    assert sum(map(len, nights.fresh.values())) > 5000


@pytest.mark.parametrize("number", range(N_CHANGES))
def test_a_change_of_the_recorded_day_arrives(nights, number):
    change = nights.changes[number]
    resource, keys = change["resource"], change["key"].split(",")
    if resource == "downloads":
        pytest.skip("labweave keeps no downloads")
    if resource == "notes":
        assert (change["key"], change["after"]["text"]) in {(row.get("eid"), row["note_text"]) for row in nights.notes}
        return
    if change["change"] == "delete":
        for kind, ids in {resource: keys, **change.get("cascade", {})}.items():
            for key in ids:
                assert nights.vanished[kind].get((key,)), f"{kind} {key} is not marked"
        return
    if resource == "water-restriction":
        keys = [change["key"].partition("@")[0]]
    if (resource, change["change"]) == ("projects", "rename"):
        assert nights.vanished["projects"][change["key"],]
        keys = [change["after"]["name"]]
    rows = [row for key, row in nights.tables[resource].items() if any(part in keys for part in key)]
    assert len(rows) == len(keys) or resource == "water-restriction"
    for row in rows:
        check_values(nights, resource, row, change.get("after", {}))
    if change["change"] != "insert" and resource != "projects":
        check_history(nights, resource, change.get("before", {}))


def check_values(nights, resource, row, values):
    """The new values are there: in an attribute, in linked rows, or in the row's JSON."""
    for name, value in values.items():
        attribute = ATTRIBUTES.get(resource, {}).get(name, name)
        if (resource, name) in LINKED:
            key = {"sessions": "eid", "datasets": "dataset_id"}[resource]
            linked = [one for one in nights.links[LINKED[resource, name].__name__] if one[key] == row[key]]
            wanted = [value.removeprefix("+")] if isinstance(value, str) else value
            assert set(wanted) <= {part for one in linked for part in one.values() if isinstance(part, str)}, name
        elif attribute in row:
            assert plain(row[attribute]) == as_held(value), attribute
        else:
            held = next(content for column, content in row.items() if column.endswith("_json"))
            assert contains(held, value) or all(contains(held, one) for one in value.values()), name


def check_history(nights, resource, values):
    """The old values are kept."""
    for name, value in values.items():
        attribute = ATTRIBUTES.get(resource, {}).get(name, name)
        old = [row["old_values"][attribute] for row in nights.history if attribute in (row["old_values"] or {})]
        assert as_held(value) in [as_held(one) for one in old], (name, value)


def as_held(value):
    """Return a value of Alyx or of a history as `plain` gives that of a table."""
    is_time = isinstance(value, str) and re.match(r"\d{4}-\d\d-\d\d[T ]\d\d:", value)
    return moment(value) if is_time else plain(value)


def test_a_note_on_a_session_that_is_gone_is_left_out(nights):
    # It stays on the server when its session goes; without that session it has no place here.
    assert "1 notes left out: what they belong to is no longer on the server" in nights.outputs[3]


def test_no_credentials_are_kept_or_shown(nights):
    said = "\n".join(nights.outputs) + repr(nights.after_quiet)
    assert "alyx-sync" not in said and "bbbbbbbb1111" not in said


# a small Alyx, good days


def test_a_small_alyx_arrives_whole(database, server):
    report = server.sync()
    assert report.exit_code == 0
    assert all_wrong(server.base) == []


def test_a_day_of_changes_arrives_without_a_full_pull(database, server):
    server.sync()
    server.advance()
    report = server.sync()
    assert report.exit_code == 0
    assert all_wrong(server.base) == []


def test_the_second_night_writes_nothing(database, server):
    server.sync()
    before = contents(database)
    report = server.sync()
    assert set(differences(before, contents(database))) <= BOOKKEEPING
    assert (report.new, report.changed) == (0, 0)


def test_a_first_sync_overwrites_nothing(database, server):
    server.sync()
    assert len(ingestion.Change()) == 0


def test_two_datasets_may_have_the_same_place_and_name(database, server):
    server.sync()
    same = {}
    for row in dataset.Dataset().to_dicts():
        if row["eid"]:
            same.setdefault((row["eid"], row["collection"], row["revision"], row["dataset_name"]), []).append(row)
    assert [len(rows) for rows in same.values() if len(rows) > 1] == [2]


def test_text_of_any_length_and_alphabet_comes_back_whole(database, server):
    server.sync()
    row = next(row for row in server.base.rows("sessions") if (row.detail or {})["narrative"])
    stored = (session.Session & {"eid": row.id}).fetch1()
    assert row.detail["narrative"] in (stored["narrative"], *strings(stored["session_json"]))
    mouse = next(row for row in server.base.rows("subjects") if row.shown["nickname"] == "NL_001")
    stored = (subject.Subject & {"subject_uuid": mouse.id}).fetch1()
    assert mouse.shown["description"] in (stored["subject_description"], *strings(stored["subject_json"]))
    odd = next(row for row in server.base.rows("sessions") if (row.detail or {})["json"] == "a bare string")
    assert contains((session.Session & {"eid": odd.id}).fetch1("session_json"), "a bare string")


def strings(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for one in value.values() if isinstance(value, dict) else value:
            yield from strings(one)


def test_a_dry_run_writes_nothing(database, server):
    before = contents(database)
    server.sync(dry_run=True)
    assert differences(before, contents(database)) == {}


def test_some_subjects_alone(database, server):
    server.sync(subjects=["Mäuschen_01"])
    assert {row["subject"] for row in present(session.Session)} == {"Mäuschen_01"}
    eids = {row.id for row in server.base.rows("sessions") if row.shown["subject"] == "Mäuschen_01"}
    assert set(session.Session().to_arrays("eid").tolist()) == eids
    held = {row.id for row in server.base.rows("datasets") if last_part(row.shown["session"]) in eids}
    assert set(dataset.Dataset().to_arrays("dataset_id").tolist()) == held
    server.sync()
    assert all_wrong(server.base) == []


def test_only_filters_that_an_endpoint_has_are_sent(database, server):
    server.sync()
    server.advance()
    server.sync()
    for request in server.log:
        if request.method == "GET" and request.path.count("/") == 1:
            assert {name for name, _ in request.query} <= server.base.parameters[request.resource], request
            assert request.status == 200, request


def test_no_offset_is_used_where_rows_could_be_lost(database, monkeypatch):
    with AlyxServer(small_days(n_sessions=66)) as server:
        server.log_in(monkeypatch)
        server.sync()
        assert all_wrong(server.base) == []
        past = {r.resource for r in server.log for n, v in r.query if n == "offset" and 0 < int(v) < r_count(server, r)}
    assert not past & {"datasets", "files", "sessions", "weighings", "insertions"}


def r_count(server, request):
    return len(server.base.resources[request.resource])


def test_a_renamed_location_arrives_in_its_sessions(database, server):
    server.sync()
    old = next(
        row for row in server.base.rows("locations") if (session.Session & {"session_location": row.shown["name"]})
    )
    name, new = old.shown["name"], "Raum 7 (früher anders)"
    eids = {row.id for row in server.base.rows("sessions") if (row.detail or {})["location"] == name}
    server.base.edit("locations", old.id, name=new)
    for eid in eids:
        server.base.edit("sessions", eid, location=new)  # as the server shows it: no stamp moves
    assert server.sync().exit_code == 0
    assert set((session.Session & {"session_location": new}).to_arrays("eid").tolist()) == eids
    assert not session.Session & {"session_location": name}
    assert (lab.Location & {"location": name}).fetch1("location_vanished")
    assert (lab.Location & {"location": new}).fetch1("location_vanished") is None


def test_a_renamed_repository_arrives_in_its_files(database, server):
    server.sync()
    name = next(row.shown["data_repository"] for row in server.base.rows("files"))
    old = next(row for row in server.base.rows("data-repository") if row.shown["name"] == name)
    files = [row.id for row in server.base.rows("files") if row.shown["data_repository"] == name]
    server.base.edit("data-repository", old.id, name="umbenannt")
    for row_id in files:
        server.base.edit("files", row_id, data_repository="umbenannt")
    assert server.sync().exit_code == 0
    assert len(dataset.FileRecord & {"repository": "umbenannt"}) == len(files)
    assert not dataset.FileRecord & {"repository": name}


def test_it_is_known_whose_a_dataset_without_a_session_is(database, server):
    server.sync()
    rows = {row["dataset_id"]: row for row in dataset.AggregateDataset().to_dicts()}
    shown = [row for row in server.base.rows("datasets") if not row.shown["session"]]
    assert set(rows) == {row.id for row in shown} != set()
    for row in shown:
        path = row.shown["file_records"][0]["relative_path"]
        held = rows[row.id]
        assert path.startswith(f"aggregates/{held['aggregate_relation']}/{held['aggregate_identifier']}/")


def test_results_are_made_again_from_a_dataset_that_changed(database, server):
    own = dj.Schema(f"{database.connection.prefix}ownwork", connection=database.connection, context=globals())

    class Size(dj.Computed):
        definition = """
        # one number that somebody's own pipeline computes
        -> dataset.Dataset
        ---
        content_hash : varchar(64)
        """

        def make(self, key):
            self.insert1({**key, "content_hash": (dataset.Dataset & key).fetch1("hash")})

    size = own(Size)
    try:
        server.sync()
        size.populate()
        changed, other, *_ = (row for row in server.base.rows("datasets"))
        server.base.edit("datasets", changed.id, hash="c" * 32, auto_datetime="2026-04-01T10:00:00")
        server.base.edit("datasets", other.id, qc="FAIL", auto_datetime="2026-04-01T10:00:00")
        report = server.sync()
        assert report.outdated == {"ownwork.Size": 1}
        assert "ownwork.Size: 1 results to be made again" in str(report)
        size.populate()
        assert (size & {"dataset_id": changed.id}).fetch1("content_hash") == "c" * 32
        assert len(size()) == len(dataset.Dataset())
    finally:
        own.drop(prompt=False)


# a small Alyx, bad days


@pytest.mark.parametrize("apart", [1, 6])
def test_what_passes_does_no_harm(database, server, apart):
    kinds = ["500", "502", "503", "504", "429", "drop", "cut", "slow", "token"]
    for kind in kinds:
        server.fail(kind, after=apart, retry_after=0, seconds=0.3)
    report = server.sync()
    assert report.exit_code == 0 and server.faults_left == 0
    assert all_wrong(server.base) == []


def test_an_expired_token_is_renewed(database, server):
    count = itertools.count()
    server.on_request = lambda request: server.expire_token() if next(count) == 15 else None
    assert server.sync().exit_code == 0
    assert all_wrong(server.base) == []
    assert len(server.requests("auth-token")) == 2


@pytest.mark.parametrize("kind", ["500", "html", "bad_json", "cut"])
def test_what_stays_broken_fails_alone_and_is_repeated(database, server, kind):
    server.sync()
    server.advance()
    cursors = alyx.SyncCursor().to_dicts(order_by="resource")
    server.fail(kind, 10_000, match=r"/datasets\?.*limit=1000")
    report = server.sync()
    assert report.exit_code == 1
    assert set(vanished("datasets").values()) == {None}
    kept = [row for row in alyx.SyncCursor().to_dicts(order_by="resource") if row["resource"] == "datasets"]
    assert kept == [row for row in cursors if row["resource"] == "datasets"]
    assert [line for line in wrong(server.base, "weighings") if "should not be there" not in line] == []
    server.forgive()
    populate.retry()
    assert server.sync().exit_code == 0
    assert all_wrong(server.base) == []


def test_a_server_that_goes_away_harms_nothing(database, server):
    server.sync()
    server.advance()
    server.fail("drop", 10_000, match="/(sessions|datasets|files)")
    with contextlib.suppress(LabweaveError):
        assert server.sync().exit_code == 1
    assert set(vanished("sessions").values()) == set(vanished("files").values()) == {None}
    server.forgive()
    assert server.sync().exit_code == 0
    assert all_wrong(server.base) == []


def test_rows_that_come_and_go_during_a_pull_are_right_after_the_next(database, server):
    base = server.base
    fresh = small_days(n_sessions=26)[0]
    numbers = itertools.count()

    def meddle(request):
        number = next(numbers)
        if number == 25:
            for resource in ("sessions", "datasets", "files"):
                for row_id, row in fresh.resources[resource].items():
                    if row_id not in base.resources[resource]:
                        base.put(resource, row.shown, row.detail)
        if number == 30:
            base.remove("sessions", next(iter(base.resources["sessions"])))

    server.on_request = meddle
    server.sync()
    server.on_request = lambda request: None
    assert server.sync().exit_code == 0
    assert all_wrong(base) == []


def test_when_too_much_is_gone_the_sync_asks_first(database, server):
    server.sync()
    gone = list(server.base.resources["sessions"])[:12]
    for row_id in gone:
        server.base.remove("sessions", row_id)
    report = None
    with contextlib.suppress(LabweaveError):
        report = server.sync()
    assert report is None or report.exit_code == 1
    assert set(vanished("sessions").values()) == set(vanished("datasets").values()) == {None}


def test_a_subject_that_the_server_cannot_show_fails_alone(database, server):
    weighing = next(iter(server.base.rows("weighings")))
    server.base.edit("weighings", weighing.id, date_time=None)
    report = server.sync()
    assert report.exit_code == 1
    held = {row["subject_uuid"] for row in present(subject.Subject)}
    mouse = next(row.id for row in server.base.rows("subjects") if row.shown["nickname"] == "NL_001")
    assert {row.id for row in server.base.rows("subjects")} - held <= {mouse}
    server.base.edit("weighings", weighing.id, date_time="2026-02-01T09:00:00")
    assert server.sync().exit_code == 0
    assert all_wrong(server.base) == []


def test_a_record_that_was_broken_is_read_when_it_heals(database, server):
    server.sync()
    broken, other = list(server.base.resources["datasets"])[:2]
    server.base.edit("datasets", broken, hash="a" * 32, auto_datetime="2026-04-01T10:00:00")
    server.base.edit("datasets", other, hash="b" * 32, auto_datetime="2026-04-02T10:00:00")
    server.broken = {broken}
    assert server.sync().exit_code == 1
    assert (dataset.Dataset & {"dataset_id": other}).fetch1("hash") == "b" * 32
    server.broken = set()
    assert server.sync().exit_code == 0
    assert all_wrong(server.base) == []


def test_a_list_that_fails_on_everything_is_soon_given_up(database, server):
    server.broken = set(server.base.resources["weighings"])
    report = server.sync()
    assert report.exit_code == 1 and report.failed_parts == 1
    assert len(server.requests("weighings")) < 60
    message = next(row["error_message"] for row in alyx.SyncPage().jobs.to_dicts() if row["status"] == "error")
    assert "each of" in message and "records that were asked for fails with status 500" in message
    server.broken = set()
    populate.retry()
    assert server.sync().exit_code == 0
    assert all_wrong(server.base) == []


def test_files_of_a_dataset_that_the_server_cannot_show_say_so(database, server):
    file = next(row for row in server.base.rows("files"))
    owner = last_part(file.shown["dataset"])
    server.broken = {owner}
    report = server.sync()
    assert report.exit_code == 1
    (message,) = [item.message for item in report.failures if item.path == f"files/{file.id}"]
    assert f"dataset.Dataset {owner} can't be read: the server fails on it" in message
    server.broken = set()
    assert server.sync().exit_code == 0
    assert all_wrong(server.base) == []


@pytest.mark.parametrize("attack", ["redirect", "next"])
def test_the_token_goes_to_no_other_server(database, server, attack):
    with AlyxServer([server.base]) as other:
        if attack == "redirect":
            server.fail("redirect", 10_000, match=r"/datasets\?", location=f"{other.url}/datasets")
        else:
            server.next_origin = other.url
        with contextlib.suppress(LabweaveError):
            server.sync()
        assert not [request for request in other.log if request.authorized]


@pytest.mark.parametrize("login", ["right", "wrong"])
def test_no_secret_is_shown_or_stored(database, database_url, server, tmp_path, login, caplog):
    password = server.password
    if login == "wrong":
        server.password = "another"
    environment = {"LABWEAVE_ALYX_USER": server.user, "LABWEAVE_ALYX_PASSWORD": password}
    result = subprocess.run(
        [sys.executable, "-m", "labweave", "--debug", "ingest", "alyx", server.url],
        env={**os.environ, **environment, "LABWEAVE_DATABASE_URL": database_url, "LABWEAVE_PREFIX": database.prefix},
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (result.returncode == 0) is (login == "right")
    said = result.stdout + result.stderr + repr(contents(database))
    assert password not in said and server.token not in said
    if login == "wrong":
        assert "LABWEAVE_ALYX_PASSWORD" in said


def test_a_password_in_the_address_is_refused(database, server):
    address = server.url.replace("http://", f"http://{server.user}:{server.password}@")
    with pytest.raises(LabweaveError) as caught:
        ingest.run("alyx", address)
    assert server.password not in str(caught.value) + repr(contents(database))


def test_killed_anywhere_it_goes_on_where_it_was(database, database_url, tmp_path):
    rng, n_sessions, kills = random.Random(2026), 110, 0
    with AlyxServer([render(facts(n_sessions, 1))]) as server:
        for first, last in ((3, 20), (90, 105), (45, 60)):
            kills += run_until(server, database_url, database.prefix, tmp_path, rng.randint(first, last))
        assert kills == 3
        run_command(database_url, database.prefix, server, tmp_path)
        # Details are the longest part of a sync: of those that were in, none is asked for again. On their way are the
        # part that is being written and the next.
        details = [request for request in server.requests("sessions") if request.path != "/sessions"]
        assert len(details) <= n_sessions + 1 + kills * 2 * DETAILS_PER_PART
        assert all_wrong(server.base) == []


def run_until(server, url, prefix, folder, n_requests):
    """Start a sync, kill it while it waits for its n-th answer, and say whether it was there to be killed."""
    numbers = itertools.count(1)
    process = None

    def kill(request):
        if next(numbers) == n_requests:
            os.killpg(process.pid, signal.SIGKILL)

    server.on_request = kill
    process = subprocess.Popen(
        [sys.executable, "-m", "labweave", "ingest", "alyx", server.url],
        env={
            **os.environ, "LABWEAVE_DATABASE_URL": url, "LABWEAVE_PREFIX": prefix,
            "LABWEAVE_ALYX_USER": server.user, "LABWEAVE_ALYX_PASSWORD": server.password,
        },
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    out, _ = process.communicate(timeout=120)
    server.on_request = lambda request: None
    assert process.returncode in (0, -signal.SIGKILL), out.decode()
    return process.returncode != 0


# a live Alyx


def test_a_live_alyx(database, monkeypatch):
    url = os.environ.get("LABWEAVE_TEST_ALYX_URL")
    if not url:
        pytest.skip("LABWEAVE_TEST_ALYX_URL (with LABWEAVE_TEST_ALYX_USER and _PASSWORD) names no Alyx")
    user, password = os.environ["LABWEAVE_TEST_ALYX_USER"], os.environ["LABWEAVE_TEST_ALYX_PASSWORD"]
    monkeypatch.setenv("LABWEAVE_ALYX_USER", user)
    monkeypatch.setenv("LABWEAVE_ALYX_PASSWORD", password)
    assert ingest.run("alyx", url).exit_code == 0
    login = requests.post(f"{url}/auth-token", data={"username": user, "password": password}, timeout=60)
    headers = {"Authorization": f"Token {login.json()['token']}", "Accept": "application/json"}
    for resource in ("labs", "users", "subjects", "sessions", "insertions", "datasets", "files"):
        count = requests.get(f"{url}/{resource}?limit=1", headers=headers, timeout=300).json()["count"]
        assert len(found(resource)) == count, resource
    before = contents(database)
    assert ingest.run("alyx", url).exit_code == 0
    assert set(differences(before, contents(database))) <= BOOKKEEPING
    assert len(lab.Lab()) > 0

"""Sessions in memory answer as the server does, and only while nobody has written to it."""

import datetime as dt
import random
import time
import uuid

import pytest
from conftest import kill_session

import labweave
from labweave.database import upsert
from labweave.database.connection import LabConnection
from labweave.database.url import parse_url
from labweave.one.api import One
from labweave.one.legacy.face import ONE
from labweave.one.search import warm
from labweave.one.search.questions import Finder
from labweave.one.search.rows import SessionFilter
from labweave.one.search.tables import open_tables
from labweave.schemas import lab, session, subject

LABS = ["cortexlab", "mainenlab", "z lab"]
SUBJECTS = [
    "KS005",
    "ks005",
    "Ä_mouse",
    "A\u0308_mouse",
    "Ωmega",
    "\U0001f401",
    "mouse",
    "mouse "[:5] + "2",
    "%_",
    "'x\\n",
]
PROTOCOLS = ["", "_iblrig_tasks_ephysChoiceWorld6.4.2", "passiveChoiceWorld", "Wörld %_ 'x\\n", "_iblrig"]
PROJECTS = ["brain", "brainwide", "Ünder", "ünder", "brain, wide"]


def fill(n: int, seed: int) -> list[dict]:
    """Put random sessions into the open database and return their rows."""
    rng = random.Random(seed)
    upsert(lab.Lab, [{"lab": name} for name in [*LABS, "nobody's"]])
    animals = [(rng.choice(LABS), name) for name in SUBJECTS] + [(at, "everywhere") for at in LABS]
    upsert(
        subject.Subject,
        [
            {"lab": at, "subject": name, "subject_uuid": str(uuid.UUID(int=rng.getrandbits(128)))}
            for at, name in animals
        ],
    )
    upsert(lab.Project, [{"project": name} for name in [*PROJECTS, "idle"]])
    rows = []
    for _ in range(n):
        at, name = rng.choice(animals)
        day = rng.choice([None, dt.date(1969, 12, 30), *(dt.date(2020, 1, 1) + dt.timedelta(days=k) for k in range(9))])
        start = rng.choice([None, dt.datetime(1969, 7, 20, 3, 4, 5, 678), dt.datetime(2020, 1, 2, 12, 0, 0, 1)])
        rows.append(
            {
                "eid": str(uuid.UUID(int=rng.getrandbits(128))),
                "lab": at,
                "subject": name,
                "path_lab": rng.choice(["", "", "", *LABS, "elsewhere"]),
                "session_date": day,
                "session_number": rng.choice([None, 1, 2, 3, 10, 999]),
                "start_time": start,
                "task_protocol": rng.choice(PROTOCOLS),
                "session_location": rng.choice(["", "rig 1", "Räum 2"]),
                "session_vanished": rng.choice([None] * 6 + [str(uuid.UUID(int=5))]),
            }
        )
    upsert(session.Session, rows)
    upsert(
        session.SessionProject,
        [
            {"eid": row["eid"], "project": name}
            for row in rows
            for name in rng.sample(PROJECTS, rng.choice([0, 0, 1, 2, 4]))
        ],
    )
    return rows


def random_filter(rng: random.Random, eids: list[str]) -> SessionFilter:
    """Return a filter by what may be in memory, of up to three conditions."""
    folders = [*LABS, "elsewhere", "nobody's", "nolab"]
    day = lambda: rng.choice([dt.date(1960, 1, 1), dt.date(2020, 1, 3), dt.date(2020, 1, 5), dt.date(2030, 1, 1)])  # noqa: E731
    some = lambda values: rng.sample(values, rng.randrange(min(4, len(values)) + 1))  # noqa: E731
    columns = {
        "eid": lambda: [*rng.sample(eids, min(len(eids), 60)), *(str(uuid.uuid4()) for _ in range(5)), "no uuid"],
        "lab": lambda: some(folders),
        "subject": lambda: some([*SUBJECTS, "everywhere", "nobody"]),
        "task_protocol": lambda: some([*PROTOCOLS, "none"]),
        "location": lambda: some(["", "rig 1", "Räum 2", "rig"]),
        "projects": lambda: some([*PROJECTS, "idle", "none"]),
        "number": lambda: some([0, 1, 2, 10, 999, -1, 2**40]),
        "date": lambda: [day(), dt.date(2020, 1, 2)],
    }
    chosen = rng.sample([*columns, "first", "last"], rng.randrange(4))
    days = {name: day() for name in chosen if name not in columns}
    return SessionFilter({name: columns[name]() for name in chosen if name in columns}, **days)


def load() -> warm.Sessions:
    return warm.Sessions(Finder(labweave.database.current().connection).sessions(SessionFilter()))


@pytest.fixture
def other(database):
    """Another connection to the same database."""
    connection = LabConnection(database.connection.url, database.connection.prefix)
    yield connection
    connection.close()


def hold(database: labweave.database.Database) -> None:
    """Have the sessions in memory; others may be writing to the same server, so this can take several tries."""
    database.connection.adapter.mark_settles_s = 0
    keeper, end = open_tables().keeper, time.monotonic() + 60
    while keeper.sessions() is None:
        keeper._asked_s = 1e9
        assert time.monotonic() < end, "somebody writes to this server all the time"


@pytest.mark.parametrize("seed", range(3))
def test_memory_and_server_give_the_same_answers(database, seed):
    rows = {row["eid"]: row for row in fill(250, seed)}
    kept, finder, rng = load(), Finder(database.connection), random.Random(seed)
    assert len(kept.eids(SessionFilter())) == sum(row["session_vanished"] is None for row in rows.values())

    def sort_keys(eids):
        found = [rows[eid] for eid in eids]
        return [[row[c] for c in ("session_date", "start_time", "subject", "session_number")] for row in found]

    sizes = set()
    for n in range(120):
        wanted = SessionFilter() if n == 0 else random_filter(rng, list(rows))
        expected, given = finder.eids(wanted), kept.eids(wanted)
        sizes.add(len(given))
        # Sessions alike in all that they are sorted by come in any order.
        assert sorted(given) == sorted(expected) and sort_keys(given) == sort_keys(expected), wanted
        assert [str(each) for each in kept.uuids(wanted)] == given
        assert kept.eids(wanted, 3) == given[:3] and kept.eids(wanted, 0) == []
        found, details = {row.eid: row for row in finder.sessions(wanted)}, kept.sessions(wanted)
        assert [row.eid for row in details] == given and all(row == found[row.eid] for row in details)
    assert len(sizes) > 20
    places = [(rng.choice(SUBJECTS), dt.date(2020, 1, rng.randrange(1, 12)), rng.randrange(5)) for _ in range(300)]
    assert sorted(row[:-1] for row in kept.sessions_at(places)) == sorted(
        row[:-1] for row in finder.sessions_at(places)
    )
    assert len(kept.sessions_at(places)) > 10 and kept.sessions_at([]) == []
    for column in ("lab", "subject", "task_protocol", "location", "projects", "date"):
        assert sorted(map(str, kept.names(column))) == sorted(map(str, finder.names(column)))
    missing_last = [row[0] is None for row in sort_keys(kept.eids(SessionFilter()))]
    assert missing_last == sorted(missing_last)


def test_both_front_ends_answer_alike_from_memory_and_server(database, tmp_path):
    rows = fill(200, 7)
    one, old, eids = One(tmp_path), ONE(offline=True, cache_dir=tmp_path, silent=True), [row["eid"] for row in rows]
    there = [row["eid"] for row in rows if row["session_vanished"] is None and row["session_date"] is not None]
    questions = [
        lambda: one.search(),
        lambda: one.search(subject=["K", "^mouse", "Ω"]),
        lambda: one.search(subject="nobody"),
        lambda: one.search(lab="lab", projects="brain", details=True),
        lambda: one.search(task_protocol=["ephys", "W.rld"], number=[1, 2]),
        lambda: one.search(task_protocol="%_", date_range=["2020-01-02", None]),
        lambda: old.search(lab="CORTEXLAB", project="under"),
        lambda: old.search(lab="nobody's"),
        lambda: old.search(subject="everywhere", details=True, limit=4),
        lambda: one.list_subjects(),
        lambda: one.eid2path([*eids, uuid.UUID(int=3)]),
        lambda: one.eid2path([uuid.UUID(int=3), *map(uuid.UUID, eids)]),
        lambda: one.eid2ref(there, as_dict=False),
        lambda: one.path2eid(one.eid2path(there[0])),
    ]

    def ordered(found):
        if isinstance(found, tuple):
            return sorted(map(str, found[0])), sorted(map(str, found[1]))
        return sorted(map(str, found)) if questions[n] in questions[:9] else found

    for n, ask in enumerate(questions):
        open_tables().keeper._start_again()
        cold = ask()
        hold(database)
        assert ordered(ask()) == ordered(cold), n
    by_hand = {row["eid"]: row for row in rows}
    for eid, path in zip(eids, one.eid2path(eids), strict=True):
        row = by_hand[eid]
        folder = f"{row['path_lab'] or row['lab']}/Subjects/{row['subject']}/{row['session_date']}"
        is_known = row["session_vanished"] is None and row["session_date"] is not None
        assert path == (tmp_path / folder / f"{row['session_number'] or 0:03d}" if is_known else None)


def test_what_another_connection_commits_is_seen_by_the_next_search(database, other):
    """Also when its transaction wrote before the sessions were read and commits afterwards."""
    fill(30, 1)
    tables, table = open_tables(), session.Session.full_table_name
    first, second, third = tables.eids(SessionFilter())[:3]

    def is_there(eid):
        return eid in tables.eids(SessionFilter()) and eid in map(str, tables.uuids(SessionFilter()))

    hold(database)
    other.query(f"delete from {session.SessionProject.full_table_name} where eid = %s", (first,))
    other.query(f"delete from {table} where eid = %s", (first,))
    assert not is_there(first)
    hold(database)
    assert not is_there(first) and is_there(second)
    back = f"update {table} set session_vanished = null, session_number = 1 where eid in (%s, %s)"
    for end in ("commit", "rollback"):
        hold(database)
        other.query("begin")
        other.query(f"update {table} set session_number = 77 where eid = %s", (second,))
        other.query(f"update {table} set session_vanished = %s where eid = %s", (str(uuid.uuid4()), third))
        hold(database)
        assert is_there(third) and tables.eids(SessionFilter({"number": [77]})) == []
        other.query(end)
        if end == "commit":
            assert not is_there(third) and tables.eids(SessionFilter({"number": [77]})) == [second]
            other.query(back, (second, third))
    assert is_there(third) and tables.eids(SessionFilter({"number": [77]})) == []


def test_each_of_many_commits_is_seen(database, other):
    fill(5, 2)
    tables, table = open_tables(), session.Session.full_table_name
    [eid] = tables.eids(SessionFilter(), 1)
    for number in range(100, 160):
        if number % 2:
            hold(database)
        other.query(f"update {table} set session_number = %s where eid = %s", (number, eid))
        assert tables.eids(SessionFilter({"number": [number]})) == [eid]


def test_marks_differ_after_each_commit_and_are_equal_without(database, other):
    fill(3, 3)
    connection, table = database.connection, session.Session.full_table_name
    end = time.monotonic() + 60
    while connection.write_mark() != connection.write_mark():
        assert time.monotonic() < end, "somebody writes to this server all the time"
    other.query("begin")
    other.query(f"update {table} set narrative = 'new'")
    before = connection.write_mark()
    assert before is not None
    other.query("commit")
    assert connection.write_mark() != before


def test_a_user_who_may_not_see_the_log_of_mysql_is_answered_by_the_server(database, database_url):
    connection, source = database.connection, parse_url(database_url)
    if source.backend != "mysql" or connection.adapter.product == "mariadb":
        pytest.skip("only MySQL asks for a right")
    fill(20, 9)
    expected, user = open_tables().eids(SessionFilter()), f"{database.prefix}reader"
    connection.query(f"create user '{user}'@'%%' identified by 'secret'")
    try:
        connection.query(f"grant select on *.* to '{user}'@'%%'")
        database.close()
        url = f"mysql://{user}:secret@{source.host}:{source.port}"
        with labweave.connect(url, prefix=database.prefix) as reading:
            keeper, tables = open_tables().keeper, open_tables()
            for _ in range(3):
                keeper._asked_s = 1e9
                assert tables.eids(SessionFilter()) == expected and reading.connection.write_mark() is None
    finally:
        with labweave.connect(database_url, prefix=database.prefix) as again:
            again.connection.query(f"drop user '{user}'@'%%'")


def test_an_open_transaction_is_asked_of_the_server(database):
    fill(10, 4)
    tables, connection = open_tables(), database.connection
    [eid] = tables.eids(SessionFilter(), 1)
    hold(database)
    with connection.transaction:
        assert connection.write_mark() is None
        (session.Session & {"eid": eid}).delete_quick()
        assert eid not in tables.eids(SessionFilter())
    assert eid not in tables.eids(SessionFilter())
    hold(database)
    [eid] = tables.eids(SessionFilter(), 1)
    connection.query("begin")  # behind DataJoint's back
    connection.query(f"update {session.Session.full_table_name} set session_vanished = %s", (eid,))
    assert tables.eids(SessionFilter()) == []
    connection.query("rollback")
    assert tables.eids(SessionFilter(), 1) == [eid]


def test_a_new_session_reads_anew(database):
    fill(10, 5)
    tables = open_tables()
    found = tables.eids(SessionFilter())
    hold(database)
    kill_session(database)
    assert tables.eids(SessionFilter()) == found
    assert open_tables().keeper.sessions() is None


def test_sessions_are_read_only_after_questions_took_as_long(database, monkeypatch):
    fill(10, 6)
    tables, keeper = open_tables(), open_tables().keeper
    tables.eids(SessionFilter())
    assert keeper.sessions() is None and keeper._mark is None, "one short search needs no mark"
    monkeypatch.setattr(warm, "MOST_SESSIONS", 5)
    keeper._asked_s = 1e9
    database.connection.adapter.mark_settles_s = 0
    end = time.monotonic() + 60
    while keeper._reading_s == warm.FIRST_S and time.monotonic() < end:
        keeper._asked_s = 1e9
        assert keeper.sessions() is None
    keeper._asked_s = 1e9
    assert keeper.sessions() is None and len(tables.eids(SessionFilter())) > 5, "too many are left on the server"


def test_no_sessions_at_all(database):
    kept = load()
    for wanted in (SessionFilter(), SessionFilter({"number": [1]}), SessionFilter({"eid": ["x"], "projects": ["b"]})):
        assert kept.eids(wanted) == kept.uuids(wanted) == kept.sessions(wanted) == []
    assert kept.names("projects") == kept.names("lab") == []


def test_the_parts_of_one_answer_take_one_mark(database, tmp_path, monkeypatch):
    fill(30, 8)
    one, marks, write_mark = One(tmp_path), [], database.connection.write_mark
    expected = one.search(subject="mouse", lab="lab", projects="brain")
    hold(database)
    monkeypatch.setattr(database.connection, "write_mark", lambda: marks.append(write_mark()) or marks[-1])
    found = one.search(subject="mouse", lab="lab", projects="brain")
    assert sorted(map(str, found)) == sorted(map(str, expected)) and len(marks) == 1
    open_tables().keeper._asked_s = 1e9
    one.path2eid(tmp_path / "mouse" / "2020-01-02" / "001")
    assert len(marks) > 1, "the next answer looks again"

"""How fast a sync of Alyx is, beside ONE-api's client on the same server.

The server is the replay of the recorded Alyx, with each dataset several times; `Cost` makes it take the time per
request and row that the real one takes. A full pull of datasets should give at least 1.3 times ONE's rows a second on
one connection and 1.8 times on four, and every row; a night over an unchanged Alyx should cost at most a third of a full
pull of the datasets. LABWEAVE_BENCH_ONE names a Python that has ONE-api.

The database side takes at least 10,000 new datasets a second; its table also says what of that was CPU time, of this
process and of the server's for this session, which other work on the machine blurs less. The memory of a sync does not
grow with the Alyx: LABWEAVE_BENCH_ALYX_ROWS says how many datasets the large one has, 1,000,000 for a long look.
"""

import gc
import json
import os
import re
import subprocess
import sys
import time
import uuid
from pathlib import Path

import alyx_worker
import pytest
from alyx_recordings import load_recordings, multiplied
from alyx_rows import ORIGIN
from alyx_server import AlyxServer, Answer, Cost
from alyx_worker import parts_of, write_part

from labweave.database.connection import LabConnection
from labweave.database.url import parse_url
from labweave.schemas import dataset, ingestion

COPIES = int(os.environ.get("LABWEAVE_BENCH_ALYX_COPIES", 4))
ONE_PYTHON = os.environ.get("LABWEAVE_BENCH_ONE", sys.executable)
LARGE = int(os.environ.get("LABWEAVE_BENCH_ALYX_ROWS", 60_000))
PULL_BY_ONE = """
import sys
from one.webclient import AlyxClient
url, user, password, folder = sys.argv[1:]
client = AlyxClient(base_url=url, username=user, password=password, silent=True, cache_dir=folder)
print(len({row["url"] for row in client.rest("datasets", "list", no_cache=True)}))
"""


@pytest.fixture(scope="module")
def base(request):
    """The recorded base with more datasets."""
    return multiplied(load_recordings(request.getfixturevalue("shared") / "data" / "alyx_rest"), COPIES)


@pytest.fixture(scope="module")
def one_python():
    """A Python that has ONE-api."""
    if subprocess.run([ONE_PYTHON, "-c", "import one.webclient"], capture_output=True).returncode:
        pytest.skip(
            "ONE-api is not installed: pip install ONE-api, or let LABWEAVE_BENCH_ONE name a Python that has it"
        )
    return ONE_PYTHON


def seconds_of(requests):
    """Return the time from the first request to the end of the last."""
    return max(request.ended_s for request in requests) - min(request.began_s for request in requests)


def server_seconds(requests):
    """Return what a server was busy, all requests together."""
    return sum(request.ended_s - request.began_s for request in requests)


def dataset_pages(requests):
    """Return the requests that pulled the datasets themselves, not counts or those of a tag."""
    return [r for r in requests if r.resource == "datasets" and r.n_rows and "tags__" not in str(r.query)]


def rows_of(requests):
    return sum(request.n_rows or 0 for request in requests)


def sync_by_command(url, prefix, server, folder, *arguments):
    """Sync in a process of its own, and return the most memory it had, in MiB."""
    said = Path(folder) / "said.txt"
    with said.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "labweave", "ingest", "alyx", server.url, *arguments],
            env={
                **os.environ, "LABWEAVE_DATABASE_URL": url, "LABWEAVE_PREFIX": prefix,
                "LABWEAVE_ALYX_USER": server.user, "LABWEAVE_ALYX_PASSWORD": server.password,
            },
            cwd=folder, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, said.read_text("utf-8")
    return usage.ru_maxrss / 1024


def count(url, prefix):
    """Return how many datasets a prefix holds."""
    connection = LabConnection(parse_url(url), prefix)
    quote = connection.adapter.quote_identifier
    found = connection.query(f"select count(*) from {quote(prefix + 'dataset')}.{quote('dataset')}").fetchone()[0]
    connection.close()
    return found


def pull_by_one(python, server, folder):
    result = subprocess.run(
        [python, "-c", PULL_BY_ONE, server.url, server.user, server.password, str(folder)],
        env={**os.environ, "HOME": str(folder)}, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return int(result.stdout)


@pytest.mark.parametrize(
    "cost", [Cost(), None], ids=["a server as slow as the real one", "a server that costs nothing"]
)
def test_full_pull_of_datasets_beside_one(database_url, server_name, base, one_python, new_prefix, tmp_path, cost):
    n = len(base.resources["datasets"])
    lines = [f"{'connections':<28}{'rows/s':>10}{'distinct':>10}{'of':>8}"]
    with AlyxServer([base], cost=cost) as server:
        asked = 0
        for name in ("ONE", "1", "4"):
            if name == "ONE":
                distinct = pull_by_one(one_python, server, tmp_path)
            else:
                prefix = new_prefix()
                sync_by_command(database_url, prefix, server, tmp_path, "--workers", name)
                distinct = count(database_url, prefix)
            pulled = dataset_pages(server.log[asked:])
            asked = len(server.log)
            lines.append(f"  {name:<26}{rows_of(pulled) / seconds_of(pulled):>10,.0f}{distinct:>10}{n:>8}")
            assert distinct == n or name == "ONE"
    print(f"\n{server_name}\n" + "\n".join(lines))


def test_a_night_on_which_nothing_happened(database, database_url, server_name, base, tmp_path):
    with AlyxServer([base], cost=Cost()) as server:
        sync_by_command(database_url, database.prefix, server, tmp_path)
        full = dataset_pages(server.log)
        asked, began = len(server.log), time.perf_counter()
        sync_by_command(database_url, database.prefix, server, tmp_path)
        wall_s, quiet = time.perf_counter() - began, server.log[asked:]
    assert ingestion.Run().to_dicts(order_by="started")[-1]["counts"]["changed"] == 0
    print(
        f"\n{server_name}\n  full pull of datasets: {seconds_of(full):.1f} s, server {server_seconds(full):.1f} s"
        f"\n  quiet night: {seconds_of(quiet):.1f} s ({wall_s:.1f} s with start), server {server_seconds(quiet):.1f} s,"
        f" {len(quiet)} requests, {rows_of(quiet)} rows"
        f"\n  ratio: {seconds_of(quiet) / seconds_of(full):.2f} by the clock, "
        f"{server_seconds(quiet) / server_seconds(full):.2f} by the server's time"
    )


def cpu_clock_of(connection):
    """Return a function that gives the CPU seconds of the server's own process or thread for this session."""
    if connection.adapter.backend == "postgresql":
        task = connection.query("select pg_backend_pid()").fetchone()[0]
    elif connection.adapter.product == "mariadb":
        task = connection.query("select tid from information_schema.processlist where id = connection_id()").fetchone()[
            0
        ]
    else:
        task = connection.query(
            "select thread_os_id from performance_schema.threads where processlist_id = connection_id()"
        ).fetchone()[0]
    path = next(Path("/proc").glob(f"[0-9]*/task/{task}/schedstat"), None)
    return lambda: int(path.read_text().split()[0]) / 1e9 if path else float("nan")


@pytest.fixture
def before_datasets(database, shared, monkeypatch):
    """The report of a sync of all but the datasets."""
    day1 = load_recordings(shared / "data" / "alyx_rest")
    day1.resources["datasets"].clear()
    day1.resources["files"].clear()
    day1.changed()
    with AlyxServer([day1]) as server:
        server.log_in(monkeypatch)
        return server.sync()


def test_the_database_side_alone(database, server_name, shared, stopwatch, before_datasets):
    """Datasets that come in the parts of a first sync, from memory instead of a server."""
    parts = parts_of(load_recordings(shared / "data" / "alyx_rest"), COPIES)
    n_records, server_cpu = sum(map(len, parts)), cpu_clock_of(database.connection)
    gc.freeze()  # a sync holds one part, not all of them

    def write_all():
        for part in parts:
            write_part(database.connection, before_datasets.run, before_datasets.source, part)

    began = server_cpu()
    stopwatch("new", write_all)
    server_s = server_cpu() - began
    stopwatch("the same again", write_all)
    gc.unfreeze()
    assert len(dataset.Dataset()) == n_records
    [(_, own_s)] = stopwatch.times["new"]
    print("\n" + stopwatch.table(server_name, n_records, "rows", "new"))
    print(
        f"  CPU a new row: {1e6 * own_s / n_records:.0f} us here, {1e6 * server_s / n_records:.0f} us in the "
        f"server: {n_records / (own_s + server_s):,.0f} rows/s one after the other"
    )


def test_the_database_side_of_two_workers(database, database_url, server_name, shared, before_datasets):
    """The same parts, written by two of the processes that share a sync."""
    command = [
        sys.executable, alyx_worker.__file__, str(shared / "data" / "alyx_rest"), str(COPIES), database_url,
        database.prefix, before_datasets.run, before_datasets.source,
    ]  # fmt: skip
    workers = [
        subprocess.Popen([*command, str(index), "2"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for index in range(2)
    ]
    for worker in workers:
        assert worker.stdout.readline() == "ready\n"
    began = time.perf_counter()
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.close()
    assert [worker.wait() for worker in workers] == [0, 0]
    wall_s, n_rows = time.perf_counter() - began, len(dataset.Dataset())
    assert n_rows == sum(map(len, parts_of(load_recordings(shared / "data" / "alyx_rest"), COPIES)))
    print(f"\n{server_name}\n  two workers, {n_rows:,} new datasets: {n_rows / wall_s:,.0f} rows/s, {wall_s:.2f} s")


class LargeAlyx(AlyxServer):
    """An Alyx with any number of datasets, which are made when they are asked for."""

    def __init__(self, base, n_rows):
        super().__init__([base])
        self.n_rows, self.step = n_rows, 2**128 // n_rows
        self.texts = [json.dumps(row.shown) for row in base.rows("datasets")]
        self.ids = [row.id for row in base.rows("datasets")]
        base.resources["datasets"].clear()
        base.resources["files"].clear()
        base.changed()

    def _list(self, request):
        if request.resource != "datasets":
            return super()._list(request)
        query = dict(request.query)
        given = dict(re.findall(r"(\w+),([^,]*)", query.get("django", "")))
        low, high = (given.get(f"id__{side}", "") for side in ("gte", "lt"))
        first = -(-int(low.replace("-", "") or "0", 16) // self.step)
        end = min(self.n_rows, -(-int(high.replace("-", ""), 16) // self.step)) if high else self.n_rows
        if given.keys() - {"id__gte", "id__lt"}:  # no dataset has a tag
            first = end
        offset, limit = int(query.get("offset", 0)), min(1000, int(query["limit"]))
        numbers = range(first, end)[offset : offset + limit]
        rows = ",".join(self._text(number) for number in numbers)
        following = "null" if offset + limit >= end - first else '"http://x/"'
        request.n_rows = len(numbers)
        body = f'{{"count": {max(0, end - first)}, "next": {following}, "previous": null, "results": [{rows}]}}'
        return Answer(200, body.replace(ORIGIN, self.url).encode())

    def _text(self, number):
        kind = number % len(self.ids)
        return self.texts[kind].replace(self.ids[kind], str(uuid.UUID(int=number * self.step)))


def test_memory_does_not_grow_with_the_alyx(database_url, server_name, shared, new_prefix, tmp_path):
    lines = [f"{'datasets':<28}{'MiB at most':>12}{'rows/s':>10}"]
    for n_rows in (LARGE // 10, LARGE):
        prefix = new_prefix()
        with LargeAlyx(load_recordings(shared / "data" / "alyx_rest"), n_rows) as server:
            most = sync_by_command(database_url, prefix, server, tmp_path)
            pulled = dataset_pages(server.log)
            lines.append(f"  {n_rows:<26,}{most:>12.0f}{rows_of(pulled) / seconds_of(pulled):>10,.0f}")
        assert count(database_url, prefix) == n_rows
    print(f"\n{server_name}\n" + "\n".join(lines))

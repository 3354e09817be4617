"""What the benchmarks share: a new lab on each server, and a stopwatch that prints medians."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import pytest

import labweave
from labweave.database.connection import LabConnection
from labweave.database.url import parse_url
from labweave.errors import LabweaveError

URLS = "embedded: mysql://root:@127.0.0.1:3306 mysql://root:@127.0.0.1:3309 postgresql://postgres@127.0.0.1:5432/test"


@pytest.fixture(scope="session")
def durable() -> bool:
    """What is measured waits for the disk, as in a lab."""
    return True


@pytest.fixture(scope="session", params=os.environ.get("LABWEAVE_BENCH_URLS", URLS).split())
def database_url(request, database_url):
    """Each server of LABWEAVE_BENCH_URLS that answers; ``embedded:`` is one of this run."""
    if request.param == "embedded:":
        return database_url
    try:
        LabConnection(parse_url(request.param), "").close()
    except LabweaveError as error:
        pytest.skip(str(error))
    return request.param


@pytest.fixture
def database(database_url, new_prefix):
    """A new, open database with the default contents; its schemas are dropped afterwards."""
    with labweave.connect(database_url, prefix=new_prefix()) as opened:
        yield opened


class Stopwatch:
    """Times of things done in turns, by the clock and by the CPU of this process."""

    def __init__(self):
        self.times: dict[str, list[tuple[float, float]]] = {}

    def __call__(self, name: str, work: Callable[[], object]) -> None:
        """Do `work` and keep its time under `name`."""
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        work()
        self.times.setdefault(name, []).append((time.perf_counter() - wall_s, time.process_time() - cpu_s))

    def table(self, title: str, n: int, unit: str, reference: str) -> str:
        """Return medians: the time of `n` units, and how often that of `reference` (round by round)."""
        head = f"{title:<28}{unit + '/s':>10}{'wall s':>9}{'CPU s':>8}{'us/' + unit[:-1]:>9}"
        lines = [f"{head}{'wall ratio':>12}{'CPU ratio':>11}"]
        for name, times in self.times.items():
            wall_s, cpu_s = (median(values) for values in zip(*times, strict=True))
            pairs = list(zip(times, self.times[reference], strict=True))
            wall_ratio, cpu_ratio = (median(ours[i] / other[i] for ours, other in pairs) for i in (0, 1))
            lines.append(
                f"  {name:<26}{n / wall_s:>10,.0f}{wall_s:>9.2f}{cpu_s:>8.2f}{1e6 * wall_s / n:>9.0f}"
                f"{wall_ratio:>12.2f}{cpu_ratio:>11.2f}"
            )
        return "\n".join(lines)


@pytest.fixture
def stopwatch():
    """A new `Stopwatch`."""
    return Stopwatch()


def server_cpu_s(database) -> float:
    """Return the CPU time of what serves a connection so far: its process or thread, on this machine under Linux."""
    connection = database.connection
    if database.backend == "postgresql":
        own = Path(f"/proc/{connection.query('select pg_backend_pid()').fetchone()[0]}/stat")
        parent = _stat(own)[1]  # its children also work for others' statements; those that ended count in itself
        stats = [stat for path in Path("/proc").glob("[0-9]*/stat") if (stat := _stat(path))]
        ended = _stat(Path(f"/proc/{parent}/stat"))[13:15]
        ticks = [*ended, *(time for stat in stats if stat[1] == parent for time in stat[11:13])]
    else:
        is_mariadb = connection.adapter.product == "mariadb"
        thread = connection.query(
            "select tid from information_schema.processlist where id = connection_id()"
            if is_mariadb
            else "select thread_os_id from performance_schema.threads where processlist_id = connection_id()"
        ).fetchone()[0]
        (path,) = Path("/proc").glob(f"[0-9]*/task/{thread}/stat")
        ticks = _stat(path)[11:13]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def _stat(path: Path) -> list[str]:
    """Return what the kernel says of a process after its name: state, parent and so on; nothing when it is gone."""
    try:
        return path.read_text().rpartition(")")[2].split()
    except OSError:
        return []


@pytest.fixture
def server_name(database):
    """Return what kind of server it is and its version."""
    return name_of(database)


def name_of(database) -> str:
    """Return what kind of server a database is on, and its version."""
    connection = database.connection
    kind = "embedded" if connection.server else "PostgreSQL" if database.backend == "postgresql" else "MySQL"
    version = connection.server_version.removeprefix("PostgreSQL ").split("-")[0].split(" ")[0]
    return f"{'MariaDB' if connection.adapter.product == 'mariadb' else kind} {version}"

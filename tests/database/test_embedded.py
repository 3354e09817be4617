"""The embedded server: started on demand, shared, and never harmed by a kill -9."""

import contextlib
import multiprocessing
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psycopg2
import pytest

from labweave.embedded import postmaster, users
from labweave.embedded.server import EmbeddedServer, default_data_dir
from labweave.errors import AccessDenied, ConfigError, ServerUnavailable, VersionError

pytestmark = pytest.mark.slow

REPOSITORY = Path(users.__file__).parents[2]

USER_PROCESS = """
import sys, time
from labweave.embedded.server import EmbeddedServer
server = EmbeddedServer(sys.argv[1], durable=False)
address = server.acquire()
print(address.host, flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def tmp_path():
    """A folder that the server's user can reach: pytest closes its own whenever another run starts."""
    with tempfile.TemporaryDirectory(prefix="labweave-test-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


@pytest.fixture(scope="module")
def module_path():
    with tempfile.TemporaryDirectory(prefix="labweave-test-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


@pytest.fixture(scope="module")
def made_once(module_path):
    """A complete data folder, to be copied: initdb takes most of a test's time."""
    folder = module_path / "data"
    server = EmbeddedServer(folder, durable=False)
    address = server.acquire()
    with connect(address) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE note (number int PRIMARY KEY, text text)")
    connection.close()
    server.release()
    return folder


@pytest.fixture
def data_dir(made_once, tmp_path):
    """A data folder of its own that has been started before; whatever runs in it is stopped."""
    folder = tmp_path / "data"
    shutil.copytree(made_once, folder, symlinks=True, ignore=shutil.ignore_patterns(".s.PGSQL.*"))
    yield folder
    EmbeddedServer(folder, durable=False).stop()


@pytest.fixture
def empty_dir(tmp_path):
    folder = tmp_path / "data"
    yield folder
    EmbeddedServer(folder, durable=False).stop()


def connect(address):
    return psycopg2.connect(host=address.host, port=address.port, user=address.user, dbname=address.dbname)


def ask(address, query):
    with contextlib.closing(connect(address)) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        connection.commit()
        return cursor.fetchall() if cursor.description else None


def user_process(folder, code=USER_PROCESS, **options):
    """Another process that uses the server until a line, or the end, comes on its input."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/",
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, **options,
    )  # fmt: skip
    return process


def leave(process):
    process.communicate("\n", timeout=120)
    assert process.returncode == 0


def status(folder):
    return EmbeddedServer(folder).status()


def wait_until(condition, timeout_s=60):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


def kill_server(server):
    """Kill the main process of the server, and wait until it is gone: its backends may still run."""
    pid = server.status()["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not postmaster.is_postmaster(pid, server.cluster))


# -- start, use, stop ----------------------------------------------------------------------


def test_a_new_folder_is_made_used_and_stopped(empty_dir):
    server = EmbeddedServer(empty_dir, durable=False)
    assert server.status()["running"] is False
    assert not empty_dir.exists()
    address = server.acquire()
    settings = ask(
        address,
        "SELECT current_database(), current_setting('server_encoding'), current_setting('TimeZone'),"
        " current_setting('max_connections'), current_setting('listen_addresses'), current_setting('fsync')",
    )
    assert settings == [("labweave", "UTF8", "UTC", "100", "", "off")]
    words = ask(address, "SELECT string_agg(w, ' ' ORDER BY w) FROM unnest(ARRAY['a','B','é','Z','z','_']) w")
    assert words == [("B Z _ a z é",)]
    found = server.status()
    assert found["running"] and found["version"] == "18" and found["size"] > 1e6 and not found["stays"]
    assert found["users"] in ([os.getpid()], None)
    assert Path(address.host).stat().st_mode & 0o077 == 0
    server.release()
    assert server.status()["running"] is False


def test_databases_of_one_process_share_a_registration(data_dir):
    first, second = EmbeddedServer(data_dir, durable=False), EmbeddedServer(data_dir, durable=False)
    assert first.acquire() == second.acquire()
    first.release()
    first.release()  # once too often does nothing
    assert status(data_dir)["running"]
    second.release()
    assert not status(data_dir)["running"]


def test_the_last_of_two_processes_stops_the_server(data_dir):
    server = EmbeddedServer(data_dir, durable=False)
    address = server.acquire()
    other = user_process(data_dir)
    assert other.stdout.readline().strip() == address.host
    server.release()
    assert status(data_dir)["running"]
    leave(other)  # by ending, without release
    assert not status(data_dir)["running"]


def test_two_processes_that_start_at_once_share_one_server(empty_dir):
    both = [user_process(empty_dir) for _ in range(2)]
    hosts = {process.stdout.readline().strip() for process in both}
    assert len(hosts) == 1 and hosts != {""}
    assert status(empty_dir)["users"] in (sorted(p.pid for p in both), None)
    for process in both:
        leave(process)
    assert not status(empty_dir)["running"]


def test_threads_that_start_at_once_share_one_server(data_dir):
    servers = [EmbeddedServer(data_dir, durable=False) for _ in range(4)]
    threads = [threading.Thread(target=server.acquire) for server in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ask(servers[0]._address(), "SELECT 1") == [(1,)]
    for server in servers:
        server.release()
    assert not status(data_dir)["running"]


def test_a_server_told_to_stay_stays_until_stopped(data_dir):
    server = EmbeddedServer(data_dir, durable=False)
    server.start()
    server.acquire()
    server.release()
    assert status(data_dir)["running"] and status(data_dir)["stays"]
    assert server.stop() is True
    assert not status(data_dir)["running"] and not status(data_dir)["stays"]
    assert server.stop() is False
    server.acquire()
    server.release()
    assert not status(data_dir)["running"]


def test_stop_ends_the_users_connections_and_the_next_acquire_starts_again(data_dir):
    server = EmbeddedServer(data_dir, durable=False)
    connection = connect(server.acquire())
    assert server.stop()
    with pytest.raises(psycopg2.Error):
        connection.cursor().execute("SELECT 1")
    assert ask(server.acquire(), "SELECT 1") == [(1,)]
    server.release()
    server.release()
    assert not status(data_dir)["running"]


def test_a_database_that_was_dropped_is_made_again(data_dir):
    server = EmbeddedServer(data_dir, durable=False)
    address = server.start()
    connection = psycopg2.connect(host=address.host, user=address.user, dbname="postgres")
    connection.autocommit = True
    connection.cursor().execute("DROP DATABASE labweave")
    connection.close()
    assert ask(server.acquire(), "SELECT current_database()") == [("labweave",)]
    server.release()


# -- kill -9 -------------------------------------------------------------------------------


def test_after_a_user_is_killed_the_next_to_leave_stops_the_server(data_dir):
    killed = user_process(data_dir)
    killed.stdout.readline()
    killed.kill()
    killed.communicate()
    assert status(data_dir)["running"]
    assert status(data_dir)["users"] in ([], None)
    server = EmbeddedServer(data_dir, durable=False)
    server.acquire()
    server.release()
    assert not status(data_dir)["running"]


def test_after_the_server_is_killed_it_starts_again_with_all_data(data_dir):
    server = EmbeddedServer(data_dir, durable=True)
    address = server.acquire()
    ask(address, "INSERT INTO note SELECT i, 'kept' FROM generate_series(1, 1000) i")
    connection = connect(address)
    connection.cursor().execute("INSERT INTO note VALUES (2000, 'not committed')")
    kill_server(server)
    assert ask(server.acquire(), "SELECT count(*) FROM note WHERE text = 'kept'") == [(1000,)]
    assert ask(server._address(), "SELECT count(*) FROM note") == [(1000,)]
    connection.close()
    server.release()
    server.release()


@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="orphans are found in /proc")
def test_a_busy_backend_of_a_killed_server_is_ended_before_the_next_starts(data_dir):
    server = EmbeddedServer(data_dir, durable=False)
    connection = connect(server.acquire())
    busy = "DO $$ BEGIN LOOP PERFORM 1; END LOOP; END $$"  # never looks whether the server lives

    def run_forever():
        with contextlib.suppress(psycopg2.Error):
            connection.cursor().execute(busy)

    thread = threading.Thread(target=run_forever)
    thread.start()
    backend = connection.info.backend_pid
    wait_until(lambda: "DO" in Path(f"/proc/{backend}/cmdline").read_text())
    kill_server(server)
    assert ask(server.acquire(), "SELECT 1") == [(1,)]
    thread.join(timeout=60)
    assert not thread.is_alive()
    server.release()
    server.release()
    assert not status(data_dir)["running"]


def test_the_number_of_a_dead_server_may_belong_to_another_process(data_dir):
    server = EmbeddedServer(data_dir, durable=False)
    server.acquire()
    pid_file = server.cluster / "postmaster.pid"
    lines = pid_file.read_text().split("\n")
    kill_server(server)
    wait_until(lambda: not server._lives())
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        pid_file.write_text("\n".join([str(stranger.pid), *lines[1:]]))
        Path(lines[4], ".s.PGSQL.5432.lock").write_text(f"{stranger.pid}\n")
        assert not status(data_dir)["running"]
        assert ask(server.acquire(), "SELECT 1") == [(1,)]
        server.release()
        server.release()
        assert stranger.poll() is None, "a process that isn't ours was ended"
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.parametrize("also_kill_initdb", [False, True])
def test_after_a_kill_in_the_middle_of_initdb_the_folder_is_made_again(empty_dir, also_kill_initdb):
    process = user_process(empty_dir)
    wait_until(lambda: list(empty_dir.glob("initdb-*/base")))
    process.kill()
    process.communicate()
    half_made = next(empty_dir.glob("initdb-*"))
    assert not (empty_dir / "cluster").exists()
    if also_kill_initdb:
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if str(half_made) in (entry / "cmdline").read_text():
                    os.kill(int(entry.name), signal.SIGKILL)
    server = EmbeddedServer(empty_dir, durable=False)
    assert ask(server.acquire(), "SELECT 1") == [(1,)]
    assert not list(empty_dir.glob("initdb-*"))
    server.release()


def test_a_process_killed_while_starting_leaves_a_server_others_can_use(data_dir):
    process = user_process(data_dir)
    wait_until(lambda: (data_dir / "cluster/postmaster.pid").exists())
    process.kill()
    process.communicate()
    server = EmbeddedServer(data_dir, durable=False)
    assert ask(server.acquire(), "SELECT 1") == [(1,)]
    server.release()
    assert not status(data_dir)["running"]


# -- forks ---------------------------------------------------------------------------------


def test_a_forked_child_neither_keeps_nor_ends_its_parents_registration(data_dir):
    server = EmbeddedServer(data_dir, durable=False)
    server.acquire()
    may_end, end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(end)
        server.release()  # the parent's: does nothing
        os.read(may_end, 1)
        os._exit(0)
    try:
        assert status(data_dir)["running"]
        server.release()
        assert not status(data_dir)["running"]
    finally:
        os.close(end)
        os.close(may_end)
        assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_worker_that_acquires_is_a_user_of_its_own(data_dir, method):
    server = EmbeddedServer(data_dir, durable=False)
    server.acquire()
    context = multiprocessing.get_context(method)
    registered, may_end = context.Event(), context.Event()
    worker = context.Process(target=use_until, args=(str(data_dir), registered, may_end))
    worker.start()
    assert registered.wait(30)
    server.release()
    assert status(data_dir)["running"]
    may_end.set()
    worker.join(30)
    assert worker.exitcode == 0
    assert not status(data_dir)["running"]


def use_until(folder, registered, may_end):
    EmbeddedServer(folder, durable=False).acquire()
    registered.set()
    may_end.wait(30)


def test_other_programs_do_not_inherit_a_registration(data_dir):
    server = EmbeddedServer(data_dir, durable=False)
    server.acquire()
    program = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        server.release()
        assert not status(data_dir)["running"]
    finally:
        program.kill()
        program.wait()


# -- folders -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["with space é 'single' \"double\" $HOME `x` 日本, %s", "long " + "é" * 110], ids=["odd", "long"]
)
def test_any_folder_name_works(tmp_path, name):
    folder = tmp_path / name / "data"
    server = EmbeddedServer(folder, durable=False)
    address = server.acquire()
    try:
        assert ask(address, "SHOW data_directory") == [(str(folder / "cluster"),)]
        assert len(os.fsencode(address.host)) < 94
        assert Path(address.host).stat().st_mode & 0o077 == 0
    finally:
        server.release()
    assert not server.status()["running"]
    if not address.host.startswith(str(folder)):
        Path(address.host).rmdir()


def test_a_socket_folder_that_others_can_use_is_refused(tmp_path):
    folder = tmp_path / ("x" * 120) / "data"
    server = EmbeddedServer(folder, durable=False)
    address = server.acquire()
    server.release()
    Path(address.host).chmod(0o777)
    try:
        with pytest.raises(ConfigError, match=r"only .* can use"):
            server.acquire()
    finally:
        Path(address.host).rmdir()


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("chapter 1")
    with pytest.raises(ConfigError, match="holds something else"):
        EmbeddedServer(tmp_path).acquire()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    assert EmbeddedServer(tmp_path).stop() is False
    assert EmbeddedServer(tmp_path).status()["running"] is False


def test_data_of_another_major_version_say_what_to_do(data_dir):
    (data_dir / "cluster" / "PG_VERSION").write_text("17\n")
    with pytest.raises(VersionError, match=r"by PostgreSQL 17, installed is 18(.|\n)*db backup"):
        EmbeddedServer(data_dir).acquire()


def test_a_server_that_fails_to_start_shows_its_log(data_dir):
    configuration = data_dir / "cluster" / "postgresql.conf"
    configuration.write_text(configuration.read_text() + "\nwork_mem = 'much'\n")
    with pytest.raises(ServerUnavailable, match=r"work_mem(.|\n)*server\.log"):
        EmbeddedServer(data_dir, durable=False).acquire()
    assert status(data_dir)["users"] in ([], None)


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "data").write_text("")
    with pytest.raises((ConfigError, ServerUnavailable), match="data"):
        EmbeddedServer(tmp_path / "data").acquire()


def test_the_default_folder_follows_the_environment(monkeypatch):
    monkeypatch.setenv("LABWEAVE_DATA_DIR", "/somewhere")
    assert default_data_dir() == Path("/somewhere/postgresql")
    monkeypatch.delenv("LABWEAVE_DATA_DIR")
    assert default_data_dir().parts[-2:] == ("labweave", "postgresql")


def test_windows_is_refused(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(ConfigError, match="WSL"):
        EmbeddedServer("data")


# -- root and others -----------------------------------------------------------------------

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def ordinary_user():
    """An ordinary user of the system, made for the test, and a Python they can run."""
    name = f"lwtest{os.getpid()}"
    made = subprocess.run(["useradd", "--no-create-home", name], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        pytest.skip(f"can't make a user: {made.stderr}")
    user = pwd.getpwnam(name)
    options = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    packages = Path(psycopg2.__file__).parents[1]
    version = f"import sys, psycopg2; assert sys.version_info[:2] == {sys.version_info[:2]}"
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{REPOSITORY}:{packages}"}
    for python in (sys.executable, "/usr/bin/python3"):
        with contextlib.suppress(OSError):
            command = [python, "-c", version]
            tried = subprocess.run(command, env=environment, cwd="/", capture_output=True, check=False, **options)
            if tried.returncode == 0:
                break
    else:
        python = None
    home = Path(tempfile.mkdtemp(prefix="labweave test "))
    os.chown(home, user.pw_uid, user.pw_gid)

    def run(code, folder):
        if python is None:
            pytest.skip("no Python that an ordinary user can run")
        return subprocess.run(
            [python, "-c", code, str(folder)], env=environment, cwd="/", input="\n", capture_output=True,
            text=True, check=False, timeout=60, **options,
        )  # fmt: skip

    yield user, run, home
    shutil.rmtree(home)
    subprocess.run(["userdel", name], capture_output=True, check=True)


@as_root
def test_processes_that_make_the_system_user_at_once_get_the_same(tmp_path):
    name = f"lwacc{os.getpid()}"
    code = (
        "import sys; from pathlib import Path; from labweave.embedded import users\n"
        "users.ACCOUNT_NAME, users.SHARED_PROGRAMS = sys.argv[1], Path(sys.argv[2])\n"
        "print('ready', flush=True); input()\n"
        "account = users.server_account(Path('/nowhere')); print(account.pw_name, account.pw_uid)"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, name, tmp_path / "programs"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(6)
    ]  # fmt: skip
    try:
        assert {process.stdout.readline() for process in processes} == {"ready\n"}
        for process in processes:
            process.stdin.write("\n")
            process.stdin.flush()
        said = {process.communicate(timeout=60)[0] for process in processes}
        assert said == {f"{name} {pwd.getpwnam(name).pw_uid}\n"}
    finally:
        subprocess.run(["userdel", name], capture_output=True, check=False)


@as_root
def test_an_ordinary_user_runs_the_server_as_themselves_and_root_joins(ordinary_user):
    user, run, home = ordinary_user
    folder = home / "data"
    done = run(USER_PROCESS, folder)
    assert done.returncode == 0, done.stderr
    assert folder.stat().st_uid == user.pw_uid
    assert not status(folder)["running"]
    server = EmbeddedServer(folder, durable=False)
    assert ask(server.acquire(), "SELECT 1") == [(1,)]
    assert Path(f"/proc/{status(folder)['pid']}").stat().st_uid == user.pw_uid
    done = run(USER_PROCESS, folder)  # joins root's
    assert done.returncode == 0, done.stderr
    server.release()
    assert not status(folder)["running"]


@as_root
def test_the_folder_of_another_user_is_refused(ordinary_user, data_dir):
    _, run, _ = ordinary_user
    code = USER_PROCESS.replace("address = server.acquire()", "server.status()")
    assert "belongs to another user" in run(code, data_dir).stderr
    assert AccessDenied.__name__ in run(USER_PROCESS, data_dir).stderr


@as_root
def test_root_hands_the_server_to_another_account(data_dir):
    server = EmbeddedServer(data_dir, durable=False)
    server.acquire()
    process = Path(f"/proc/{status(data_dir)['pid']}")
    assert process.stat().st_uid == data_dir.stat().st_uid != 0
    groups = next(line for line in (process / "status").read_text().splitlines() if line.startswith("Groups"))
    assert groups.split() in (["Groups:"], ["Groups:", str(process.stat().st_gid)])
    server.release()


@as_root
def test_parents_that_hide_the_folder_are_opened_for_passing_only(tmp_path, made_once, caplog):
    hidden = tmp_path / "hidden"
    hidden.mkdir(mode=0o700)
    shutil.copytree(made_once, hidden / "data", ignore=shutil.ignore_patterns(".s.PGSQL.*"))  # root's now
    server = EmbeddedServer(hidden / "data", durable=False)
    server.acquire()
    server.release()
    assert hidden.stat().st_mode & 0o777 == 0o701
    assert f"chmod o+x {hidden}:" in caplog.text


@as_root
def test_programs_that_the_account_cannot_reach_are_copied_once(tmp_path, data_dir, monkeypatch):
    wheel = users._wheel()
    tmp_path.chmod(0o711)
    hidden = tmp_path / "root"
    hidden.mkdir(mode=0o700)
    for name in (wheel.name, f"{wheel.name}.libs"):
        shutil.copytree(wheel.parent / name, hidden / name, symlinks=True)
    monkeypatch.setattr(users, "_wheel", lambda: hidden / wheel.name)
    monkeypatch.setattr(users, "SHARED_PROGRAMS", tmp_path / "shared")
    account = users.server_account(data_dir)
    folder = users.programs(account)
    assert folder.is_relative_to(tmp_path / "shared") and users.programs(account) == folder
    for program in ("postgres", "initdb"):
        assert users._can_run(folder / program, account)
    assert [path.name[:10] for path in (tmp_path / "shared").iterdir()] == ["postgresql"]
    server = EmbeddedServer(data_dir, durable=False)
    assert ask(server.acquire(), "SELECT 1") == [(1,)]
    server.release()

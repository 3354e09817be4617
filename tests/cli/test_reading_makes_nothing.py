"""Commands that read make nothing: a prefix that is misspelt is named, and the labs that there are."""

import os

import pytest
from conftest import PREFIX, is_embedded

from labweave import ONE
from labweave.database import connect
from labweave.database.connection import LabConnection
from labweave.database.declare import Register
from labweave.database.url import parse_url
from labweave.errors import ConfigError

READING = [
    ("status",),
    ("errors",),
    ("retry",),
    ("sources",),
    ("forget", "nothing"),
    ("populate",),
    ("verify",),
    ("exclude", "cell=c"),
    ("explain", "Rheobase", "cell=c"),
    ("delete", "Cell", "cell=c", "--yes"),
    ("sql", "select 1"),
    ("diagram",),
    ("check", "recipes"),
    ("one", "search"),
    ("export", "one-cache", "cache"),
    ("export", "features", "folder"),
    ("plot", "cell", "c"),
    ("ingest", "ephys", ".", "--lab", "l", "--dry-run"),
    ("db", "upgrade"),
    ("db", "check"),
    ("db", "backup", "file"),
]


def schemas(url, prefix):
    connection = LabConnection(parse_url(url), prefix)
    try:
        rows = connection.query("select schema_name from information_schema.schemata").fetchall()
    finally:
        connection.close()
    return {row[0] for row in rows if row[0].startswith(prefix)}


@pytest.mark.parametrize("command", READING, ids=" ".join)
def test_a_command_that_reads_names_the_labs_and_makes_nothing(database, database_url, labweave_command, command):
    result = labweave_command(*command, prefix=f"tpyo{os.getpid()}_")
    assert result.returncode == 2 and result.stdout == ""
    [line] = result.stderr.splitlines()
    assert f"no lab with prefix tpyo{os.getpid()}_" in line and PREFIX in line and "labweave init" in line
    assert schemas(database_url, "tpyo") == set()


def test_a_half_made_lab_is_finished_by_init(database, database_url, new_prefix, labweave_command):
    prefix = new_prefix()
    connection = LabConnection(parse_url(database_url), prefix)
    Register(connection).create()
    connection.close()
    result = labweave_command("status", prefix=prefix)
    assert result.returncode == 2 and "only a part of a lab" in result.stderr and "labweave init" in result.stderr
    assert schemas(database_url, prefix) == {f"{prefix}meta"}
    labweave_command("init", "--yes", prefix=prefix, check=0)
    labweave_command("status", prefix=prefix, check=0)


def test_ingest_makes_a_lab_and_says_so(new_prefix, labweave_command, tmp_path):
    prefix = new_prefix()
    (tmp_path / "data").mkdir()
    made = labweave_command("ingest", "ephys", "data", "--lab", "l", prefix=prefix)
    assert f"made a lab with prefix {prefix}" in made.stderr
    again = labweave_command("ingest", "ephys", "data", "--lab", "l", prefix=prefix)
    assert "made a lab" not in again.stderr


def test_connect_makes_a_lab_unless_told(_tables, database_url, new_prefix, monkeypatch):
    prefix = new_prefix()
    with pytest.raises(ConfigError, match="labweave init"):
        connect(database_url, prefix=prefix, make=False)
    monkeypatch.setenv("LABWEAVE_DATABASE_URL", database_url)
    monkeypatch.setenv("LABWEAVE_PREFIX", prefix)
    with pytest.raises(ConfigError, match="labweave init"):
        ONE()
    assert schemas(database_url, prefix) == set()
    with connect() as made:
        assert made.n_made > 50 and made.check() == []
    with connect(make=False) as there:
        assert there.n_made == 0


def test_no_embedded_database_is_made_to_read_from(labweave_command, tmp_path, database_url):
    if not is_embedded(database_url):
        pytest.skip("of the embedded database only")
    folder = tmp_path / "none" / "data"
    result = labweave_command("status", LABWEAVE_DATABASE_URL=f"embedded://{folder}")
    assert result.returncode == 2 and str(folder) in result.stderr and "labweave init" in result.stderr
    assert not folder.parent.exists()


def test_init_writes_no_file_that_would_not_be_read(database, labweave_command, tmp_path):
    everybodys = tmp_path / "tmp"
    everybodys.mkdir()
    everybodys.chmod(0o1777)
    out = labweave_command("init", "--yes", cwd=everybodys, check=0)
    assert "no labweave.toml is written: everybody can write" in out.stderr
    assert not (everybodys / "labweave.toml").exists()
    labweave_command("status", cwd=everybodys, check=0)


def test_init_that_can_not_log_in_writes_no_file(labweave_command, database_url, tmp_path):
    url = "mysql://nobody:wrong@127.0.0.1:1"
    if not is_embedded(database_url):
        source = parse_url(database_url)
        url = f"{source.backend}://nobody:wrong@{source.host}:{source.port}"
        url += f"/{source.dbname}" if source.dbname else ""
        if source.backend == "postgresql":
            url = f"postgresql://nobody@{source.host}:{source.port}/none"
    result = labweave_command("init", "--yes", LABWEAVE_DATABASE_URL=url)
    assert result.returncode == 2 and "wrote" not in result.stderr
    assert not (tmp_path / "labweave.toml").exists()

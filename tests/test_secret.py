"""Secrets that are kept elsewhere, and whom a file is trusted from."""

import os
import pty
import subprocess
import sys

import pytest
from pydantic import SecretStr

from labweave.database.url import find_url
from labweave.errors import ConfigError
from labweave.ingest.alyx.login import find_login
from labweave.secret import reveal
from labweave.settings import find_settings_file, load_settings

as_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give a file away")
NOBODY = 65534


@pytest.fixture
def folder(home, monkeypatch):
    """An empty folder two levels below the home folder, which is the current one."""
    made = home / "project" / "today"
    made.mkdir(parents=True)
    monkeypatch.chdir(made)
    return made


def write(path, text="", mode=0o600):
    path.write_text(text)
    path.chmod(mode)
    return path


# -- secrets --


def test_a_secret_is_the_text_or_where_it_says(tmp_path, monkeypatch):
    monkeypatch.setenv("DB_PASSWORD", "of the environment")
    path = write(tmp_path / "password", "of a file\n")
    assert reveal(SecretStr("env:DB_PASSWORD"), "x") == "of the environment"
    assert reveal(SecretStr(f"file:{path}"), "x") == "of a file"
    path.write_bytes(b"\xef\xbb\xbfof another editor\r\n")
    assert reveal(SecretStr(f"file:{path}"), "x") == "of another editor"
    for plain in ("plain", "with:colon", "http://x", ""):
        assert reveal(SecretStr(plain), "x") == plain


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("env:LABWEAVE_NOT_SET", "not set"),
        ("file:/nowhere/password", "No such file"),
        ("keyring:service", "names no user"),
        ("prompt:", "no terminal"),
    ],
)
def test_a_secret_that_is_not_there_names_setting_and_place(text, says, monkeypatch):
    monkeypatch.setattr(sys, "stdin", open(os.devnull))  # noqa: SIM115
    with pytest.raises(ConfigError, match=says) as caught:
        reveal(SecretStr(text), "database.password")
    assert "database.password" in str(caught.value) and text in str(caught.value)


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o660, 0o644, 0o666])
def test_a_secret_that_others_can_read_is_refused(tmp_path, mode):
    path = write(tmp_path / "password", "sesame", mode)
    with pytest.raises(ConfigError, match="chmod 600") as caught:
        reveal(SecretStr(f"file:{path}"), "x")
    assert "sesame" not in str(caught.value)


@as_root
def test_a_secret_of_another_user_is_refused(tmp_path):
    path = write(tmp_path / "password", "sesame")
    os.chown(path, NOBODY, NOBODY)
    with pytest.raises(ConfigError, match="belongs to nobody"):
        reveal(SecretStr(f"file:{path}"), "x")


def test_a_file_that_is_empty_or_no_text(tmp_path):
    for content, says in ((b"", "empty"), (b"\n", "empty"), (b"\xff\xfe", "no text")):
        path = write(tmp_path / "password")
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=says):
            reveal(SecretStr(f"file:{path}"), "x")


def test_a_secret_of_the_keyring(monkeypatch, tmp_path):
    """The package's own kind of keyring in a file of its own, so that no keyring of this user is asked."""
    keyring = pytest.importorskip("keyring")

    class InMemory(keyring.backend.KeyringBackend):
        priority, kept = 1, {("labweave/db", "alice"): "of the keyring"}

        def get_password(self, service, username):
            return self.kept.get((service, username))

        def set_password(self, service, username, password):
            raise NotImplementedError

        delete_password = set_password

    before = keyring.get_keyring()
    keyring.set_keyring(InMemory())
    try:
        assert reveal(SecretStr("keyring:labweave/db/alice"), "x") == "of the keyring"
        with pytest.raises(ConfigError, match="keyring set 'labweave/db' 'bob'"):
            reveal(SecretStr("keyring:labweave/db/bob"), "x")
    finally:
        keyring.set_keyring(before)


def test_a_missing_keyring_is_named_with_the_install_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(ConfigError, match=r"pip install labweave\[keyring\]"):
        reveal(SecretStr("keyring:labweave/alice"), "x")


def test_a_prompt_asks_once_on_the_terminal():
    code = (
        "from pydantic import SecretStr; from labweave.secret import reveal;"
        "print([reveal(SecretStr('prompt:'), 'database.password') for _ in range(2)] == ['sesame'] * 2)"
    )
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    shown = b""
    while b"database.password: " not in shown:
        shown += os.read(ours, 1000)
    os.write(ours, b"sesame\n")
    while b"True" not in shown and b"Error" not in shown:
        shown += os.read(ours, 1000)
    assert process.wait(60) == 0 and b"True" in shown and b"sesame" not in shown
    os.close(ours)
    os.close(theirs)


# -- where the settings use them --


def test_the_password_of_the_database_is_kept_apart_from_its_url(folder, monkeypatch):
    path = write(folder.parent / "password", "p@ss/word\n")
    write(folder / "labweave.toml", f'[database]\nurl = "mysql://alice@db.lab.org"\npassword = "file:{path}"\n')
    assert find_url().password == "p@ss/word" and "p@ss" not in repr(find_url()) + str(find_url())
    assert find_url("mysql://alice@elsewhere.org").password == ""  # it is for the database beside it
    monkeypatch.setenv("LABWEAVE_DATABASE_URL", "mysql://alice@elsewhere.org")
    assert find_url().password == ""
    monkeypatch.setenv("LABWEAVE_DATABASE_PASSWORD", f"file:{path}")
    assert find_url().password == "p@ss/word"
    monkeypatch.setenv("LABWEAVE_DATABASE_URL", "mysql://alice:own@elsewhere.org")
    assert find_url().password == "own"
    monkeypatch.setenv("LABWEAVE_DATABASE_URL", f"file:{write(folder.parent / 'url', 'mysql://alice:kept@db.org')}")
    assert find_url().password == "kept"


def test_the_logins_of_alyx_and_one_are_kept_apart(folder, monkeypatch):
    path = write(folder / "secret", "sesame")
    monkeypatch.setenv("LABWEAVE_ALYX_USER", "alice")
    monkeypatch.setenv("LABWEAVE_ALYX_PASSWORD", f"file:{path}")
    assert find_login("https://alyx.example.org").password == "sesame"
    monkeypatch.setenv("LABWEAVE_ALYX_TOKEN", f"file:{path}")
    assert find_login("https://alyx.example.org").token == "sesame"
    assert "sesame" not in repr(load_settings())


# -- whose labweave.toml is read --


def test_settings_are_looked_for_up_to_the_home_folder(folder, home):
    write(home.parent / "labweave.toml", 'lab = "above"')
    assert find_settings_file() is None
    for place in (home, home / "project", folder):
        write(place / "labweave.toml", 'lab = "mine"')
        assert find_settings_file() == place / "labweave.toml"


def test_settings_outside_of_the_home_folder_are_looked_for_up_to_the_border_of_the_file_system(
    tmp_path, home, monkeypatch
):
    inside = tmp_path / "data" / "day"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    found = write(tmp_path / "data" / "labweave.toml", 'lab = "mine"')
    assert find_settings_file() == found
    border = tmp_path / "data"
    stat = type(border).stat

    class Elsewhere:
        def __init__(self, real):
            self.st_dev, self.st_mode, self.st_uid, self.st_gid = -1, real.st_mode, real.st_uid, real.st_gid

    monkeypatch.setattr(
        type(border), "stat",
        lambda path, **options: Elsewhere(stat(path, **options)) if path == border else stat(path, **options),
    )  # fmt: skip
    assert find_settings_file() is None


@pytest.mark.parametrize(("mode", "who"), [(0o777, "everybody"), (0o1777, "everybody"), (0o702, "everybody")])
def test_a_settings_file_in_a_folder_that_others_may_write_to_is_refused(folder, mode, who):
    path = write(folder / "labweave.toml", 'lab = "theirs"')
    folder.chmod(mode)
    with pytest.raises(ConfigError, match=f"{who} can write") as caught:
        find_settings_file()
    assert f"LABWEAVE_CONFIG={path}" in str(caught.value)


def test_a_settings_file_that_others_may_write_to_is_refused(folder):
    write(folder / "labweave.toml", 'lab = "theirs"', 0o666)
    with pytest.raises(ConfigError, match="everybody can write"):
        find_settings_file()


def test_one_that_is_trusted_by_name_is_read(folder, monkeypatch):
    path = write(folder / "labweave.toml", 'lab = "ours"', 0o666)
    monkeypatch.setenv("LABWEAVE_CONFIG", str(path))
    assert load_settings().lab == "ours"


def test_one_in_a_temporary_folder_above_is_passed_by_and_told(tmp_path, home, monkeypatch, caplog):
    everybodys = tmp_path / "tmp"
    inside = everybodys / "mine"
    inside.mkdir(parents=True)
    everybodys.chmod(0o1777)
    write(everybodys / "labweave.toml", 'lab = "theirs"')
    monkeypatch.chdir(inside)
    assert load_settings().lab is None
    assert load_settings().lab is None
    [told] = caplog.records  # once
    assert str(everybodys / "labweave.toml") in told.getMessage() and "everybody" in told.getMessage()


@as_root
def test_a_settings_file_or_folder_of_another_user_is_refused(folder, home):
    path = write(folder / "labweave.toml", 'lab = "theirs"')
    os.chown(path, NOBODY, NOBODY)
    with pytest.raises(ConfigError, match="belongs to nobody"):
        find_settings_file()
    path.unlink()
    path = write(folder.parent / "labweave.toml", 'lab = "theirs"')
    os.chown(folder.parent, NOBODY, NOBODY)
    with pytest.raises(ConfigError, match="belongs to nobody"):
        find_settings_file()


@as_root
def test_a_group_of_ones_own_may_write_and_another_may_not(folder):
    path = write(folder / "labweave.toml", 'lab = "mine"', 0o660)
    assert find_settings_file() == path
    os.chown(path, 0, NOBODY)
    with pytest.raises(ConfigError, match="a group can write"):
        find_settings_file()


def test_the_command_tells_of_a_stray_file(tmp_path, labweave_command):
    everybodys = tmp_path / "tmp"
    (everybodys / "mine").mkdir(parents=True)
    everybodys.chmod(0o1777)
    write(everybodys / "labweave.toml", '[database]\nurl = "mysql://evil@db.example.org"\n')
    result = labweave_command("db", "url", cwd=everybodys / "mine", check=0, LABWEAVE_DATABASE_URL="")
    assert result.stdout.startswith("embedded:") and "evil" not in result.stderr
    assert str(everybodys / "labweave.toml") in result.stderr
    beside = labweave_command("db", "url", cwd=everybodys, LABWEAVE_DATABASE_URL="")
    assert beside.returncode == 2 and "evil" not in beside.stdout + beside.stderr

"""Which login a server gets, and which options a sync takes."""

import json
from pathlib import Path

import pytest

from labweave.errors import ConfigError
from labweave.ingest import find_adapter
from labweave.ingest.alyx.login import find_login
from labweave.ingest.alyx.service import AlyxOptions
from labweave.ingest.registry import make_options

URL = "https://alyx.example.org"


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_one_file(home, **values):
    (home / ".one").mkdir()
    (home / ".one" / ".alyx.example.org").write_text(json.dumps({"ALYX_URL": URL, **values}))


def test_the_environment_comes_first(monkeypatch, home):
    write_one_file(home, ALYX_LOGIN="one", ALYX_PWD="x")
    (home / "labweave.toml").write_text('[alyx]\nuser = "toml"\npassword = "in the file"\n')
    monkeypatch.setenv("LABWEAVE_ALYX_PASSWORD", "in the environment")
    login = find_login(URL)
    assert (login.user, login.password) == ("toml", "in the environment")


def test_a_token_is_enough(monkeypatch):
    monkeypatch.setenv("LABWEAVE_ALYX_TOKEN", "t" * 40)
    assert find_login(URL).token == "t" * 40


def test_a_login_for_another_server_is_not_used(monkeypatch, home):
    monkeypatch.setenv("LABWEAVE_ALYX_URL", "https://alyx.elsewhere.org")
    monkeypatch.setenv("LABWEAVE_ALYX_TOKEN", "t" * 40)
    with pytest.raises(ConfigError, match="No login for https://alyx.example.org is known") as error:
        find_login(URL)
    assert "t" * 40 not in str(error.value)
    assert find_login("https://alyx.elsewhere.org/").token == "t" * 40


def test_the_file_of_one_api_is_used(home):
    write_one_file(home, ALYX_LOGIN="sync", TOKEN={"sync": {"token": "o" * 40}})
    assert (find_login(URL + "/").user, find_login(URL).token) == ("sync", "o" * 40)


def test_a_file_of_one_api_for_another_server_is_not_used(home):
    write_one_file(home, ALYX_LOGIN="sync", ALYX_PWD="x")
    path = home / ".one" / ".alyx.example.org"
    path.write_text(json.dumps({"ALYX_URL": "https://other.org", "ALYX_LOGIN": "sync", "ALYX_PWD": "x"}))
    with pytest.raises(ConfigError, match="No login"):
        find_login(URL)


def test_passwords_are_not_in_the_settings_repr(monkeypatch):
    from labweave.settings import load_settings

    monkeypatch.setenv("LABWEAVE_ALYX_PASSWORD", "pa55word")
    monkeypatch.setenv("LABWEAVE_ALYX_TOKEN", "t0ken")
    assert "pa55word" not in repr(load_settings()) and "t0ken" not in repr(load_settings())


def test_names_are_given_with_commas():
    options = AlyxOptions(subjects="CL_001, Mäuschen_01,CL_001", projects=["a"])  # type: ignore[arg-type]
    assert (options.subjects, options.projects) == (("CL_001", "Mäuschen_01"), ("a",))


@pytest.mark.parametrize(
    ("options", "found"),
    [({"time_zone": "Mars/Olympus"}, "is not a time zone"), ({"workers": 0}, "workers"), ({"sinse": "2026"}, "sinse")],
)
def test_an_option_that_is_none_is_refused(options, found):
    with pytest.raises(ConfigError, match=found):
        make_options(find_adapter("alyx"), options)

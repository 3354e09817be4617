"""Database URLs: what they mean, and that a bad one says what to write instead."""

import pytest

from labweave.database.url import parse_url
from labweave.errors import ConfigError


def test_mysql_url_has_default_port_and_decoded_password():
    url = parse_url("mysql://al%40ice:p%3Aw%2F@db.lab.org")
    assert (url.backend, url.host, url.port, url.user, url.password) == ("mysql", "db.lab.org", 3306, "al@ice", "p:w/")


def test_postgresql_url_keeps_the_database_name():
    url = parse_url("postgresql://bob:x@[::1]:5433/lab")
    assert (url.backend, url.host, url.port, url.dbname) == ("postgresql", "::1", 5433, "lab")


def test_the_password_is_never_shown():
    url = parse_url("mysql://alice:sesame@host")
    assert "sesame" not in str(url) + repr(url)
    assert str(url) == "mysql://alice:***@host:3306"


@pytest.mark.parametrize("mark", [*list("@:/?#[]% &=;+\\\t\n\u2100"), "//", "@/", "/@", "?@#", "://"])
@pytest.mark.parametrize("scheme", ["mysql", "postgresql", "mariadb", "sqlite", "embedded"])
@pytest.mark.parametrize("rest", ["@db.lab.org:3306", "@db.lab.org:nan/lab", "@", "", "@h/x?tls=no"])
def test_no_part_of_a_password_with_marks_is_shown(scheme, mark, rest):
    password = f"{mark}Sesame{mark}oPen{mark}"
    try:
        text = repr(url := parse_url(f"{scheme}://alice:{password}{rest}")) + str(url)
        assert url.embedded or (url.host, url.password) == ("db.lab.org", password)
    except ConfigError as error:
        text = str(error)
        assert error.__suppress_context__ or error.__context__ is None
    assert "esame" not in text.lower() and "pen" not in text.replace("postgresql", "").replace("percent", "")


@pytest.mark.parametrize("password", ["p/w", "p#w", "p?w", "a@b/c", "a[b"])
def test_a_password_with_marks_is_named_with_how_to_write_them(password):
    with pytest.raises(ConfigError, match="Write @ as %40"):
        parse_url(f"mysql://alice:{password}@host")


def test_the_options_of_a_url():
    url = parse_url("postgresql://bob@db.lab.org/lab?tls=require&ca=/etc/lab%20ca.pem")
    assert (url.tls, url.ca) == ("require", "/etc/lab ca.pem")
    for text in ("?tls=preferred", "?tls=required", "?ca=x&other=1"):
        with pytest.raises(ConfigError, match=r"tls=verify\|require\|off"):
            parse_url(f"mysql://u@h{text}")


def test_embedded_urls():
    assert parse_url("embedded:").data_dir is None
    assert str(parse_url("embedded:///a%20b/é").data_dir) == "/a b/é"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sqlite:///x.db", "unknown scheme 'sqlite'"),
        ("lab.db", "unknown scheme"),
        ("mysql://host:3306", "no user"),
        ("mysql://u:p@host/name", "prefix"),
        ("mysql://u:p@host:99999", "port"),
        ("embedded://folder/x", "three slashes"),
        ("mysql://u:p@host?ssl=1", "ssl is not known"),
        ("mysql://u:secretpw@:3306", "no host"),
    ],
)
def test_a_bad_url_says_what_is_wrong_and_hides_the_password(text, says):
    with pytest.raises(ConfigError, match=says) as caught:
        parse_url(text)
    assert "secretpw" not in str(caught.value)

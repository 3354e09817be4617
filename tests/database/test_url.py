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

"""What labs and strangers have written is printed as text: it draws no pictures and sends a terminal no orders."""

import csv
import io
import json
import os
import pty
import subprocess
import sys

import pytest

from labweave.schemas import lab

NAMES = {
    "window": "\x1b]0;owned\x07title",
    "colour": "\x1b[31mred\x1b[0m",
    "c1": "\x9b2Jgone",
    "turned": "\u202egnp.exe",
    "back": "secret\rpublic",
    "emoji": ":smile: [bold]b[/bold]",
}
QUERY = "select lab, institution from {prefix}lab.lab order by lab"


@pytest.fixture
def labs(database):
    lab.Lab.insert([{"lab": name, "institution": text} for name, text in NAMES.items()])
    return database


def test_tables_show_control_characters_and_no_markup(labs, labweave_command):
    shown = labweave_command("sql", QUERY).stdout
    for text in (r"\x1b]0;owned\x07title", r"\x1b[31mred\x1b[0m", r"\x9b2Jgone", r"\u202egnp.exe", r"secret\rpublic"):
        assert text in shown
    assert NAMES["emoji"] in shown
    assert not {"\x1b", "\x07", "\x9b", "\u202e", "\r"} & set(shown)


def test_files_get_the_data_as_they_are(labs, labweave_command):
    told = labweave_command("sql", QUERY, "--format", "csv").stdout
    assert dict(list(csv.reader(io.StringIO(told, newline="")))[1:]) == NAMES
    told = labweave_command("sql", QUERY, "--format", "json").stdout
    assert {row["lab"]: row["institution"] for row in json.loads(told)} == NAMES


@pytest.mark.parametrize("format", ["table", "csv", "json"])
def test_a_terminal_gets_no_control_characters(labs, database_url, format):
    ours, theirs = pty.openpty()
    environment = {**os.environ, "LABWEAVE_DATABASE_URL": database_url, "LABWEAVE_PREFIX": labs.prefix, "TERM": "dumb"}
    command = [sys.executable, "-m", "labweave", "sql", QUERY, "--format", format]
    with subprocess.Popen(command, env=environment, stdin=theirs, stdout=theirs, stderr=theirs) as program:
        os.close(theirs)
        shown = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # the terminal was closed by its last program
                break
            if not part:
                break
            shown += part
    os.close(ours)
    text = shown.decode().replace("\r\n", "\n")  # the terminal's own line ends
    assert program.returncode == 0
    assert "owned" in text and "gnp.exe" in text
    assert not {"\x1b", "\x07", "\x9b", "\u202e", "\r"} & set(text)


def test_errors_show_control_characters(database, labweave_command):
    failed = labweave_command("one", "list", "no \x1b[2Jsession")
    assert failed.returncode == 2 and r"no \x1b[2Jsession" in failed.stderr


def test_safe_csv_holds_no_formulas(labs, labweave_command):
    lab.Lab.insert([{"lab": name, "institution": name + "1"} for name in ("=", "+", "-", "@", "\t")])
    query = "select institution, 1 - 2 as \"n\" from {prefix}lab.lab where lab in ('=', '+', '-', '@', '\t', 'emoji')"
    told = labweave_command("sql", query.replace('"', ""), "--format", "csv", "--safe").stdout
    rows = list(csv.reader(io.StringIO(told)))[1:]
    assert sorted(text for text, _ in rows) == sorted(["'=1", "'+1", "'-1", "'@1", "'\t1", NAMES["emoji"]])
    assert {number for _, number in rows} == {"-1"}

"""``labweave one``: what it prints, and how it fails."""

import csv
import io
import json
import sys

import numpy as np
import one_lab
import pandas as pd
import pytest
from one_lab import EIDS, S1, S2, S3, S4, S6, UNKNOWN

from labweave import cli, ingest
from labweave.database import upsert
from labweave.schemas import session, subject


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    one_lab.write_files(folder)
    return folder


@pytest.fixture
def one(database, root, database_url, monkeypatch, capsys):
    """Run a command in this process: exit code, what it printed, what it said on stderr."""
    one_lab.fill(root)
    monkeypatch.setenv("LABWEAVE_DATABASE_URL", database_url)
    monkeypatch.setenv("LABWEAVE_PREFIX", database.prefix)
    monkeypatch.setenv("LABWEAVE_ONE_CACHE_DIR", str(root))

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["labweave", "one", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        printed = capsys.readouterr()
        return end.value.code or 0, printed.out, printed.err

    return run


def rows(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_search(one):
    code, text, _ = one("search")
    lines = text.splitlines()
    assert code == 0 and len(lines) == 9 and lines[0].split() == [
        "eid", "lab", "subject", "date", "number", "task_protocol", "projects",
    ]  # fmt: skip
    eids = [row["eid"] for row in rows(one("search", "-f", "csv")[1])]
    assert eids == list(one_lab.SESSIONS.sort_values(["date", "start"], ascending=False).eid)
    for terms, found in (
        (["subj=^ZM_11$"], [S3]),
        (["lab=zadorlab,mainenlab", "num=2"], [S2]),
        (["date=2019-05-01,2019-05-07"], [S2, S1]),
        (["date=2019-05-08,"], [EIDS["s7"], S3]),
        (["datasets=spikes.times.npy,_av_trials.choice.npy"], [S4]),
        (["performance_gte=60"], [S1, S4]),
    ):
        code, text, _ = one("search", *terms, "--format", "json")
        assert code == 0 and [row["eid"] for row in json.loads(text)] == found, terms
    assert [row["eid"] for row in rows(one("search", "--limit", "1", "-f", "csv")[1])] == [EIDS["s7"]]
    row = rows(one("search", "task=ephys", "-f", "csv")[1])[0]
    assert (row["date"], row["number"], row["projects"]) == ("2019-04-11", "1", "brainwide,practice")
    code, text, said = one("search", "subject=nobody", "-f", "csv")
    assert (code, text.strip(), said.strip()) == (
        0,
        "eid,lab,subject,date,number,task_protocol,projects",
        "no session fits",
    )


def test_list(one, root):
    truth = one_lab.datasets(root)
    listed = rows(one("list", S4, "-f", "csv")[1])
    own = truth[truth.eid == S4].sort_values("relative_path")
    assert [row["path"] for row in listed] == list(own.relative_path)
    assert [int(row["size"]) for row in listed] == list(own.file_size)
    assert [row["default"] == "True" for row in listed] == list(own.is_default)
    few = rows(one("list", "2019-04-11_1_KS005", "spikes.t*", "--collection", "alf/probe0?", "-f", "csv")[1])
    assert [row["path"] for row in few] == ["alf/probe00/spikes.times.npy", "alf/probe01/spikes.times.npy"]
    assert "CRITICAL" in one("list", S1, "*table*")[1] and "CRITICAL" not in one("list", S1, "--qc", "fail")[1]
    everything = rows(one("list", "-f", "csv")[1])
    assert sorted(row["path"] for row in everything) == sorted(set(truth.relative_path))
    assert one("list", EIDS["s8"], "-f", "csv")[1].splitlines() == ["path,size,exists,default,qc"]


def test_load(one, root):
    choice = one_lab.contents()[S1]["alf/_ibl_trials.choice.npy"]
    code, text, _ = one("load", S1, "trials.choice", "-f", "csv")
    assert code == 0 and np.array_equal([float(row["value"]) for row in rows(text)], choice)
    assert json.loads(one("load", S1, "trials.choice", "-f", "json")[1]) == choice.tolist()
    shown = one("load", S1, "_ibl_trials.intervals.npy", "--rows", "3")[1].splitlines()
    assert len(shown) == 5 and shown[0].split() == ["0", "1"] and shown[-1] == "... 100 rows"
    table = rows(one("load", S1, "alf/_ibl_leftCamera.dlc.pqt", "-f", "csv")[1])
    assert len(table) == 250 and list(table[0]) == ["paw_x", "paw_y", "paw_likelihood"]
    assert one("load", S1, "odd.values.yaml")[1].strip() == '{"a": [1, 2]}'
    assert one("load", S1, "obj.text.txt")[1].strip().endswith("odd/obj.text.txt")
    code, text, said = one("load", S1, "empty.file.npy")
    assert (code, text.strip()) == (0, "") and "is empty" in said
    bunch = one("load", S4, "spikes", "--collection", "alf/probe00/pykilosort")[1].splitlines()
    assert bunch[0].split() == ["attribute", "shape", "type"] and ["times", "150", "float64"] in [
        line.split() for line in bunch
    ]
    old = one(
        "load", S4, "spikes.times", "--collection", "alf/probe00/pykilosort", "--revision", "2023-01-01", "-f", "json"
    )
    assert len(json.loads(old[1])) == 10
    trials = pd.DataFrame(json.loads(one("load", S1, "wheelMoves", "-f", "json")[1])["peakAmplitude"])
    assert len(trials) == 20


def test_path_and_id(one, root):
    folder = root / one_lab.SESSIONS.path[S6]
    assert one("path", S6) == (0, f"{folder}\n", "")
    assert one("path", str(folder), "alf/task_00/_ibl_trials.choice.npy") == (
        0, f"{folder}/alf/task_00/_ibl_trials.choice.npy\n", "",
    )  # fmt: skip
    files = one("path", S4, "spikes", "--collection", "alf/probe01", "--offline")[1].splitlines()
    assert sorted(files) == [
        f"{root / one_lab.SESSIONS.path[S4]}/alf/probe01/spikes.{name}.npy" for name in ("amps", "clusters", "times")
    ]
    given = [str(root / one_lab.SESSIONS.path[eid]) for eid in (S1, S4)]
    assert one("id", *given, "2018-07-13_001_flowers", S2.upper())[1].split() == [S1, S4, S6, S2]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["search", "foo=1"], "foo"),
        (["search", "subject=("], "("),
        (["search", "subject"], "NAME=VALUE"),
        (["list", UNKNOWN], UNKNOWN),
        (["list", "nonsense"], "nonsense"),
        (["list", "/nowhere/m1/2020-01-01/001"], "No session is at"),
        (["load", S1, "no.such.npy"], "no.such.npy"),
        (["load", S4, "spikes"], "alf/probe01"),
        (["path", UNKNOWN], UNKNOWN),
        (["path", S1, "wheel*"], "wheelMoves"),
    ],
)
def test_errors_are_one_line_and_exit_code_2(one, arguments, said):
    code, text, error = one(*arguments)
    assert code == 2 and text == "" and said in error and "Traceback" not in error


def test_a_session_without_a_date_has_no_path(one):
    eid = "0b0b0b0b-0000-4000-8000-000000000001"
    upsert(session.Session, [{"eid": eid, **(subject.Subject & {"subject": "KS005"}).fetch1("KEY")}])
    code, _, error = one("path", eid)
    assert code == 2 and "has no date" in error


def test_pickles_are_loaded_when_they_are_trusted(one, tmp_path):
    folder = tmp_path / "lab1/Subjects/m1/2020-01-02/001"
    folder.mkdir(parents=True)
    np.save(folder / "extras.objects.npy", np.array([{"a": 1}, None], dtype=object), allow_pickle=True)
    assert ingest.run("alf", tmp_path, lab="lab1").failed == 0
    asked = ("load", "2020-01-02_1_m1", "extras.objects.npy", "-f", "json")
    code, text, said = one(*asked)
    assert (code, text) == (2, "") and "--trust-pickles" in said
    assert json.loads(one(*asked, "--trust-pickles")[1]) == [{"a": 1}, None]


def test_help_names_the_terms(one):
    code, text, _ = one("search", "--help")
    assert code == 0 and "dataset_qc_lte" in text

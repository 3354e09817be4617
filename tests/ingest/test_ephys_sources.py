"""Recordings go in from folders and mappings of every kind, with what the files and the user say."""

import json
import re
import uuid
import warnings

import abf_files
import h5py
import numpy as np
import nwb_files
import pytest
import scipy.io
import yaml
from simulated import LAB, OPTIONS, contents, differences, sweeps_of, write_cell, write_cells

from labweave import ingest, populate
from labweave.analysis import read_recording
from labweave.ephys import StimulusWarning
from labweave.errors import ConfigError, SourceError
from labweave.schemas import ingestion, lab, recording, session, subject

ITEMS = {"t_unit": "ms", "v_unit": "mV", "i_unit": "pA"}


def test_a_folder_of_hdf5_files(database, tmp_path):
    write_cells(tmp_path, 2)
    write_cell(
        tmp_path / "deep" / "er",
        2,
        "Zellé 2",
        file="mit Leer zeichen ü.h5",
        ljp=14.0,
        cell_type="L5PC",
        species="Mus musculus",
        sex="F",
    )
    (tmp_path / ".hidden").mkdir()
    write_cell(tmp_path / ".hidden", 3)
    (tmp_path / "notes.txt").write_text("not a recording")
    report = ingest.run("ephys", tmp_path, **OPTIONS)
    assert (report.seen, report.new, report.changed, report.unchanged, report.failed) == (3, 3, 0, 0, 0)
    assert report.exit_code == 0
    cells = {row["cell"]: row for row in recording.Cell().to_dicts()}
    assert set(cells) == {"cell0", "cell1", "Zellé 2"}
    assert (cells["Zellé 2"]["ljp"], cells["Zellé 2"]["cell_type"]) == (14.0, "L5PC")
    assert cells["cell0"]["ljp"] is None
    animal = (subject.Subject & {"subject": "mouse-Zellé 2"}).fetch1()
    assert (animal["sex"], animal["species"], animal["lab"]) == ("F", "Mus musculus", LAB)
    assert len(recording.Recording()) == 3 * len(sweeps_of(0))
    row = (recording.Recording & {"cell": "Zellé 2", "sweep": "sweep_003"}).fetch1()
    assert row["recording"] == "deep/er/mit Leer zeichen ü#sweep_003"
    assert row["files"]["filepath"]["path"] == "deep/er/mit Leer zeichen ü.h5"
    assert (row["protocol"], row["reader"], row["metadata"]) == ("IDrest", "hdf5", {"ljp": 14.0})
    assert sorted(session.Session().to_arrays("session_number")) == [1, 1, 1]
    assert lab.Lab().fetch1("lab") == LAB


def test_one_file_as_location(database, tmp_path):
    path = write_cell(tmp_path, 0)
    write_cell(tmp_path, 1)
    ingest.run("ephys", path, **OPTIONS)
    assert recording.Cell().fetch1("cell") == "cell0"


def write_mapping(folder, kind, files_metadata, cells):
    path = folder / f"files_metadata.{kind}"
    if kind == "csv":
        names = ["cell", "protocol", "filepath", "sweep", "ljp", "subject", "session_date", "cell_type"]
        lines = [",".join(names)]
        for cell, protocols in files_metadata.items():
            for protocol, items in protocols.items():
                for item in items:
                    values = {"cell": cell, "protocol": protocol, **item, **cells[cell]}
                    lines.append(",".join(f'"{values.get(name, "")}"' for name in names))
        path.write_text("\r\n".join(lines) + "\r\n", encoding="utf-8-sig")
        return path
    content = {"files_metadata": files_metadata, "cells": cells}
    text = json.dumps(content, ensure_ascii=False) if kind == "json" else yaml.safe_dump(content, allow_unicode=True)
    path.write_text(text, encoding="utf-8-sig")
    return path


@pytest.mark.parametrize("kind", ["json", "yaml", "yml", "csv"])
def test_a_mapping_says_the_same_in_every_format(database, tmp_path, kind):
    write_cell(tmp_path / "ro h" / "ü", 0, file="a b.h5")
    write_cell(tmp_path, 1, file="other.h5")
    files_metadata = {
        "Zelle ü": {"IDrest": [{"filepath": "ro h/ü/a b.h5", "sweep": "sweep_001", "ljp": 14.0}, {"filepath": "ro h/ü/a b.h5", "sweep": "sweep_002", "ljp": 14.0}]},
        "two": {"IV": [{"filepath": "other.h5", "sweep": "sweep_000"}]},
    }  # fmt: skip
    cells = {
        "Zelle ü": {"subject": "Größe, 1", "session_date": "2025-12-31", "cell_type": "BC"},
        "two": {"subject": "m2", "session_date": "2025-12-30"},
    }
    write_mapping(tmp_path, kind, files_metadata, cells)
    report = ingest.run("ephys", tmp_path, lab=LAB, cell_type="PC")
    assert (report.seen, report.failed) == (2, 0), report.failures
    rows = recording.Recording().to_dicts(order_by="cell, recording")
    found = [(row["cell"], row["protocol"], row["recording"], row["sweep"], row["metadata"]) for row in rows]
    assert found == sorted(
        [
            ("Zelle ü", "IDrest", "ro h/ü/a b#sweep_001", "sweep_001", {"ljp": 14.0}),
            ("Zelle ü", "IDrest", "ro h/ü/a b#sweep_002", "sweep_002", {"ljp": 14.0}),
            ("two", "IV", "other#sweep_000", "sweep_000", {}),
        ]
    )
    assert {row["cell"]: row["cell_type"] for row in recording.Cell().to_dicts()} == {"Zelle ü": "BC", "two": "PC"}
    assert {(row["subject"], str(row["session_date"])) for row in session.Session().to_dicts()} == {
        ("Größe, 1", "2025-12-31"),
        ("m2", "2025-12-30"),
    }
    again = ingest.run("ephys", tmp_path, lab=LAB, cell_type="PC")
    assert (again.unchanged, again.new, again.changed) == (2, 0, 0)


def test_a_bare_mapping_of_another_name(database, tmp_path):
    write_cell(tmp_path, 0)
    (tmp_path / "my list.json").write_text(
        json.dumps({"c": {"IDrest": [{"filepath": "cell0.h5", "sweep": "sweep_000"}]}})
    )
    ingest.run("ephys", tmp_path, mapping="my list.json", **OPTIONS)
    assert recording.Recording().fetch1("cell") == "c"
    with pytest.raises(SourceError, match="no such mapping file"):
        ingest.run("ephys", tmp_path, mapping="nope.json", **OPTIONS)


def test_numbers_as_names_of_cells(database, tmp_path):
    write_cell(tmp_path, 0)
    (tmp_path / "metadata.yaml").write_text("1201:\n  IDrest:\n  - {filepath: cell0.h5, sweep: sweep_000}\n")
    report = ingest.run("ephys", tmp_path, **OPTIONS)
    assert report.failed == 0, report.failures
    assert recording.Cell().fetch1("cell") == "1201"


def test_igor_pairs_of_a_folder(database, tmp_path, shared):
    for number in (181, 182):
        for channel in (0, 3):
            name = f"B6_Ch{channel}_IDRest_{number}.ibw"
            (tmp_path / "B6").mkdir(exist_ok=True)
            (tmp_path / "B6" / name).write_bytes((shared / "data/ephys/B6" / name).read_bytes())
    source = shared / "data/ephys/C060109A1-SR-C1"
    (tmp_path / "C06").mkdir()
    for name in (
        "X_IDrest_ch0_326.ibw",
        "X_IDrest_ch1_326.ibw",
        "X_APWaveform_ch0_296.ibw",
        "X_APWaveform_ch1_296.ibw",
    ):
        (tmp_path / "C06" / name).write_bytes((source / name).read_bytes())
    report = ingest.run("ephys", tmp_path, **OPTIONS)
    by_unit = {failure.path: failure.message for failure in report.failures}
    assert report.seen == 2
    rows = {(row["cell"], row["protocol"], row["recording"]): row["files"] for row in recording.Recording().to_dicts()}
    assert "C06" not in by_unit, by_unit
    assert {key[:2] for key in rows if key[0] == "C06"} == {("C06", "IDrest"), ("C06", "APWaveform")}
    pair = next(files for key, files in rows.items() if key[1] == "IDrest")
    assert (pair["i_file"]["path"], pair["v_file"]["path"]) == ("C06/X_IDrest_ch0_326.ibw", "C06/X_IDrest_ch1_326.ibw")


def test_an_igor_sweep_without_its_other_half_names_the_file(database, tmp_path, shared):
    name = "X_IDrest_ch1_326.ibw"
    (tmp_path / name).write_bytes((shared / "data/ephys/C060109A1-SR-C1" / name).read_bytes())
    report = ingest.run("ephys", tmp_path, **OPTIONS)
    assert report.failed == 1
    assert name in report.failures[0].message and "current" in report.failures[0].message


def test_what_a_file_says_wins_over_the_options(database, tmp_path):
    write_cell(tmp_path, 0, subject="of the file", session_date="2024-05-06", session_number=3)
    ingest.run("ephys", tmp_path, lab=LAB, subject="of the option", session_date="2026-01-02", session_number="2")
    row = session.Session().fetch1()
    assert (row["subject"], str(row["session_date"]), row["session_number"]) == ("of the file", "2024-05-06", 3)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"session_date": "2026-01-02"}, ["'cell0'", "subject", "is not known", "--subject"]),
        ({"subject": "m"}, ["'cell0'", "session_date", "is not known", "--session-date"]),
    ],
)
def test_what_is_missing_is_named_with_cell_and_option(database, tmp_path, given, says):
    write_cell(tmp_path, 0)
    report = ingest.run("ephys", tmp_path, lab=LAB, **given)
    assert (report.failed, report.exit_code) == (1, 1)
    assert all(text in report.failures[0].message for text in says), report.failures[0].message
    assert len(recording.Cell()) == len(session.Session()) == len(subject.Subject()) == 0


def test_a_bad_date_in_a_file_is_named(database, tmp_path):
    write_cell(tmp_path, 0, subject="m", session_date="yesterday")
    report = ingest.run("ephys", tmp_path, lab=LAB)
    assert "yesterday" in report.failures[0].message and "session_date" in report.failures[0].message


def test_what_can_not_start_is_a_config_or_source_error(database, tmp_path):
    before = contents(database)
    with pytest.raises(SourceError, match="does not exist"):
        ingest.run("ephys", tmp_path / "nowhere", **OPTIONS)
    with pytest.raises(SourceError, match="Nothing in .* can be read"):
        ingest.run("ephys", tmp_path, **OPTIONS)
    write_cell(tmp_path, 0)
    with pytest.raises(ConfigError, match="--lab"):
        ingest.run("ephys", tmp_path, subject="m", session_date="2026-01-02")
    with pytest.raises(ConfigError, match=r"No adapter is called 'nope'\. Installed: .*ephys"):
        ingest.run("nope", tmp_path, **OPTIONS)
    with pytest.raises(
        ConfigError,
        match="colour.*Its options: subject, species, session_date, session_number, cell_type, allow_case, allow_copies, mapping",
    ):
        ingest.run("ephys", tmp_path, colour="red", **OPTIONS)
    with pytest.raises(ConfigError, match="session_date"):
        ingest.run("ephys", tmp_path, **{**OPTIONS, "session_date": "someday"})
    assert differences(before, contents(database)) == {}


@pytest.mark.parametrize("bad", ["..", "absolute", "symlink"])
@pytest.mark.parametrize("role", ["filepath", "v_file"])
def test_a_path_that_leaves_the_folder_is_refused_and_the_others_go_in(database, tmp_path, bad, role):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    write_cell(inside, 1)
    secret = write_cell(outside, 0)
    path = {"..": "../outside/cell0.h5", "absolute": str(secret), "symlink": "link/cell0.h5"}[bad]
    if bad == "symlink":
        (inside / "link").symlink_to(outside)
    mapping = {
        "stolen": {"IDrest": [{role: path}]},
        "honest": {"IDrest": [{"filepath": "cell1.h5", "sweep": "sweep_001"}]},
    }
    (inside / "metadata.json").write_text(json.dumps(mapping))
    report = ingest.run("ephys", inside, **OPTIONS)
    assert [failure.path for failure in report.failures] == ["stolen"]
    assert path in report.failures[0].message and "leaves" in report.failures[0].message
    assert recording.Cell().to_arrays("cell").tolist() == ["honest"]
    assert "stolen" in ingestion.Failure().to_arrays("path").tolist()


def test_a_mapping_option_that_leaves_the_folder_is_refused(database, tmp_path):
    write_cell(tmp_path / "inside", 0)
    (tmp_path / "out.json").write_text("{}")
    with pytest.raises(SourceError, match="leaves"):
        ingest.run("ephys", tmp_path / "inside", mapping="../out.json", **OPTIONS)


def test_a_path_is_kept_in_one_spelling(database, tmp_path):
    write_cell(tmp_path / "a", 0)
    for path in ("a/cell0.h5", "./a//cell0.h5", "a/../a/cell0.h5", str(tmp_path / "a" / "cell0.h5"), "a\\cell0.h5"):
        (tmp_path / "metadata.json").write_text(
            json.dumps({"c": {"IDrest": [{"filepath": path, "sweep": "sweep_000"}]}})
        )
        assert ingest.run("ephys", tmp_path, **OPTIONS).failed == 0
        assert recording.Recording().fetch1("recording") == "a/cell0#sweep_000"
        assert ingestion.SourceFile().fetch1("path") == "a/cell0.h5"


def test_listed_twice(database, tmp_path):
    write_cell(tmp_path, 0)
    item = {"filepath": "cell0.h5", "sweep": "sweep_000"}
    (tmp_path / "metadata.json").write_text(json.dumps({"c": {"IDrest": [item, dict(item)]}}))
    assert ingest.run("ephys", tmp_path, **OPTIONS).failed == 0
    assert len(recording.Recording()) == 1
    (tmp_path / "metadata.json").write_text(json.dumps({"d": {"IDrest": [item, {**item, "ljp": 10.0}]}}))
    report = ingest.run("ephys", tmp_path, **OPTIONS)
    assert "listed twice" in report.failures[0].message and "cell0#sweep_000" in report.failures[0].message
    assert recording.Cell().to_arrays("cell").tolist() == ["c"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"c": {"IDrest": [{"sweep": "x"}]}}', "'c'.*neither filepath nor v_file"),
        ('{"c": {"IDrest": []}}', "'c'.*lists no file"),
        ('{"c": {"IDrest": "cell0.h5"}}', "a list of files is expected"),
        ('{"c": "cell0.h5"}', "protocols with lists of files"),
        ("[1]", "a mapping of cells is expected"),
        ("{", "can't be read as JSON"),
        ('{"files_metadata": [1]}', "mapping of cells is expected"),
        ('{"files_metadata": {"c": {"IDrest": []}}, "cells": ["c"]}', "cells"),
        ('{"files_metadata": {}, "cells": {"nobody": {"subject": "m"}}}', "nobody"),
    ],
)
def test_a_mapping_that_can_not_be_used_is_named(database, tmp_path, text, says):
    write_cell(tmp_path, 0)
    (tmp_path / "metadata.json").write_text(text)
    try:
        (failure,) = ingest.run("ephys", tmp_path, **OPTIONS).failures
        message = failure.message
    except SourceError as error:
        message = str(error)
    assert re.search(says, message) and "metadata.json" in message
    assert len(recording.Cell()) == 0


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["cell,protocol,filepath", "c,,cell0.h5"], "line 2: no protocol"),
        (["cell,protocol,filepath", "c,IDrest,cell0.h5,extra"], "line 2: more values than columns"),
        (["cell,protocol,filepath,subject", "c,IDrest,cell0.h5,a", "c,IDrest,cell0.h5,b"], "line 3: .*'c'"),
    ],
)
def test_a_csv_line_that_can_not_be_used_is_named(database, tmp_path, lines, says):
    write_cell(tmp_path, 0)
    (tmp_path / "metadata.csv").write_text("\n".join(lines))
    with pytest.raises(SourceError, match=says):
        ingest.run("ephys", tmp_path, **OPTIONS)


def test_a_quoted_csv_value_may_hold_a_line_break(database, tmp_path):
    write_cell(tmp_path, 0)
    (tmp_path / "metadata.csv").write_text(
        'cell,protocol,filepath,sweep,remark\nc,IDrest,cell0.h5,sweep_000,"two\nlines"\n'
    )
    assert ingest.run("ephys", tmp_path, **OPTIONS).failed == 0
    assert recording.Recording().fetch1("metadata") == {"remark": "two\nlines"}


def test_text_in_a_csv_that_looks_like_a_number_stays_what_it_is(database, tmp_path):
    write_cell(tmp_path, 0, file="007.h5", sweeps=[{**sweeps_of(0)[0], "name": "0001"}])
    (tmp_path / "metadata.csv").write_text(
        "cell,protocol,filepath,sweep,subject,ljp\n0012,IDrest,007.h5,0001,0034,14\n"
    )
    assert ingest.run("ephys", tmp_path, lab=LAB, session_date="2026-01-02").failed == 0
    row = recording.Recording().fetch1()
    assert (row["cell"], row["recording"], row["metadata"]) == ("0012", "007#0001", {"ljp": 14.0})
    assert session.Session().fetch1("subject") == "0034"


def test_the_eid_is_of_version_3_and_the_same_everywhere(database, tmp_path):
    write_cell(tmp_path, 0, "c", subject="m1", session_date="2026-01-02")
    ingest.run("ephys", tmp_path, lab=LAB)
    eid = session.Session().fetch1("eid")
    assert uuid.UUID(eid).version == 3
    # Pinned: databases out there hold it. md5 of the DNS namespace, then of the identity.
    namespace = uuid.uuid3(uuid.NAMESPACE_DNS, "labweave")
    assert (
        eid == str(uuid.uuid3(namespace, "session/testlab/m1/2026-01-02/001")) == "ed21053a-a9ee-336f-acfa-1b92794d92d7"
    )
    assert uuid.UUID(subject.Subject().fetch1("subject_uuid")).version == 3


def test_a_session_that_is_known_under_another_eid_is_used(database, tmp_path):
    known = "11111111-1111-4111-8111-111111111111"
    lab.Lab.insert1({"lab": LAB})
    subject.Subject.insert1(
        {"lab": LAB, "subject": "m1", "subject_uuid": "22222222-2222-4222-8222-222222222222", "sex": "M"}
    )
    session.Session.insert1(
        {"eid": known, "lab": LAB, "subject": "m1", "session_date": "2026-01-02", "session_number": 2}
    )
    write_cell(tmp_path, 0, "c", subject=" m1 ", session_date="2026-01-02", session_number=2)
    write_cell(tmp_path, 1, "d", subject="m1", session_date="2026-01-02", session_number=1)
    ingest.run("ephys", tmp_path, lab=LAB)
    assert {row["cell"]: row["eid"] == known for row in recording.Cell().to_dicts()} == {"c": True, "d": False}
    animal = subject.Subject().fetch1()
    assert (animal["subject_uuid"], animal["sex"]) == ("22222222-2222-4222-8222-222222222222", "M")


def test_names_are_stripped_and_composed(database, tmp_path):
    write_cell(tmp_path, 0, " c\u0327a ", file="x.h5", subject="u\u0308 ", session_date="2026-01-02")
    ingest.run("ephys", tmp_path, lab=LAB)
    assert recording.Cell().fetch1("cell") == "ça"
    assert session.Session().fetch1("subject") == "ü"


# --- files of other programs ------------------------------------------------------------------------


def names_of(cell, protocol):
    return sorted((recording.Recording & {"cell": cell, "protocol": protocol}).to_arrays("recording"))


def stimulus_of(cell, **key):
    """Let the tables read one sweep from its file, the way populate does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StimulusWarning)
        return read_recording({"cell": cell, **key})


def table_of_voltages(path):
    path.write_text("".join(f"{-65 - n % 7}\t{-66 - n % 5}\n" for n in range(2000)))
    return path.name


def test_nwb_files_say_cell_protocol_subject_and_day(database, tmp_path):
    path = nwb_files.write_bbp(tmp_path / "many.nwb")
    with h5py.File(path, "r+") as file:
        file["session_start_time"] = "2024-05-06T07:08:09+00:00"
        file["general/subject/subject_id"] = "m12"
        file["general/subject/species"] = "Mus musculus"
    report = ingest.run("ephys", tmp_path, lab=LAB)
    assert (report.seen, report.failed) == (1, 0), report.failures
    assert names_of("cell1", "IDRest") == ["many#ic__1", "many#ic__2"]
    assert names_of("cell1", "IV") == ["many#ccs_3"]
    assert names_of("cell2", "IDRest") == ["many#ic__4"]
    row = session.Session().fetch1()
    assert (row["subject"], str(row["session_date"])) == ("m12", "2024-05-06")
    assert set(recording.Recording().to_arrays("reader")) == {"nwb"}
    sweep = stimulus_of("cell1", sweep="ic__2")
    assert sweep.voltage[:2] == pytest.approx([100.0, 101.0])
    assert sweep.current[:2] == pytest.approx([0.1, 0.101])


def test_a_mapping_takes_every_sweep_of_the_protocol_in_a_file(database, tmp_path):
    nwb_files.write_bbp(tmp_path / "many.nwb")
    nwb_files.write_aibs(tmp_path / "aibs.nwb")
    abf_files.write_abf2(tmp_path / "x.abf", n_samples=2000)
    mapping = {
        "cell1": {
            "idrest": [{"filepath": "many.nwb", "repetition": 2}, {"filepath": "x.abf"}],
            "IV": [{"filepath": "many.nwb", "v_file": "A_3.ibw"}],
        },
        "c": {"Step": [{"filepath": "aibs.nwb", "protocol_name": "Long Square"}]},
    }
    with h5py.File(tmp_path / "many.nwb", "r+") as file:
        file["acquisition/ccs_3"].attrs["description"] = "raw/A_3.ibw"
    (tmp_path / "metadata.json").write_text(json.dumps(mapping))
    report = ingest.run("ephys", tmp_path, **OPTIONS)
    assert report.failed == 0, report.failures
    assert names_of("cell1", "idrest") == ["many#ic__2", "x#sweep_000", "x#sweep_001", "x#sweep_002"]
    assert names_of("cell1", "IV") == ["many#ccs_3"]
    assert names_of("c", "Step") == ["aibs#Sweep_0", "aibs#Sweep_2"]
    assert stimulus_of("cell1", sweep="ccs_3").voltage[0] == pytest.approx(200.0)
    assert stimulus_of("cell1", sweep="sweep_001").voltage[0] == pytest.approx(50.0)
    assert stimulus_of("c", sweep="Sweep_2").voltage[0] == pytest.approx(200.0)
    row = (recording.Recording & {"sweep": "ccs_3"}).fetch1()
    assert (row["metadata"], set(row["files"])) == ({"v_file": "A_3.ibw"}, {"filepath"})
    assert ingest.run("ephys", tmp_path, **OPTIONS).unchanged == report.seen


def test_a_file_of_several_cells_needs_their_names(database, tmp_path):
    nwb_files.write_bbp(tmp_path / "many.nwb")
    (tmp_path / "metadata.json").write_text(json.dumps({"c": {"IDRest": [{"filepath": "many.nwb"}]}}))
    (failure,) = ingest.run("ephys", tmp_path, **OPTIONS).failures
    assert "many.nwb holds the cells cell1, cell2, none is called 'c'" in failure.message


def test_a_cell_without_any_sweep_is_named(database, tmp_path):
    nwb_files.write_aibs(tmp_path / "aibs.nwb")
    (tmp_path / "metadata.json").write_text(json.dumps({"c": {"Step": [{"filepath": "aibs.nwb"}]}}))
    (failure,) = ingest.run("ephys", tmp_path, **OPTIONS).failures
    assert "aibs.nwb: no sweep of Step, which the mapping asks for cell 'c'" in failure.message
    second = ingest.run("ephys", tmp_path, **OPTIONS)
    assert (second.failed, second.known_failures, second.failures) == (1, 1, [])


def test_a_protocol_that_a_file_lacks_is_named_until_the_mapping_is_corrected(database, tmp_path, labweave_command):
    nwb_files.write_aibs(tmp_path / "aibs.nwb")

    def write_mapping(other):
        mapping = {"c": {"Ramp": [{"filepath": "aibs.nwb"}], other: [{"filepath": "aibs.nwb"}]}}
        (tmp_path / "metadata.json").write_text(json.dumps(mapping))

    write_mapping("sAHP")
    report = ingest.run("ephys", tmp_path, **OPTIONS)
    assert (report.new, report.failed, report.refused, report.exit_code) == (1, 0, 1, 1)
    assert names_of("c", "Ramp") == ["aibs#Sweep_1"]
    named = "no sweep of sAHP, which the mapping asks for cell 'c'"
    assert named in str(report) and named in labweave_command("errors", check=0).stdout
    second = ingest.run("ephys", tmp_path, **OPTIONS)
    assert (second.unchanged, second.refused, second.known_failures, second.failures) == (1, 1, 1, [])
    assert named in labweave_command("errors", check=0).stdout
    write_mapping("Long Square")
    assert ingest.run("ephys", tmp_path, **OPTIONS).exit_code == 0
    assert named not in labweave_command("errors", check=0).stdout


def test_a_file_that_needs_a_mapping_is_named_as_location_too(database, tmp_path):
    (tmp_path / "notes.txt").write_text("patched well")
    for name in ("notes.txt", table_of_voltages(tmp_path / "x.txt")):
        (failure,) = ingest.run("ephys", tmp_path / name, **OPTIONS).failures
        assert name in failure.message and "mapping" in failure.message


def test_axon_files_of_a_folder_are_one_cell(database, tmp_path):
    """Cell by the folder, protocol and day by the header."""
    (tmp_path / "cell 7").mkdir()
    abf_files.write_abf1(tmp_path / "cell 7" / "a.abf", n_samples=2000)
    abf_files.write_abf2(tmp_path / "cell 7" / "b.ABF", n_samples=2000, protocol="D:\\p\\IV.pro")
    report = ingest.run("ephys", tmp_path, lab=LAB, subject="m1")
    assert (report.seen, report.failed) == (1, 0), report.failures
    assert names_of("cell 7", "IDRest") == [f"cell 7/a#sweep_00{n}" for n in range(3)]
    assert names_of("cell 7", "IV") == [f"cell 7/b#sweep_00{n}" for n in range(3)]
    assert str(session.Session().fetch1("session_date")) == "2020-01-02"


def test_an_axon_file_without_a_protocol_needs_a_mapping(database, tmp_path):
    abf_files.write_abf2(tmp_path / "a.abf", protocol="(untitled)")
    (failure,) = ingest.run("ephys", tmp_path, **OPTIONS).failures
    assert "a.abf: its header names no protocol" in failure.message and "mapping" in failure.message


@pytest.mark.parametrize("kind", ["json", "csv"])
def test_tables_and_matlab_files_get_from_the_mapping_what_they_lack(database, tmp_path, kind):
    table_of_voltages(tmp_path / "x.txt")
    time = np.arange(2000) * 1e-4
    pair = {"Trace_1_1": np.column_stack([time, time]), "Trace_1_2": np.column_stack([time, time - 0.07])}
    scipy.io.savemat(tmp_path / "y.mat", pair)
    table = {
        "filepath": "x.txt", "dt": 0.1, "t_unit": "ms", "v_unit": "mV", "i_unit": "pA", "hypamp": -20, "ton": 50, "toff": 150,
    }  # fmt: skip
    matlab = {"filepath": "y.mat", "t_unit": "s", "v_unit": "V", "i_unit": "A"}
    if kind == "json":
        mapping = {"c": {"Step": [{**table, "amplitudes": [10, -10]}, matlab]}}
        (tmp_path / "metadata.json").write_text(json.dumps(mapping))
    else:
        names = [*table, "amplitudes"]
        lines = [",".join(["cell", "protocol", *names])]
        lines += [",".join(["c", "Step", *[str(item.get(n, "")) for n in names]]) for item in ({**table, "amplitudes": "10 -10"}, matlab)]  # fmt: skip
        (tmp_path / "metadata.csv").write_text("\n".join(lines))
    report = ingest.run("ephys", tmp_path, **OPTIONS)
    assert report.failed == 0, report.failures
    assert names_of("c", "Step") == ["x#sweep_000", "x#sweep_001", "y#Trace_1_1"]
    sweep = stimulus_of("c", sweep="sweep_001")
    assert (sweep.amp, sweep.hypamp, sweep.ton, sweep.toff) == pytest.approx((-0.01, -0.02, 50.0, 150.0))
    assert stimulus_of("c", sweep="Trace_1_1").voltage[0] == pytest.approx(-70.0)


def test_what_a_mapping_lacks_is_named_at_once(database, tmp_path):
    table_of_voltages(tmp_path / "x.txt")
    channels = [("Vm", "", "voltage"), ("Im", "", "current")]
    abf_files.write_abf2(tmp_path / "y.abf", channels=channels)
    scipy.io.savemat(tmp_path / "z.mat", {"Trace_1": np.eye(2), "Trace_2": np.eye(2)})
    mapping = {name: {"Step": [{"filepath": name}]} for name in ("x.txt", "y.abf", "z.mat")}
    (tmp_path / "metadata.json").write_text(json.dumps(mapping))
    report = ingest.run("ephys", tmp_path, **OPTIONS)
    messages = {failure.path: failure.message for failure in report.failures}
    assert "says nothing of dt, t_unit, v_unit, i_unit, amplitudes, hypamp, ton, toff" in messages["x.txt"]
    assert "don't tell voltage from current" in messages["y.abf"]
    assert "no t_unit in the file" in messages["z.mat"]
    assert len(recording.Recording()) == 0


def test_recordings_that_need_a_mapping_are_named_and_notes_are_left(database, tmp_path):
    write_cell(tmp_path, 0)
    table_of_voltages(tmp_path / "x.txt")
    (tmp_path / "notes.txt").write_text("patched well")
    scipy.io.savemat(tmp_path / "y.mat", {"Trace_1": np.eye(2), "Trace_2": np.eye(2)})
    scipy.io.savemat(tmp_path / "analysis.mat", {"x": np.eye(2)})
    (tmp_path / "broken.mat").write_bytes(b"MATLAB 5.0 MAT-file")
    report = ingest.run("ephys", tmp_path, **OPTIONS)
    messages = {failure.path: failure.message for failure in report.failures}
    assert set(messages) == {"x.txt", "y.mat", "broken.mat"}
    assert "mapping" in messages["x.txt"] and "mapping" in messages["y.mat"]
    assert "not a complete MATLAB file" in messages["broken.mat"]
    assert recording.Cell().to_arrays("cell").tolist() == ["cell0"]


def test_a_reader_can_be_named_for_a_file_of_another_suffix(database, tmp_path):
    nwb_files.write_trt(tmp_path / "x.h5")
    mapping = {"c": {"Step": [{"filepath": "x.h5", "reader": "nwb"}]}}
    (tmp_path / "metadata.json").write_text(json.dumps(mapping))
    report = ingest.run("ephys", tmp_path, **OPTIONS)
    assert report.failed == 0, report.failures
    assert names_of("c", "Step") == ["x#index_00", "x#index_02", "x#index_10_0"]
    row = (recording.Recording & {"sweep": "index_02"}).fetch1()
    assert (row["reader"], row["metadata"]) == ("nwb", {})


@pytest.mark.parametrize("name", ["x.nwb", "x.abf"])
def test_a_broken_file_is_one_failure(database, tmp_path, name):
    write_cell(tmp_path, 0)
    (tmp_path / "d").mkdir()
    write = nwb_files.write_bbp if name == "x.nwb" else abf_files.write_abf2
    path = write(tmp_path / "d" / name)
    path.write_bytes(path.read_bytes()[:1500])
    report = ingest.run("ephys", tmp_path, **OPTIONS)
    (failure,) = report.failures
    assert failure.error_class == "ReadError" and str(path) in failure.message
    assert recording.Cell().to_arrays("cell").tolist() == ["cell0"]


def test_a_real_axon_file_of_many_sweeps_is_computed(database, tmp_path, shared):
    """Each of 16 sweeps alone; mean voltages in mV as BluePyEfe 2.3.63 reads them, units from the file."""
    (tmp_path / "x.abf").write_bytes((shared / "data/ephys/abf/2020_03_02_0000.abf").read_bytes())
    item = {"filepath": "x.abf", "ton": 131.3, "toff": 631.4}
    (tmp_path / "metadata.json").write_text(json.dumps({"passive": {"Step": [item]}}))
    assert ingest.run("ephys", tmp_path, **OPTIONS).failed == 0
    populate.run(["RecordingStimulus"])
    rows = recording.RecordingStimulus().to_dicts(order_by="recording")
    assert [row["recording"] for row in rows] == [f"x#sweep_{number:03d}" for number in range(16)]
    for row in rows:
        assert (row["n_samples"], row["dt"], row["tend"]) == (20000, pytest.approx(0.1), pytest.approx(2000.0))
    assert stimulus_of("passive", sweep="sweep_000").voltage.mean(dtype=float) == pytest.approx(-28.45907387)
    assert stimulus_of("passive", sweep="sweep_015").voltage.mean(dtype=float) == pytest.approx(72.415389951)

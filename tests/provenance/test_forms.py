"""The forms of an explanation, read by what reads them elsewhere."""

import io
import json
import sys

import pytest
from simulated import OPTIONS, sweeps_of, write_cell

import labweave
from labweave import ingest, populate
from labweave.errors import ConfigError
from labweave.formats.hashing import sha256_of_file
from labweave.provenance import render
from labweave.schemas import recording, rheobase

pytestmark = pytest.mark.slow


@pytest.fixture
def found(database, tmp_path):
    """The explanation of a rheobase, whose cell's type was overwritten, of two files, one of which is gone."""
    for number in (0, 5):
        write_cell(tmp_path, 0, "a", file=f"a/s{number}.h5", sweeps=[sweeps_of(0)[number]])
    ingest.run("ephys", tmp_path, **OPTIONS)
    ingest.run("ephys", tmp_path, **OPTIONS, cell_type="L5PC")
    assert populate.run(["RecordingStimulus", "Rheobase"]).failed == 0
    (tmp_path / "a/s5.h5").unlink()
    return labweave.explain(rheobase.Rheobase)


def test_json_has_all_of_it(found, tmp_path):
    content = json.loads(render(found, "json"))
    assert content["table"] == "rheobase.Rheobase" and content["key"]["cell"] == "a"
    assert content["values"][0]["value"] == rheobase.Rheobase().fetch1("rheobase")
    assert [file["state"] for given in content["sources"][0]["given"] for file in given["files"]] == ["same", "gone"]
    assert content["sources"][0]["location"] == str(tmp_path)
    assert {row["values"]["n_spikes"] for row in content["rows"]["recording.RecordingStimulus"]} == set(
        recording.RecordingStimulus().to_arrays("n_spikes").tolist()
    )
    assert content["make"]["versions"]["labweave"] == labweave.__version__


def test_prov_leads_from_the_value_to_the_files(found, tmp_path):
    prov = pytest.importorskip("prov.model")
    document = prov.ProvDocument.deserialize(io.StringIO(render(found, "prov")), format="json")
    labels = {str(one.identifier): str(one.label) for one in document.get_records(prov.ProvElement)}
    made_by = _pairs(document, prov.ProvGeneration)
    used = _pairs(document, prov.ProvUsage)
    (result,) = (one for one, label in labels.items() if label.startswith("rheobase.Rheobase "))
    reached, waiting = set(), [result]
    while waiting:
        thing = waiting.pop()
        new = {read for step in made_by.get(thing, ()) for read in used.get(step, ())} - reached
        reached |= new
        waiting += new
    assert {"a/s0.h5", "a/s5.h5"} <= {labels[one] for one in reached}
    (file,) = (one for one in document.get_records(prov.ProvEntity) if labels[str(one.identifier)] == "a/s0.h5")
    assert sha256_of_file(tmp_path / "a/s0.h5") in {str(value) for _, value in file.attributes}
    people = {str(one) for one in labels if "Person" in one}
    assert people and f"labweave {labweave.__version__}" in labels.values()


def _pairs(document, kind):
    found = {}
    for record in document.get_records(kind):
        first, second = [str(value) for _, value in record.formal_attributes[:2]]
        found.setdefault(first, set()).add(second)
    return found


def test_a_crate_has_the_make_as_an_action(found, tmp_path):
    pytest.importorskip("rocrate")
    graph = {one["@id"]: one for one in json.loads(render(found, "crate"))["@graph"]}
    make = next(one for one in graph.values() if one["@type"] == "CreateAction" and one["name"].startswith("make of"))
    assert graph[make["result"]["@id"]]["name"].startswith("rheobase.Rheobase ")
    assert graph[make["instrument"]["@id"]]["softwareVersion"] == labweave.__version__
    file = graph[(tmp_path / "a/s0.h5").as_uri()]
    assert file["identifier"] == f"sha256:{sha256_of_file(tmp_path / 'a/s0.h5')}"


def test_a_crate_keeps_to_its_profile(found, tmp_path):
    """Runs where the validator is installed: it needs older packages than labweave's own development."""
    pytest.importorskip("rocrate_validator")
    from rocrate_validator import models, services

    folder = tmp_path / "crate"
    folder.mkdir()
    (folder / "ro-crate-metadata.json").write_text(render(found, "crate"), encoding="utf-8")
    cache = tmp_path / "cache"
    _know_the_context(cache)
    wanted = {"rocrate_uri": str(folder), "profile_identifier": "process-run-crate-0.5", "metadata_only": True}
    settings = services.ValidationSettings(
        **wanted, requirement_severity=models.Severity.REQUIRED, offline=True, cache_path=str(cache)
    )
    result = services.validate(settings)
    assert result.passed(), [issue.message for issue in result.get_issues()]


def _know_the_context(cache):
    """Put the words of RO-Crates, which rocrate ships, where the validator looks for what it would ask the web for."""
    from pathlib import Path

    import requests
    import rocrate
    from requests_cache import CachedSession
    from urllib3 import HTTPResponse

    content = (Path(rocrate.__file__).parent / "data" / "ro-crate.jsonld").read_bytes()
    response = requests.Response()
    response.status_code, response.url = 200, "https://w3id.org/ro/crate/1.1/context"
    response.request = requests.Request("GET", response.url).prepare()
    response._content, response.headers["Content-Type"] = content, "application/ld+json"
    response.raw = HTTPResponse(io.BytesIO(content), headers=response.headers, status=200, preload_content=False)
    CachedSession(str(cache), backend="sqlite").cache.save_response(response)


def test_a_diagram_has_the_sources_and_what_they_gave(found):
    lines = render(found, "mermaid").splitlines()
    assert lines[0] == "flowchart LR" and "  make --> result" in lines
    boxes = {line.split("[")[0].strip(): line for line in lines if '["' in line or '[("' in line}
    (stimulus,) = (box for box, line in boxes.items() if "recording.RecordingStimulus" in line)
    assert f"  {stimulus} --> make" in lines and "2 rows" in boxes[stimulus]
    assert "2 units or records, 2 files" in boxes["s0"]


@pytest.mark.parametrize(("form", "package"), [("prov", "prov"), ("crate", "rocrate")])
def test_a_missing_package_is_named(found, monkeypatch, form, package):
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=rf"{package}.*pip install 'labweave\[provenance\]'"):
        render(found, form)


def test_the_command_gives_every_form(found, labweave_command):
    for form in ("tree", "json", "mermaid"):
        assert (
            "rheobase.Rheobase" in labweave_command("explain", "Rheobase", "cell=a", "--format", form, check=0).stdout
        )
    assert (
        "tree, json, prov, crate, mermaid"
        in labweave_command("explain", "Rheobase", "cell=a", "--format", "x", check=2).stderr
    )

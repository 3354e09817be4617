"""`alyx.rest` on the tables of a synced Alyx gives what that Alyx itself answered."""

import json
import logging
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
import requests
from alyx_recordings import is_lasting, load_recordings, recorded_requests
from alyx_server import PASSWORD, USER, AlyxServer
from conftest import PREFIX, empty, find_shared

import labweave
from labweave import ingest
from labweave.errors import LabweaveError
from labweave.one.alyx.records import RECORDS
from labweave.one.alyx.rest import Client, Parameters
from labweave.one.files.cache import Files

ORIGIN = "http://alyx.example.org"
RECORDINGS = find_shared() / "data" / "alyx_rest" if find_shared() else None

# What Alyx computes from weighings, or keeps in no list that is synced.
NOT_HELD = {
    "subjects": {"expected_water", "remaining_water", "reference_weight"},
    "data-formats": {"matlab_loader_function", "python_loader_function"},
    "dataset-types": {"created_by"},
}
# What a subject's own page says more than any list: untested genes.
NOT_SYNCED = {"subjects": {"genotype"}}
OTHERWISE = {
    "/notes": "a note on a subject is no note on a session",
    "/water-restriction": "names an animal by a nickname that two labs use, so both have it",
    "/subjects?water_restricted=True": "the same",
    "/subjects?lab=moonlab": "the same",
    "/sessions?dataset_qc_lte=WARNING&limit=20": "each session once, not once per dataset",
    "/sessions?performance_lte=50": "Alyx cuts 50.2 percent to 50",
    "/sessions?auto_datetime__gt=2026-01-01&limit=3": "a name that is no filter is refused, not ignored",
    "/tags?django=name,repeated_site": "Alyx ignores django here",
    "/dataset-types?name=spikes.times&limit=2": "Alyx ignores the name here",
    "/notes?object_id=be397dee-c450-49f8-80a4-79a3825c4cb6&limit=2": "Alyx ignores the filter here",
}


def recorded(*groups):
    """Return path -> answer of the recorded lists and records that the tables can give."""
    if RECORDINGS is None:
        return {}
    answers = {}
    for entry in recorded_requests(RECORDINGS):
        if entry["group"] in groups and entry["status"] == 200 and is_lasting(entry):
            endpoint = urlsplit(entry["path"]).path.split("/")[1]
            if endpoint in RECORDS and "offset=" not in entry["path"]:
                answers[entry["path"]] = json.loads(entry["body"])
    return answers


LISTS = {
    path: answer
    for path, answer in recorded("filters", "sync").items()
    if "results" in answer and path not in OTHERWISE and (answer["next"] is None or "?" in path)
}
DETAILS = {path: answer for path, answer in recorded("detail").items() if isinstance(answer, dict)}


@pytest.fixture(scope="module")
def alyx(_tables, database_url, shared):
    """The interface over the tables of the recorded Alyx."""
    folder = shared / "data" / "alyx_rest"
    with pytest.MonkeyPatch.context() as patch, labweave.connect(database_url, prefix=PREFIX) as database:
        empty(database)
        patch.setenv("LABWEAVE_ALYX_USER", USER)
        patch.setenv("LABWEAVE_ALYX_PASSWORD", PASSWORD)
        with AlyxServer.of_recordings(folder) as server:
            ingest.run("alyx", server.url)
        yield client(Parameters(ORIGIN, None, "/nowhere", "https://data.flatiron.example"))


def client(parameters):
    return Client(parameters, Files(parameters.CACHE_DIR, silent=True))


def plain(value):
    """Return a value as both sides can be compared: lists of names sorted, nothing as ''."""
    if isinstance(value, dict) and value:
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return sorted((plain(one) for one in value), key=lambda one: json.dumps(one, sort_keys=True))
    return "" if value is None or value == {} else value


def identity(record):
    return record.get("id") or record.get("url") or json.dumps(plain(record), sort_keys=True)


def differences(endpoint, record, shown, ignored=()):
    """Return the fields of a recorded one that the given one lacks or has otherwise."""
    names = record.keys() - NOT_HELD.get(endpoint, set()) - set(ignored)
    names -= {"age_weeks"} if not record.get("death_date") else set()  # of a living animal: it grows
    if record.get("nickname") == "DUP_01":  # the name of two animals: the restriction of one is taken for both
        names -= {"last_water_restriction"}
    return {name: (record[name], shown.get(name)) for name in names if plain(record[name]) != plain(shown.get(name))}


@pytest.mark.parametrize("path", list(LISTS) or [None])
def test_a_list_is_what_alyx_showed(alyx, path):
    answer, endpoint = LISTS[path], urlsplit(path).path.strip("/")
    filters = {name: value for name, value in parse_qsl(urlsplit(path).query) if name != "limit"}
    found = {identity(one): one for one in alyx.rest(endpoint, "list", **filters)}
    assert len(found) == answer["count"]
    wrong = {}
    for record in answer["results"]:
        key = identity(record)
        if endpoint in NOT_HELD and key not in found:
            key = next(one for one, shown in found.items() if shown["name"] == record["name"])
        if differs := differences(endpoint, record, found[key]):
            wrong[key] = differs
    assert not wrong
    assert {name for one in found.values() for name in one} <= {"json", *(answer["results"] or [{}])[0]}


@pytest.mark.parametrize("endpoint", sorted({path.split("/")[1] for path in DETAILS}) or [None])
def test_a_record_is_what_alyx_showed(alyx, endpoint):
    wrong, paths = (
        {},
        [path for path in DETAILS if path.split("/")[1] == endpoint][:: 3 if endpoint == "sessions" else 1],
    )
    for path in paths:
        shown = alyx.rest(endpoint, "read", id=unquote(path.rsplit("/", 1)[1]))
        if differs := differences(endpoint, DETAILS[path], shown, NOT_SYNCED.get(endpoint, ())):
            wrong[path] = differs
    assert paths and not wrong


def test_get_takes_what_rest_takes(alyx):
    by_name = alyx.rest("sessions", "list", subject="CL_001", number=1)
    assert by_name and alyx.get("/sessions?subject=CL_001&number=1") == by_name
    assert alyx.rest("sessions?subject=CL_001&number=1") == by_name
    eid = by_name[0]["id"]
    one = alyx.rest("sessions", "read", id=eid, no_cache=True)
    assert (
        one == alyx.get(by_name[0]["url"]) == alyx.get(f"/sessions/{eid}") == alyx.rest("sessions", "read", one["url"])
    )
    assert [row["id"] for row in alyx.rest("sessions", "list", id=eid)] == [eid]


def test_a_list_has_one_order_and_limit_cuts_it(alyx):
    rows = alyx.rest("sessions", "list")
    times = [row["start_time"] for row in rows]
    assert times[0] is None and times[1:] == sorted(times[1:], reverse=True)
    assert alyx.rest("sessions", "list", limit=5, offset=2) == rows[2:7]
    assert isinstance(rows, list) and alyx.rest("datasets", "list", limit=7) == alyx.rest("datasets", "list")[:7]


def test_a_list_as_value_means_any_but_all_for_users_and_datasets(alyx):
    def ids(**filters):
        return {row["id"] for row in alyx.rest("sessions", "list", **filters)}

    assert ids(subject=["CL_001", "ML_001"]) == ids(subject="CL_001") | ids(subject="ML_001")
    assert ids(users=["alice", "bob"]) == ids(users="alice") & ids(users="bob")
    both = ids(dataset_types="spikes.times,camera.times")
    assert both == ids(dataset_types="spikes.times") & ids(dataset_types="camera.times") and both


@pytest.mark.parametrize(
    ("lookup", "value", "fits"),
    [
        ("subject__nickname__iexact", "cl_001", lambda row: row["subject"] == "CL_001"),
        ("subject__nickname__contains", "_00", lambda row: "_00" in row["subject"]),
        ("subject__nickname__icontains", "cl_", lambda row: "cl_" in row["subject"].lower()),
        ("subject__nickname__startswith", "ML", lambda row: row["subject"].startswith("ML")),
        ("subject__nickname__regex", "^C.*1$", lambda row: row["subject"][0] == "C" and row["subject"][-1] == "1"),
        ("subject__nickname__in", "['CL_001','ML_001']", lambda row: row["subject"] in ("CL_001", "ML_001")),
        ("~subject__nickname", "CL_001", lambda row: row["subject"] != "CL_001"),
        ("number__gt", "0", lambda row: (row["number"] or 0) > 0),
        ("number__lte", "1", lambda row: row["number"] is not None and row["number"] <= 1),
        ("start_time__gte", "2026-01-01", lambda row: (row["start_time"] or "") >= "2026"),
        ("start_time__isnull", "False", lambda row: row["start_time"] is not None),
        ("lab__name", "moonlab", lambda row: row["lab"] == "moonlab"),
        ("projects__name__icontains", "BRAIN", lambda row: any("brain" in name for name in row["projects"])),
        ("projects__isnull", "True", lambda row: not row["projects"]),
    ],
)
def test_django_lookups_of_sessions(alyx, lookup, value, fits):
    every = alyx.rest("sessions", "list")
    found = alyx.rest("sessions", "list", django=f"{lookup},{value}")
    assert found == [row for row in every if fits(row)] and 0 < len(found) < len(every)


def test_django_reaches_into_json_and_other_records(alyx):
    probes = alyx.rest("insertions", "list")
    traced = alyx.rest(
        "insertions", "list", django="json__extended_qc__alignment_count__gt,1,session__lab__name,moonlab"
    )
    assert traced == [
        one
        for one in probes
        if one["session_info"]["lab"] == "moonlab"
        and ((one["json"] or {}).get("extended_qc") or {}).get("alignment_count", 0) > 1
    ]
    assert 0 < len(traced) < len(probes)
    good = alyx.rest("insertions", "list", django="~json__icontains,CRITICAL")
    assert good == [one for one in probes if "CRITICAL" not in json.dumps(one["json"])]
    severe = alyx.rest("datasets", "list", django="qc__gte,40,session__subject__nickname,CL_001")
    assert severe and {one["qc"] for one in severe} <= {"FAIL", "CRITICAL"}
    ids = [one["id"] for one in alyx.rest("channels", "list", django="brain_region__id__in,[1,2]")]
    assert ids and all(one["brain_region"] in (1, 2) for one in alyx.rest("channels", "list") if one["id"] in ids)


@pytest.mark.parametrize(
    ("endpoint", "filters", "words"),
    [
        ("nothing", {}, "sessions"),
        ("sessions", {"colour": "red"}, "colour"),
        ("sessions", {"django": "colour,red"}, "colour"),
        ("sessions", {"django": "number__week_day,1"}, "number__week_day"),
        ("sessions", {"django": "start_time"}, "alternate"),
        ("sessions", {"django": "number,abc"}, "abc"),
        ("sessions", {"django": "start_time__gt,yesterday"}, "yesterday"),
        ("sessions", {"date_range": "2026-10-01"}, "last day"),
        ("sessions", {"qc": "SUPERB"}, "SUPERB"),
        ("sessions", {"subject__regex": "("}, "subject__regex"),
        ("sessions", {"django": "subject__nickname__regex,("}, "subject__nickname__regex"),
    ],
)
def test_what_is_no_filter_is_refused(alyx, endpoint, filters, words):
    with pytest.raises(ValueError, match=words):
        alyx.rest(endpoint, "list", **filters)


def test_an_unknown_record_is_a_404(alyx):
    for ask in (
        lambda: alyx.rest("sessions", "read", id="00000000-0000-0000-0000-000000000000"),
        lambda: alyx.get("/subjects/nobody"),
        lambda: alyx.get("/nosuch"),
    ):
        with pytest.raises(requests.HTTPError) as caught:
            ask()
        assert caught.value.response.status_code == 404 and isinstance(caught.value, LabweaveError)
    with pytest.raises(requests.HTTPError, match="2 records"):
        alyx.rest("subjects", "read", id="DUP_01")


@pytest.mark.parametrize("action", ["create", "update", "partial_update", "partial-update", "delete"])
def test_nothing_can_be_written(alyx, action):
    with pytest.raises(LabweaveError, match="can't be written"):
        alyx.rest("sessions", action, id="x", data={"narrative": "x"})
    with pytest.raises(ValueError, match="list, read"):
        alyx.rest("sessions", "destroy")


def test_passwords_do_not_show(caplog):
    caplog.set_level(logging.DEBUG)
    parameters = Parameters(ORIGIN, "me", "/x", "https://d", ALYX_PWD="swordfish", HTTP_DATA_SERVER_PWD="shibboleth")
    text = f"{parameters} {parameters!r} {client(parameters)!r} {caplog.text}"
    assert "swordfish" not in text and "shibboleth" not in text and parameters.as_dict()["ALYX_PWD"] == "swordfish"


@pytest.fixture(scope="module")
def probes_of(shared):
    """Return a function that gives the probes with a channel in some regions, straight from the recorded rows."""
    base = load_recordings(shared / "data" / "alyx_rest")
    shown = {name: [row.shown for row in base.rows(name)] for name in ("brain-regions", "channels", "trajectories")}
    parents = {region["id"]: region["parent"] for region in shown["brain-regions"]}
    names = {region["id"]: region["acronym"] for region in shown["brain-regions"]}

    def is_within(number, acronyms):
        return number is not None and (names[number] in acronyms or is_within(parents[number], acronyms))

    def find(*acronyms):
        there = {one["trajectory_estimate"] for one in shown["channels"] if is_within(one["brain_region"], acronyms)}
        aligned = [one for one in shown["trajectories"] if one["provenance"] == "Ephys aligned histology track"]
        return {one["probe_insertion"] for one in aligned if one["id"] in there}

    return find


@pytest.mark.parametrize("acronym", ["root", "CTX", "TH", "VISp", "void"])
def test_probes_in_a_region_are_those_with_channels_in_it_or_its_parts(alyx, probes_of, acronym):
    found = {one["id"] for one in alyx.rest("insertions", "list", atlas_acronym=acronym.swapcase())}
    assert found == probes_of(acronym)
    (region,) = alyx.rest("brain-regions", "list", acronym=acronym)
    assert {one["id"] for one in alyx.rest("insertions", "list", atlas_id=region["id"])} == found
    if acronym == "root":
        assert found


def test_a_list_of_regions_means_any_of_them(alyx, probes_of):
    one = labweave.ONE(silent=True)
    assert {str(pid) for pid in one.search_insertions(atlas_acronym=["CTX", "TH"])} == probes_of("CTX", "TH")
    assert alyx.rest("insertions", "list", atlas_acronym="nowhere") == []
    thalamus = {one["id"] for one in alyx.rest("insertions", "list", atlas_name="thalamus")}
    assert probes_of("TH") <= thalamus


def test_regions_know_what_is_around_and_within_them(alyx):
    def acronyms(**filters):
        return {one["acronym"] for one in alyx.rest("brain-regions", "list", **filters)}

    assert acronyms(ancestors="CA1") == {"root", "grey", "CH", "CTX", "CTXpl", "HPF", "HIP", "CA", "CA1"}
    layers = {"CA1", "CA1slm", "CA1so", "CA1sp", "CA1sr"}
    assert acronyms(descendants="CA1") == layers == {"CA1"} | acronyms(parent=382)
    assert acronyms(name="Field CA1", acronym="ca1") == {"CA1"}
    assert alyx.rest("brain-regions", "read", id=382)["name"] == "Field CA1"


def test_surgeries_are_found_by_subject_and_procedure(alyx, shared):
    base = load_recordings(shared / "data" / "alyx_rest")
    names = {row.id: row.shown["name"] for row in base.rows("procedures")}
    shown = [row.shown for row in base.rows("surgeries")]
    name = names[shown[0]["procedures"][0]]
    found = {one["id"] for one in alyx.rest("surgeries", "list", procedure=name.upper())}
    assert found == {one["id"] for one in shown if name in [names[key] for key in one["procedures"]]}
    subject = shown[0]["subject"]
    found = {one["id"] for one in alyx.rest("surgeries", "list", subject=subject)}
    assert found == {one["id"] for one in shown if one["subject"] == subject}

"""What real Alyxes hold that nobody would invent: a test for each that the recordings and the small days lack."""

import datetime as dt
import os

import pytest
from alyx_rows import made_uuid
from alyx_server import AlyxServer
from alyx_small_base import small_base, surgery
from alyx_truth import all_wrong
from conftest import drop_schemas

import labweave
from labweave.schemas import dataset, lab, session, subject

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def odd(database_url):
    """The tables after a sync of an Alyx of oddities, the ids of what is odd, and what was asked."""
    base = small_base()
    sessions, datasets = list(base.resources["sessions"]), list(base.resources["datasets"])
    ids = {
        "backwards": sessions[3], "elsewhere": sessions[4],
        "bare": datasets[5], "default": datasets[6:9], "moved": datasets[10], "old name": datasets[13],
        "long": datasets[14], "deep": datasets[17], "surgery": made_uuid("surgery"),
    }  # fmt: skip
    base.edit("sessions", ids["backwards"], end_time="2026-01-01T00:00:00")
    lab_elsewhere = {"northlab": "southlab", "southlab": "northlab"}[
        base.resources["sessions"][ids["elsewhere"]].shown["lab"]
    ]
    base.edit("sessions", ids["elsewhere"], lab=lab_elsewhere)
    for row in list(base.rows("files")):
        if row.shown["dataset"].endswith(ids["bare"]):
            base.remove("files", row.id)
    base.edit("datasets", ids["bare"], file_records=[])
    for row_id in ids["default"]:
        base.edit("datasets", row_id, default_dataset=False)
    for name, path in (("moved", "OTHER_9/2001-02-03/077/alf/x.npy"), ("old name", "NL_OLD/2026-02-04/001/alf/y.npy")):
        record = next(row for row in base.rows("files") if row.shown["dataset"].endswith(ids[name]))
        base.edit("files", record.id, relative_path=path)
    base.edit("datasets", ids["long"], name=f"{'long name ' * 24}.npy")
    base.edit("datasets", ids["deep"], collection="/".join("abc"[n % 3] for n in range(61)))
    procedure = next(iter(base.rows("procedures")))
    base.put("surgeries", surgery(procedure.id))
    prefix = f"lw{os.getpid()}odd_"
    with AlyxServer([base]) as server, pytest.MonkeyPatch.context() as patch:
        server.log_in(patch)
        try:
            with labweave.connect(database_url, prefix=prefix):
                report = server.sync()
                yield {**ids, "base": base, "report": report, "log": list(server.log), "lab": lab_elsewhere}
        finally:
            drop_schemas(database_url, prefix)


def test_an_alyx_of_oddities_arrives_whole(odd):
    assert odd["report"].exit_code == 0
    assert all_wrong(odd["base"]) == []


def test_a_session_may_end_before_it_starts(odd):
    row = (session.Session & {"eid": odd["backwards"]}).fetch1()
    assert row["end_time"] == dt.datetime(2026, 1, 1) < row["start_time"]


def test_a_session_of_another_lab_than_its_subject_keeps_both(odd):
    row = (session.Session & {"eid": odd["elsewhere"]}).fetch1()
    assert (row["path_lab"], row["lab"] != odd["lab"]) == (odd["lab"], True)


def test_a_dataset_without_files_is_a_dataset(odd):
    assert len(dataset.Dataset & {"dataset_id": odd["bare"]}) == 1
    assert not dataset.FileRecord & {"dataset_id": odd["bare"]}


def test_none_or_several_of_a_family_may_be_default(odd):
    rows = {row["dataset_id"]: row for row in dataset.Dataset().to_dicts()}
    assert not any(rows[row_id]["is_default"] for row_id in odd["default"])
    family = [rows[made_uuid(f"datasets:{name}")] for name in ("s0/0", "s0/again")]
    assert [row["is_default"] for row in family] == [True, True]


@pytest.mark.parametrize(("name", "folder"), [("moved", "OTHER_9/2001-02-03/077"), ("old name", "NL_OLD/2026-02-04")])
def test_files_may_lie_where_their_session_does_not_say(odd, name, folder):
    paths = (dataset.FileRecord & {"dataset_id": odd[name]}).to_arrays("relative_path").tolist()
    assert any(path.startswith(folder) for path in paths)


def test_long_names_and_deep_collections_stay_whole(odd):
    assert (dataset.Dataset & {"dataset_id": odd["long"]}).fetch1("dataset_name") == f"{'long name ' * 24}.npy"
    assert (dataset.Dataset & {"dataset_id": odd["deep"]}).fetch1("collection").count("/") == 60


def test_a_lab_may_have_no_address_and_a_user_an_email(odd):
    assert set(lab.Lab().to_arrays("address").tolist()) == {""}
    assert (lab.LabMember & {"user": "ada"}).fetch1("email") == "ada@lab.example"


def test_a_surgery_names_its_procedures_though_the_server_shows_ids(odd):
    row = (subject.Surgery & {"surgery_uuid": odd["surgery"]}).fetch1()
    assert (row["surgery_procedures"], row["lab"], row["subject"]) == (["Ephys"], "northlab", "NL_001")
    assert row["surgery_json"]["users"] == [made_uuid("users:ada")]


def test_the_cache_of_the_server_is_no_source(odd):
    assert not [request for request in odd["log"] if request.path.startswith("/cache")]

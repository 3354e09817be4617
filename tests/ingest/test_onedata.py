"""Onedata sessions in the tables: variables, recipes and their checks, planes, trials, datasets; both sides alike."""

import hashlib
import json
import multiprocessing
import os
import shutil
import signal
from contextlib import nullcontext

import numpy as np
import pytest
from conftest import empty
from simulated import contents
from typer import Exit

import labweave
from labweave import ingest, populate
from labweave.analysis import trials_frame
from labweave.errors import SchemaError
from labweave.formats.onedata import LoadingRecipe, OneDataSession, RecipeRefused, load_file
from labweave.formats.onedata.describe import content_sha256
from labweave.ingest import writing
from labweave.ingest.onedata import OneDataAdapter, remove_recipe, save_recipe
from labweave.schemas import dataset, onedata, session, subject, task

LAB = "vrlab"
N_TRIALS = 3


def run(location, **options):
    return ingest.run("onedata", location, lab=LAB, **options)


def make_session(root, session_id="7", mouse="M1", date="2024-01-02"):
    """Write a session of two planes, registered with its planes in an unusual order."""
    one = OneDataSession(mouse, date, session_id, root=root)
    rng = np.random.default_rng(len(mouse))
    for plane, (n_rois, n_frames) in {"plane0": (2, 6), "plane1": (3, 5)}.items():
        folder = one.data_path / "suite2p" / plane
        folder.mkdir(parents=True)
        np.save(folder / "F.npy", rng.normal(size=(n_rois, n_frames)).astype("f4"))
    one.opts = {"neuropilCoefficient": 0.7}
    one.preprocessing = ["imaging"]
    values = {"planeNames": ["plane1", "plane0"], "planeIDs": [1, 0], "available": ["F"], "roiPerPlane": [3, 2]}
    for name, value in {**values, "framePerPlane": [5, 6], "numFrames": 5, "note": float("nan")}.items():
        one.set_value(name, value)
    one.save_session_prms()
    one.saveone(LoadingRecipe("S2P", "F", ["transpose"]), "mpci", "roiActivityF")
    one.saveone(np.arange(5.0), "mpci.times")
    one.saveone(np.array([0.5, 1.5, 2.5]), "trials.startTimes")
    one.saveone(np.array([1, -1, 30]), "trials.rewardPositionTracking")
    one.saveone(np.array([True, False, True]), "trials.activeLicking")
    one.saveone(np.array([100.0, np.nan, 200.0]), "trials.roomlength")
    return one


def checks():
    return {row["one_name"]: row for row in onedata.RecipeCheck().to_dicts()}


def test_a_session_goes_into_the_tables(database, tmp_path):
    one = make_session(tmp_path)
    report = run(tmp_path)
    assert (report.seen, report.new, report.failed) == (1, 1, 0), report.failures
    row = session.Session().fetch1()
    assert (row["subject"], str(row["session_date"]), row["session_number"]) == ("M1", "2024-01-02", 7)
    row = onedata.OneSession().fetch1()
    assert (row["one_folder"], row["one_session_id"], row["one_session_kind"]) == ("M1/2024-01-02/7", "7", "b2")
    assert row["one_values"]["planeNames"] == ["plane1", "plane0"]
    planes = onedata.RoiPlane().to_dicts(order_by="plane_order")
    assert [(p["plane_name"], p["plane_id"], p["n_rois"], p["n_frames"]) for p in planes] == [
        ("plane1", 1, 3, 5),
        ("plane0", 0, 2, 6),
    ]
    times = (onedata.OneData & {"one_name": "mpci.times"}).fetch1()
    content = (one.one_path / "mpci.times.npy").read_bytes()
    assert (times["one_kind"], times["one_dtype"], times["one_shape"]) == ("array", "<f8", [5])
    assert (times["one_object"], times["one_attribute"]) == ("mpci", "times")
    assert (times["one_file"], times["one_file_size"]) == ("oneData/mpci.times.npy", len(content))
    assert times["one_file_sha256"] == hashlib.sha256(content).hexdigest()
    assert times["content_sha256"] == hashlib.sha256(np.arange(5.0).tobytes()).hexdigest()
    recipe = onedata.Recipe().fetch1()
    assert (recipe["loader_type"], recipe["source_arg"], recipe["transforms"], recipe["kwargs"]) == (
        "S2P", "F", ["transpose"], {},
    )  # fmt: skip
    again = run(tmp_path)
    assert (again.new, again.changed, again.unchanged, again.rows) == (0, 0, 1, {})


def test_trials_of_a_session(database, tmp_path):
    one = make_session(tmp_path)
    run(tmp_path)
    assert task.TaskRun().fetch1("run_status", "n_run_trials", "run_problems") == ("complete", N_TRIALS, None)
    trials = task.Trial().to_dicts(order_by="trial")
    assert [row["trial_start"] for row in trials] == [0.5, 1.5, 2.5]
    assert [row["trial_attributes"] for row in trials] == [
        {"active_licking": True, "reward_sample": 1, "room_length": 100.0},
        {"active_licking": False, "reward_sample": None, "room_length": None},
        {"active_licking": True, "reward_sample": 30, "room_length": 200.0},
    ]
    frame = trials_frame({"task": "vr", "subject": "M1"})
    assert frame["active_licking"].tolist() == [True, False, True]
    assert frame["reward_sample"].isna().tolist() == [False, True, False]
    one.saveone(np.zeros(4), "trials.movementGain")
    one.saveone(np.array([0.5]), "trials.activeStopping")
    run(tmp_path)
    assert task.TaskRun().fetch1("run_status", "run_problems") == (
        "damaged",
        ["trials.activeStopping has 1 values for 3 trials", "trials.movementGain has 4 values for 3 trials"],
    )
    one.saveone(np.array([0.5]), "trials.startTimes")
    run(tmp_path)
    assert len(task.Trial()) == len(task.Trial & {"trial_vanished": False}) == 1


def test_both_sides_give_the_same_arrays(database, tmp_path):
    one = make_session(tmp_path)
    planes = [np.load(one.data_path / f"suite2p/{plane}/F.npy")[:, :5] for plane in ("plane1", "plane0")]
    run(tmp_path)
    eid = session.Session().fetch1("eid")
    opened = onedata.session(eid)
    np.testing.assert_array_equal(opened.loadone("mpci", "roiActivityF"), np.concatenate(planes).T)
    for path in one.get_saved_one():
        np.testing.assert_array_equal(opened.loadone(path.stem), one.loadone(path.stem, force=True))
        np.testing.assert_array_equal(onedata.load_dataset(eid, path.name), one.loadone(path.stem))
        np.testing.assert_array_equal(load_file(path), one.loadone(path.stem))
    assert opened == one
    assert opened.values.planeIDs == [1, 0]
    assert np.isnan(opened.values.note)
    assert opened.opts["neuropilCoefficient"] == 0.7
    with pytest.raises(SchemaError, match="no onedata"):
        onedata.session("0" * 36)


def test_recipes_are_followed_once_and_again_when_their_sources_change(database, tmp_path):
    one = make_session(tmp_path)
    one.saveone(LoadingRecipe("S2P", "spks"), "mpci.spks")
    one.saveone(LoadingRecipe("numpy", "extra.npy", size="big"), "x.arguments")
    one.saveone(LoadingRecipe("numpy", "extra.npy"), "x.extra")
    one.saveone(LoadingRecipe("zscorer", None), "x.loader")
    one.saveone(LoadingRecipe("S2P", "F", ["zscore"]), "x.transform")
    one.saveone(LoadingRecipe("numpy", "../secret.npy"), "x.outside")
    one.saveone(LoadingRecipe("S2P", "F", ["index(9, 9, 9)"]), "x.failed")
    one.saveone(LoadingRecipe("S2P", "F", concatenate=False), "x.planes")
    run(tmp_path)
    report = populate.run(["RecipeCheck"])
    assert (report.made, report.failed) == (9, 0)
    found = checks()
    assert {name: row["recipe_state"] for name, row in found.items()} == {
        "mpci.roiActivityF": "resolved",
        "mpci.spks": "missing_source",
        "x.arguments": "refused",
        "x.extra": "missing_source",
        "x.loader": "unknown_loader",
        "x.transform": "unknown_transform",
        "x.outside": "refused",
        "x.failed": "failed",
        "x.planes": "resolved",
    }
    row = found["mpci.roiActivityF"]
    assert (row["result_shape"], row["result_dtype"], row["result_size"], row["reason"]) == ([5, 5], "<f4", 100, "")
    assert (found["x.planes"]["result_shape"], found["x.planes"]["result_dtype"]) == ([2], "list")
    assert "extra.npy: the source of the recipe is missing" in found["x.extra"]["reason"]
    assert "size" in found["x.arguments"]["reason"]
    sources = (onedata.RecipeCheck.SourceFile & {"one_name": "mpci.roiActivityF"}).to_dicts(order_by="source_path")
    assert [(row["source_path"], row["n_rows"]) for row in sources] == [
        ("M1/2024-01-02/7/suite2p/plane0/F.npy", 2),
        ("M1/2024-01-02/7/suite2p/plane1/F.npy", 3),
    ]
    path = one.data_path / "suite2p/plane0/F.npy"
    assert sources[0]["source_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert populate.run(["RecipeCheck"]).made == 0
    np.save(one.data_path / "extra.npy", np.zeros((2, 2)))
    report = populate.run(["RecipeCheck"])
    assert (report.made, report.tables[0].remade) == (1, 1)
    assert checks()["x.extra"]["recipe_state"] == "resolved"
    (one.data_path / "extra.npy").unlink()
    populate.run(["RecipeCheck"])
    assert checks()["x.extra"]["recipe_state"] == "missing_source"
    one.saveone(LoadingRecipe("constant", None, value=1.0, shape=[4]), "x.loader")
    report = run(tmp_path)
    assert report.outdated == {"onedata.RecipeCheck": 1}
    populate.run(["RecipeCheck"])
    assert checks()["x.loader"]["result_shape"] == [4]


def test_sources_that_appear_later_are_noticed(database, tmp_path):
    """The folder of suite2p of a session that is not registered, and a variable of another session."""
    one = OneDataSession("M1", "2024-01-02", "7", root=tmp_path)
    one.saveone(LoadingRecipe("S2P", "F"), "mpci.F")
    one.saveone(LoadingRecipe("session", "M2/2024-01-02/7", name="a.b"), "x.other")
    other = OneDataSession("M2", "2024-01-02", "7", root=tmp_path)
    other.saveone(np.zeros(1), "something.else")
    run(one.data_path)  # the source is this one folder, so that the other session is outside
    assert populate.run(["RecipeCheck"]).failed == 0
    assert {row["recipe_state"] for row in checks().values()} == {"missing_source"}
    sources = dict(zip(*onedata.RecipeCheck.SourceFile().to_arrays("one_name", "source_path"), strict=True))
    assert sources == {"mpci.F": "suite2p", "x.other": str(other.one_path.resolve() / "a.b.npy")}
    assert populate.run(["RecipeCheck"]).made == 0
    plane = one.data_path / "suite2p" / "plane0"
    plane.mkdir(parents=True)
    np.save(plane / "F.npy", np.zeros((2, 5), "f4"))
    other.saveone(np.arange(3), "a.b")
    assert populate.run(["RecipeCheck"]).made == 2
    assert {name: row["result_shape"] for name, row in checks().items()} == {"mpci.F": [2, 5], "x.other": [3]}
    (one.data_path / "suite2p" / "plane1").mkdir()  # an interrupted copy: one plane has no F yet
    assert populate.run(["RecipeCheck"]).failed == 0
    assert checks()["mpci.F"]["recipe_state"] == "missing_source"
    np.save(one.data_path / "suite2p" / "plane1" / "F.npy", np.ones((1, 5), "f4"))
    other.saveone(np.arange(4), "a.b")
    assert populate.run(["RecipeCheck"]).failed == 0
    assert {name: row["result_shape"] for name, row in checks().items()} == {"mpci.F": [3, 5], "x.other": [4]}
    assert populate.run(["RecipeCheck"]).made == 0


def test_pickles_are_followed_only_from_a_folder_that_is_trusted(database, tmp_path):
    one = OneDataSession("M1", "2024-01-02", "7", root=tmp_path)
    one.saveone(LoadingRecipe("numpy", "set.npy"), "x.set")
    np.save(one.data_path / "set.npy", np.array([{1, 2}], object))
    run(tmp_path)
    populate.run(["RecipeCheck"])
    assert checks()["x.set"]["recipe_state"] == "refused"
    eid = session.Session().fetch1("eid")
    with pytest.raises(ValueError, match="trust_pickles=True"):
        onedata.session(eid).loadone("x.set")
    run(tmp_path, trust_pickles=True)
    populate.run(["RecipeCheck"])
    assert (checks()["x.set"]["recipe_state"], checks()["x.set"]["result_shape"]) == ("resolved", [1])
    assert onedata.session(eid).loadone("x.set")[0] == {1, 2}
    with pytest.raises(ValueError, match="trust_pickles=True"):
        onedata.session(eid, trust_pickles=False).loadone("x.set")


def test_other_planes_outdate_the_checks_of_their_session(database, tmp_path):
    root = tmp_path / "root"
    one = make_session(root)
    make_session(root, mouse="M2")
    run(root)
    populate.run(["RecipeCheck"])
    one.set_value("numFrames", 4)
    one.save_session_prms()
    assert run(root).outdated == {"onedata.RecipeCheck": 1}
    populate.run(["RecipeCheck"])
    assert sorted(row["result_shape"] for row in onedata.RecipeCheck().to_dicts()) == [[4, 5], [5, 5]]
    tmp_path.joinpath("root").rename(tmp_path / "away")  # a disk that is not mounted changes no check
    assert populate.run(["RecipeCheck"]).made == 0


def test_recipes_live_in_the_database_alone(database, tmp_path):
    make_session(tmp_path)
    run(tmp_path)
    eid = session.Session().fetch1("eid")
    save_recipe(eid, LoadingRecipe("S2P", "F", ["index(0:2, 3)"]), "mpci", "first")
    save_recipe(eid, LoadingRecipe("constant", None, value=float("nan"), shape=[2]), "mpci.nothing")
    opened = onedata.session(eid)
    whole = opened.loadone("mpci.roiActivityF").T
    np.testing.assert_array_equal(opened.loadone("mpci", "first"), whole[0:2, 3])
    np.testing.assert_array_equal(onedata.load_dataset(eid, "mpci.nothing.npy"), [np.nan, np.nan])
    assert populate.run(["RecipeCheck"]).made == 3
    assert checks()["mpci.first"]["result_shape"] == [2]
    save_recipe(eid, LoadingRecipe("S2P", "F", ["index(0:3, 3)"]), "mpci", "first")
    populate.run(["RecipeCheck"])
    assert checks()["mpci.first"]["result_shape"] == [3]
    assert run(tmp_path).unchanged == 1
    assert len(onedata.OneData & {"one_name": "mpci.first", "one_vanished": False}) == 1
    row = (dataset.Dataset & {"dataset_name": "mpci.first.npy"}).fetch1()
    assert (row["collection"], row["dataset_json"]) == ("oneData", {"one_kind": "recipe"})
    assert (row["dataset_type"], row["data_format"]) == ("mpci.first", "npy")
    assert opened.print_saved_one()[-2:] == ["mpci.first", "mpci.nothing"]
    opened.saveone(np.zeros(1), "mpci.second")
    opened.clear_one_data(["mpci.second"], certainty=True)
    with pytest.raises(ValueError, match=r"no mpci\.second\.npy"):
        opened.loadone("mpci.second")
    remove_recipe(eid, "mpci.nothing")
    assert "mpci.nothing" not in checks()
    assert "mpci.nothing" not in onedata.session(eid).print_saved_one()
    assert not dataset.Dataset & {"dataset_name": "mpci.nothing.npy"}
    for name in ("mpci.nothing", "mpci.times", "mpci.roiActivityF"):
        with pytest.raises(SchemaError, match=r"no recipe mpci\.\w+ in the database alone"):
            remove_recipe(eid, name)
    with pytest.raises(SchemaError, match="has a file"):
        save_recipe(eid, LoadingRecipe("S2P", "F"), "mpci.times")
    with pytest.raises(RecipeRefused, match="object among its arguments"):
        save_recipe(eid, LoadingRecipe("S2P", "F", what=object()), "mpci.x")
    with pytest.raises(ValueError, match="can't be the name"):
        save_recipe(eid, LoadingRecipe("S2P", "F"), "../x")


def test_variables_are_datasets_of_their_session(database, tmp_path):
    one = make_session(tmp_path)
    run(tmp_path)
    eid = session.Session().fetch1("eid")
    rows = {row["dataset_name"]: row for row in (dataset.Dataset & {"eid": eid}).to_dicts()}
    assert set(rows) == {path.name for path in one.get_saved_one()}
    row = rows["mpci.roiActivityF.npy"]
    content = (one.one_path / "mpci.roiActivityF.npy").read_bytes()
    assert (row["collection"], row["dataset_type"], row["data_format"]) == ("oneData", "mpci.roiActivityF", "npy")
    assert (row["file_size"], row["hash"]) == (len(content), hashlib.md5(content).hexdigest())
    record = (dataset.FileRecord * dataset.Repository & {"dataset_id": row["dataset_id"]}).fetch1()
    assert (record["root_path"], record["relative_path"], bool(record["present"])) == (
        str(tmp_path.resolve()), "M1/2024-01-02/7/oneData/mpci.roiActivityF.npy", True,
    )  # fmt: skip


def test_what_vanishes_is_marked_and_comes_back(database, tmp_path):
    one = make_session(tmp_path)
    make_session(tmp_path, mouse="M2")
    run(tmp_path)
    eid = (session.Session & {"subject": "M1"}).fetch1("eid")
    array = one.loadone("mpci.times")
    one.clear_one_data(["mpci.times", "mpci.roiActivityF"], certainty=True)
    report = run(tmp_path)
    assert report.removed["onedata.OneData"] == report.removed["dataset.FileRecord"] == 2
    assert report.vanished == []
    here = dataset.Dataset & {"eid": eid}
    assert len(here) == 4
    with pytest.raises(ValueError, match=r"no mpci\.times\.npy"):
        onedata.load_dataset(eid, "mpci.times.npy")
    assert populate.run(["RecipeCheck"]).made == 1
    one.saveone(array, "mpci.times")
    one.saveone(np.zeros((2, 2)), "mpci.roiActivityF")
    run(tmp_path)
    assert len(here & {"dataset_vanished": None}) == 6
    assert onedata.load_dataset(eid, "mpci.roiActivityF.npy").shape == (2, 2)
    assert populate.run(["RecipeCheck"]).made == 0
    shutil.rmtree(one.data_path)
    run(tmp_path)
    assert len(onedata.OneData & {"one_vanished": True}) == len(here - {"dataset_vanished": None}) == 6


def test_sessions_without_id_and_with_other_ids(database, tmp_path):
    for session_id in (None, "7", "afternoon"):
        one = OneDataSession("M1", "2024-01-02", session_id, root=tmp_path)
        one.saveone(np.zeros(2), "a.b")
    (tmp_path / "M1" / "notes").mkdir()
    report = run(tmp_path)
    assert (report.seen, report.failed) == (3, 0)
    rows = onedata.OneSession().to_dicts(order_by="one_folder")
    assert [(row["one_folder"], row["one_session_id"], row["one_session_kind"]) for row in rows] == [
        ("M1/2024-01-02", "", "onedata"),
        ("M1/2024-01-02/7", "7", "onedata"),
        ("M1/2024-01-02/afternoon", "afternoon", "onedata"),
    ]
    assert len(subject.Subject()) == 1
    assert run(tmp_path / "M1" / "2024-01-02" / "7").failed == 0
    assert len(session.Session()) == 3


def test_bad_folders_fail_alone(database, tmp_path):
    make_session(tmp_path)
    make_session(tmp_path, session_id="07")
    make_session(tmp_path, mouse="M3", session_id="1")
    (tmp_path / "M3/2024-01-02/1/vrExperimentValues.json").write_text('{"numTrials": 1')
    (tmp_path / "M4/lost/oneData").mkdir(parents=True)
    report = run(tmp_path)
    failures = {failure.path: failure.message for failure in report.failures}
    assert set(failures) == {"M1/2024-01-02/7", "M3/2024-01-02/1", "M4/lost"}
    assert "are the same session" in failures["M1/2024-01-02/7"]
    assert "no JSON" in failures["M3/2024-01-02/1"]
    assert "no session folder" in failures["M4/lost"]


def ingest_until_killed(url, prefix, root, n_writes):
    """Ingest unit by unit, and end by SIGKILL in the middle of a transaction."""
    wrote, real = [], writing.write_rows

    def write_rows(*args, **kwargs):
        wrote.append(1)
        if len(wrote) == n_writes:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)

    writing.write_rows, OneDataAdapter.batch_rows = write_rows, 1
    labweave.connect(url, prefix=prefix)
    run(root)


def test_a_killed_ingest_goes_on(database, database_url, tmp_path):
    """Killed in its first unit, then in the second, it ends as one that nobody disturbed."""
    root, prefix = tmp_path / "root", database.prefix
    for mouse in ("M1", "M2", "M3"):
        make_session(root, mouse=mouse)
    database.close()
    for n_writes in (7, 22):
        process = multiprocessing.get_context("spawn").Process(
            target=ingest_until_killed, args=(database_url, prefix, root, n_writes)
        )
        process.start()
        process.join(120)
        assert process.exitcode == -signal.SIGKILL
    with labweave.connect(database_url, prefix=prefix) as opened:
        n_before = len(onedata.OneSession())
        report = run(root)
        assert (report.new, report.failed) == (3 - n_before, 0)
        killed = contents(opened)
        empty(opened)
        run(root)
        assert run(root).unchanged == 3
        undisturbed = contents(opened)
    assert 0 < n_before < 3
    tables = [name for name in killed if name.split(".")[0] in ("onedata", "dataset", "session", "subject", "task")]
    assert {"onedata.one_data", "onedata.recipe", "dataset.file_record", "task.trial"} <= set(tables)
    for table in tables:
        assert killed[table] == undisturbed[table], table


def test_real_sessions(database, shared, tmp_path):
    source = shared / "data" / "onedata"
    expected = json.loads((source / "expected.json").read_text())["sessions"]
    shutil.copytree(source / "data", tmp_path / "data")
    report = run(tmp_path / "data")
    assert (report.seen, report.new, report.failed) == (3, 3, 0), report.failures
    populate.run(["RecipeCheck"])
    assert not list(tmp_path.rglob("PICKLE_WAS_LOADED"))
    for name, facts in expected.items():
        eid = (onedata.OneSession & {"one_folder": name}).fetch1("eid")
        rows = {f"{row['one_name']}.{row['one_form']}": row for row in (onedata.OneData & {"eid": eid}).to_dicts()}
        assert set(rows) == set(facts["one_files"])
        opened = onedata.session(eid)
        for file_name, truth in facts["one_files"].items():
            row = rows[file_name]
            assert (row["one_file_size"], row["one_file_sha256"]) == (truth["bytes"], truth["sha256"])
            assert row["one_kind"] == {"unsafe_pickle": "unsafe"}.get(truth["kind"], truth["kind"])
            if truth["kind"] == "recipe":
                key = {"eid": eid, "one_name": row["one_name"]}
                recipe, check = (onedata.Recipe & key).fetch1(), (onedata.RecipeCheck & key).fetch1()
                assert {part: recipe[part] for part in ("loader_type", "source_arg", "transforms", "kwargs")} == {
                    part: truth["recipe"][part] for part in ("loader_type", "source_arg", "transforms", "kwargs")
                }
                if file_name == "ephys.bundleU.npy":  # its transform is LAB7's own, which this process does not have
                    assert check["recipe_state"] in ("unknown_transform", "resolved")
                elif "resolve_error" in truth:
                    assert check["recipe_state"] != "resolved"
                    assert check["reason"]
                else:
                    assert check["recipe_state"] == "resolved"
                    shape = truth["resolved"].get("shape", [truth["resolved"].get("length")])
                    assert check["result_shape"] == shape
                    if "sha256_c_order" in truth["resolved"]:
                        array = np.asarray(opened.loadone(row["one_name"]))
                        assert content_sha256(array) == truth["resolved"]["sha256_c_order"]
            elif truth["kind"] == "array":
                assert row["one_shape"] == truth["shape"]
                assert row["content_sha256"] == truth.get("sha256_c_order", row["content_sha256"])
        for plane in facts["vrExperimentValues"]["planeNames"] if facts["vrExperimentValues"] else ():
            order = facts["plane_order"].index(plane)
            assert (onedata.RoiPlane & {"eid": eid, "plane_order": order}).fetch1("plane_name") == plane
        if facts["vrExperimentValues"]:
            assert len(task.Trial & {"eid": eid}) == facts["vrExperimentValues"]["numTrials"]
    states = (onedata.RecipeCheck - {"recipe_state": "resolved"}).to_dicts()
    assert {row["one_name"]: row["recipe_state"] for row in states if row["one_name"] != "ephys.bundleU"} == {
        "mpci.notAvailable": "missing_source",
        "mpci.roiActivityDeconvolved": "missing_source",
        "mpci.unknownLoader": "unknown_loader",
        "mpci.unknownTransform": "unknown_transform",
        "ephys.broken": "missing_source",
        "ephys.outsideSession": "refused",
    }
    hostile = (onedata.OneData & {"one_name": "ephys.hostile"}).fetch1("one_problem")
    assert "mkdir" in hostile
    info = (onedata.OneData & {"one_name": "session.info"}).fetch1("object_value")
    assert info == {"value": {"rig": "B2", "nested": {"a": [1, 2]}, "arr": [0, 1, 2]}}
    assert run(tmp_path / "data").unchanged == 3


def test_the_command_lists_broken_recipes(database, tmp_path, labweave_command):
    one = make_session(tmp_path / "root")
    one.saveone(LoadingRecipe("numpy", "gone.npy"), "x.gone")
    run(tmp_path / "root")
    out = labweave_command("check", "recipes", "-r", "subject=M1", check=1).stdout
    (line,) = [line for line in out.splitlines() if "x.gone" in line]
    assert line.startswith("M1/2024-01-02/7")
    assert "missing_source" in line
    assert "2 recipes, 1 broken" in out


def test_broken_recipes_are_followed_again_when_asked(database, tmp_path, capsys, monkeypatch):
    """A loader that failed and was corrected; one that works is not run once more."""
    from labweave.cli.check import recipes
    from labweave.formats.onedata import registry

    followed = []

    def broken(session):
        followed.append("broken")
        raise RuntimeError("a fault of the loader")

    def works(session):
        followed.append("works")
        return np.zeros(2)

    monkeypatch.setattr("labweave.cli.check.open_database", nullcontext)
    monkeypatch.setattr(registry, "_loaders", {**registry.loaders(), "test_broken": broken, "test_works": works})
    one = make_session(tmp_path)
    for name in ("broken", "works"):
        one.saveone(LoadingRecipe(f"test_{name}", None), f"x.{name}")
    run(tmp_path)
    for _ in range(2):
        with pytest.raises(Exit) as stopped:
            recipes()
        assert stopped.value.exit_code == 1
    assert sorted(followed) == ["broken", "works"]
    assert "RuntimeError: a fault of the loader" in " ".join(capsys.readouterr().out.split())
    monkeypatch.setitem(registry._loaders, "test_broken", works)
    recipes(again=True)
    assert sorted(followed) == ["broken", "works", "works"]
    assert "3 recipes, 0 broken" in capsys.readouterr().out

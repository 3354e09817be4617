"""Upsert: the same rows give the same table on every backend, and old values are kept."""

import datetime as dt
import decimal
import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import datajoint as dj
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import labweave
from labweave.database import UpsertCounts, upsert
from labweave.errors import RowError, SchemaError
from labweave.schemas import dataset, ingestion, lab, session, subject

pytestmark = pytest.mark.slow


def lab_rows(n):
    return [{"lab": f"lab{i:05d}", "institution": f"Inst {i}", "lab_json": {"i": i}} for i in range(n)]


ORPHANS = {  # the rest of each row is null, which must not keep MySQL from looking for the parent
    session.Session: {"eid": "e", "lab": "a", "subject": "nobody"},
    dataset.Dataset: {"dataset_id": "d", "eid": "nothing", "dataset_name": "a.b.npy"},
    dataset.FileRecord: {
        "file_record_id": "f", "dataset_id": "nothing", "repository": "here", "relative_path": "a", "present": True
    },
    subject.Weighing: {"weighing_uuid": "w", "lab": "a", "subject": "nobody", "weight": 20.0},
}  # fmt: skip


@pytest.mark.parametrize("table", ORPHANS)
def test_a_row_whose_parent_is_missing_is_refused(database, table):
    upsert(lab.Lab, [{"lab": "a"}])
    upsert(dataset.Repository, [{"repository": "here", "repository_kind": "local"}])
    with pytest.raises(RowError):
        upsert(table, [ORPHANS[table]])
    assert len(table()) == 0


def test_counts_of_new_equal_and_changed_rows(database):
    rows = lab_rows(50)
    assert upsert(lab.Lab, rows) == UpsertCounts(50, 0, 0)
    assert upsert(lab.Lab, rows) == UpsertCounts(0, 0, 50)
    rows[7]["institution"] = "Other"
    rows.append({"lab": "new", "institution": "", "lab_json": None})
    assert upsert(lab.Lab, rows) == UpsertCounts(1, 1, 49)
    assert (lab.Lab & {"lab": "lab00007"}).fetch1("institution") == "Other"


def test_every_overwritten_value_is_kept(database):
    upsert(lab.Lab, [{"lab": "a", "institution": "Old", "address": "same", "lab_json": {"x": [1, 2]}}])
    upsert(lab.Lab, [{"lab": "a", "institution": "New", "address": "same", "lab_json": {"x": [1, 3]}}], run="r" * 36)
    (change,) = ingestion.Change().to_dicts()
    assert change["table_name"] == "lab.Lab"
    assert change["row_key"] == {"lab": "a"}
    assert change["old_values"] == {"institution": "Old", "lab_json": {"x": [1, 2]}}
    assert change["new_values"] == {"institution": "New", "lab_json": {"x": [1, 3]}}
    assert change["run"] == "r" * 36


AWKWARD = [
    "",
    " ",
    "a b ",
    "Ünï©ode",
    "😀😁",
    "back\\slash\\n",
    "quote'\"`",
    "tab\tnew\nline\r",
    "%s %% %(x)s",
    "\\N",
    "null",
    "{}",
    "–",
    "\x7f\x01",
]


@pytest.mark.parametrize("text", AWKWARD)
def test_text_comes_back_as_it_went_in(database, text):
    row = {"lab": f"k{text}k", "institution": text, "lab_json": {text: [text, {"n": text}]}}
    assert upsert(lab.Lab, [row]).inserted == 1
    assert upsert(lab.Lab, [row]).unchanged == 1
    stored = (lab.Lab & {"lab": f"k{text}k"}).fetch1()
    assert (stored["institution"], stored["lab_json"]) == (text, row["lab_json"])


def test_case_accents_and_trailing_blanks_are_distinct_keys_and_values(database):
    names = ["mouse", "Mouse", "MOUSE", "mouse ", "móuse", "mouß", "mouss", "😀", "😁"]
    assert upsert(lab.Lab, [{"lab": name} for name in names]).inserted == len(names)
    assert sorted(lab.Lab().to_arrays("lab").tolist()) == sorted(names)
    assert [row["lab"] for row in lab.Lab().to_dicts(order_by="lab")] == sorted(names)
    upsert(lab.Lab, [{"lab": "x", "institution": "case"}])
    for other in ("Case", "casé", "case "):
        assert upsert(lab.Lab, [{"lab": "x", "institution": other}]).updated == 1


@pytest.mark.parametrize("missing", [None, float("nan"), np.nan, pd.NaT, pd.NA, np.float32("nan")])
def test_missing_values_are_null_or_the_default(database, missing):
    upsert(lab.Lab, [{"lab": "l"}])
    upsert(subject.Subject, [{"lab": "l", "subject": "s", "subject_uuid": "u" * 36}])
    key = {"weighing_uuid": "w" * 36, "lab": "l", "subject": "s"}
    upsert(
        subject.WaterAdministration,
        [
            {
                "administration_uuid": "w" * 36,
                "lab": "l",
                "subject": "s",
                "administration_time": dt.datetime(2026, 1, 1),
                "volume": missing,
                "water_type": missing,
            }
        ],
    )
    stored = subject.WaterAdministration().fetch1()
    assert stored["volume"] is None or np.isnan(stored["volume"])
    assert stored["water_type"] == ""
    assert key["lab"] == stored["lab"]


def test_times_are_utc_and_numpy_scalars_are_taken(database):
    upsert(lab.Lab, [{"lab": "l"}])
    upsert(
        subject.Subject,
        [{"lab": np.str_("l"), "subject": "s", "subject_uuid": "u" * 36, "birth_date": np.datetime64("2025-02-03")}],
    )
    zone = dt.timezone(dt.timedelta(hours=5, minutes=30))
    moment = dt.datetime(2026, 3, 1, 2, 30, 0, 123456)
    forms = [
        moment,
        moment.replace(tzinfo=dt.timezone.utc).astimezone(zone),
        pd.Timestamp(moment),
        pd.Timestamp(moment, tz="UTC").tz_convert("America/New_York"),
        np.datetime64(moment),
        "2026-03-01T02:30:00.123456Z",
        "2026-03-01 08:00:00.123456+05:30",
    ]
    rows = [
        {
            "weighing_uuid": f"{i:036d}",
            "lab": "l",
            "subject": "s",
            "weighing_time": form,
            "weight": np.float64(20.1) + np.float32(0),
        }
        for i, form in enumerate(forms)
    ]
    assert upsert(subject.Weighing, rows).inserted == len(forms)
    assert set(subject.Weighing().to_arrays("weighing_time").tolist()) == {moment}
    assert set(subject.Weighing().to_arrays("weight").tolist()) == {20.1}
    assert upsert(
        subject.Weighing, pd.DataFrame(rows).drop(columns="weighing_time").assign(weighing_time=pd.Timestamp(moment))
    ).unchanged == len(forms)
    assert subject.Subject().fetch1("birth_date") == dt.date(2025, 2, 3)


@pytest.mark.parametrize(
    "number", [0.1, 1e-300, -1.7976931348623157e308, 5e-324, 2 / 3, 1e22, 123456789.123456789, -0.0]
)
def test_floats_keep_every_digit(database, number):
    upsert(lab.Lab, [{"lab": "l"}])
    upsert(subject.Subject, [{"lab": "l", "subject": "s", "subject_uuid": "u" * 36}])
    row = {
        "weighing_uuid": "w" * 36,
        "lab": "l",
        "subject": "s",
        "weighing_time": dt.datetime(2026, 1, 1),
        "weight": number,
    }
    upsert(subject.Weighing, [row])
    assert subject.Weighing().fetch1("weight") == number
    assert upsert(subject.Weighing, [row]).unchanged == 1


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("subject", "x" * 65, "65 characters; the column holds 64"),
        ("sex", "f?", "'f\\?' is not one of M, F, U"),
        ("subject_uuid", None, "needs one"),
        ("birth_date", "yesterday-ish", "birth_date"),
        ("subject_description", "a\0b", "NUL"),
        ("subject_json", "bare", "dictionary"),
        ("subject_json", {"x": object()}, "JSON"),
        ("species", "Mus nowhere", "parent that does not exist"),
    ],
)
def test_a_value_that_cannot_be_stored_names_row_and_column(database, column, value, says):
    upsert(lab.Lab, [{"lab": "l"}])
    row = {"lab": "l", "subject": "s1", "subject_uuid": "u" * 36, column: value}
    with pytest.raises(RowError, match=says) as caught:
        upsert(subject.Subject, [row])
    assert "subject.Subject" in str(caught.value)
    assert len(subject.Subject()) == 0


@pytest.mark.parametrize("number", [float("inf"), -np.inf])
def test_infinity_is_refused_everywhere(database, number):
    with pytest.raises(RowError, match="infinity"):
        upsert(subject.Weighing, [{"weighing_uuid": "w" * 36, "weight": number}])


def test_unknown_names_and_missing_keys_are_refused(database):
    with pytest.raises(SchemaError, match="no attribute nope"):
        upsert(lab.Lab, [{"lab": "a", "nope": 1}])
    with pytest.raises(SchemaError, match="primary key"):
        upsert(lab.Lab, [{"institution": "a"}])
    with pytest.raises(SchemaError, match="nope"):
        upsert(lab.Lab, [{"lab": "a"}], update=["nope"])


def test_a_clash_on_a_second_unique_index_is_an_error_and_nothing_is_lost(database):
    upsert(lab.Lab, [{"lab": "l"}])
    upsert(subject.Subject, [{"lab": "l", "subject": "a", "subject_uuid": "u" * 36}])
    with pytest.raises(RowError, match="unique"):
        upsert(subject.Subject, [{"lab": "l", "subject": "b", "subject_uuid": "u" * 36}])
    assert subject.Subject().to_arrays("subject").tolist() == ["a"]


def test_a_bad_row_leaves_nothing_of_its_batch(database):
    rows = [*lab_rows(20), {"lab": "z" * 65}]
    with pytest.raises(RowError):
        upsert(lab.Lab, rows)
    assert len(lab.Lab()) == 0


def test_the_last_of_two_rows_with_one_key_counts(database):
    rows = [{"lab": "a", "institution": "1"}, {"lab": "a", "institution": "2"}]
    assert upsert(lab.Lab, rows) == UpsertCounts(1, 0, 0)
    assert lab.Lab().fetch1("institution") == "2"


def test_fields_that_a_row_does_not_have_stay(database):
    upsert(lab.Lab, [{"lab": "a", "institution": "I", "address": "A"}])
    upsert(lab.Lab, [{"lab": "a", "address": "B"}, {"lab": "b", "institution": "J"}])
    assert lab.Lab().to_dicts(order_by="lab")[0]["institution"] == "I"
    assert [row["address"] for row in lab.Lab().to_dicts(order_by="lab")] == ["B", ""]


def test_update_can_be_limited(database):
    upsert(lab.Lab, [{"lab": "a", "institution": "I", "address": "A"}])
    new = [{"lab": "a", "institution": "X", "address": "Y"}]
    assert upsert(lab.Lab, new, update=False) == UpsertCounts(0, 0, 1)
    assert upsert(lab.Lab, new, update=["address"]) == UpsertCounts(0, 1, 0)
    assert lab.Lab().fetch1("institution", "address") == ("I", "Y")


def test_json_that_datajoint_wrote_is_equal_whatever_its_spacing(database):
    lab.Lab.insert1({"lab": "a", "lab_json": {"b": 1, "a": [1, {"c": None}]}})
    assert upsert(lab.Lab, [{"lab": "a", "lab_json": {"a": [1, {"c": float("nan")}], "b": 1}}]).unchanged == 1


def test_a_table_of_every_type(database):
    schema = dj.Schema(f"{database.prefix}everytype", connection=database.connection)
    try:

        @schema
        class Every(dj.Manual):
            definition = """
            k : int32
            ---
            i8=null : int8
            i16=null : int16
            i64=null : int64
            f32=null : float32
            f64=null : float64
            yes=0 : bool
            price=null : decimal(8, 2)
            day=null : date
            ms=null : datetime(3)
            us=null : datetime(6)
            word=null : enum('one', 'Two', 'three words')
            text=null : varchar(4000)
            fixed=null : char(36)
            doc=null : json
            raw=null : bytes
            blob=null : <blob>
            """

        full = {
            "k": 1, "i8": -128, "i16": 32767, "i64": -(2**63), "f32": 0.1, "f64": 0.1, "yes": True,
            "price": decimal.Decimal("3.149"), "day": dt.date(1, 1, 1) if database.backend == "postgresql" else dt.date(1000, 1, 1),
            "ms": dt.datetime(2026, 1, 2, 3, 4, 5, 999999), "us": dt.datetime(9999, 12, 31, 23, 59, 59, 999999),
            "word": "Two", "text": "x" * 4000, "fixed": "abc", "doc": {"z": [1, 2.5, None, True], "é": {}},
            "raw": bytes(range(256)), "blob": np.arange(5.0),
        }  # fmt: skip
        rows = [full, {**dict.fromkeys(full), "k": 2}]
        assert upsert(Every, rows) == UpsertCounts(2, 0, 0)
        assert upsert(Every, rows) == UpsertCounts(0, 0, 2)
        stored = (Every & {"k": 1}).fetch1()
        assert stored["price"] == decimal.Decimal("3.15") and bool(stored["yes"]) is True
        assert stored["ms"] == dt.datetime(2026, 1, 2, 3, 4, 5, 999000)
        assert stored["fixed"].rstrip() == "abc"
        assert bytes(stored["raw"]) == full["raw"]
        np.testing.assert_array_equal(stored["blob"], full["blob"])
        for name in ("i8", "i16", "i64", "f64", "day", "us", "word", "text", "doc"):
            assert stored[name] == full[name], name
        changes = {"i8": 1, "i64": 2, "f32": 0.2, "f64": 0.1 + 1e-16 * 2, "yes": False, "price": "3.16", "day": "2026-01-01",
                   "ms": "2026-01-02 03:04:05.998", "word": "one", "text": "y", "doc": {"z": [1, 2.5, None, False], "é": {}},
                   "raw": b"\0", "blob": np.arange(6.0)}  # fmt: skip
        for name, value in changes.items():
            assert upsert(Every, [{"k": 1, name: value}]) == UpsertCounts(0, 1, 0), name
            assert upsert(Every, [{"k": 1, name: value}]) == UpsertCounts(0, 0, 1), name
        for name, value in {
            "i8": 128,
            "i16": 1.5,
            "word": "two",
            "yes": 2,
            "day": dt.datetime(2026, 1, 1, 3),
            "raw": "text",
        }.items():
            with pytest.raises(RowError, match=name):
                upsert(Every, [{"k": 1, name: value}])
    finally:
        schema.drop(prompt=False)


texts = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=12)
documents = st.none() | st.dictionaries(
    texts, st.none() | st.integers(-(2**53), 2**53) | st.booleans() | texts | st.lists(texts, max_size=3), max_size=3
)
row_values = st.fixed_dictionaries({"institution": texts, "lab_json": documents})
batches = st.lists(st.dictionaries(texts, row_values, max_size=6), min_size=1, max_size=4)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(batches=batches)
def test_any_sequence_of_upserts_equals_a_dictionary(database, batches):
    lab.Lab().delete_quick()
    expected: dict = {}
    for batch in batches:
        new = len(batch.keys() - expected.keys())
        equal = sum(key in expected and expected[key] == values for key, values in batch.items())
        counts = upsert(lab.Lab, [{"lab": key, **values} for key, values in batch.items()])
        assert counts == UpsertCounts(new, len(batch) - new - equal, equal)
        expected |= batch
    stored = {
        row["lab"]: {"institution": row["institution"], "lab_json": row["lab_json"]} for row in lab.Lab().to_dicts()
    }
    assert stored == expected


def test_more_than_one_batch(database):
    rows = [{"procedure": f"p{i:06d}", "procedure_description": "x" * (i % 500)} for i in range(23_456)]
    assert upsert(session.Procedure, iter(rows)) == UpsertCounts(23_456, 0, 0)
    rows[12_345]["procedure_description"] = "changed"
    assert upsert(session.Procedure, rows) == UpsertCounts(0, 1, 23_455)


def test_rows_that_are_there_behind_new_ones_are_found(database):
    rows = lab_rows(20)
    assert upsert(lab.Lab, rows[10:]) == UpsertCounts(10, 0, 0)
    rows[15]["institution"] = 'it\'s 100% \\new\\ "here"\n'

    def work():
        upsert(lab.Lab, [{"lab": "before", "institution": ""}])
        return upsert(lab.Lab, rows)

    assert database.connection.run_transaction(work) == UpsertCounts(10, 1, 9)
    assert len(lab.Lab()) == 21
    assert (lab.Lab & {"lab": "lab00015"}).fetch1("institution") == rows[15]["institution"]


def test_what_is_refused_inside_a_savepoint_is_undone_alone(database):
    def work():
        upsert(lab.Lab, lab_rows(2))
        with pytest.raises(RowError), database.connection.savepoint(RowError):
            upsert(lab.Lab, [{"lab": "gone", "institution": ""}])
            upsert(lab.ProjectMember, [{"project": "nowhere", "user": "nobody"}])
        upsert(lab.Lab, [{"lab": "kept", "institution": ""}])

    database.connection.run_transaction(work)
    assert sorted(lab.Lab().to_arrays("lab").tolist()) == ["kept", "lab00000", "lab00001"]


def test_large_values_are_cut_into_packets_the_server_takes(database):
    rows = [{"lab": f"l{i}", "lab_json": {"x": "é😀" * 400_000, "i": i}} for i in range(8)]
    assert upsert(lab.Lab, rows).inserted == 8
    assert upsert(lab.Lab, rows).unchanged == 8
    assert (lab.Lab & {"lab": "l7"}).fetch1("lab_json")["i"] == 7


def _upsert_in_process(url, prefix, seed):
    rng = np.random.default_rng(seed)
    with labweave.connect(url, prefix=prefix):
        for _ in range(12):
            order = rng.permutation(300)
            upsert(
                lab.Lab, [{"lab": f"lab{i:04d}", "institution": f"by {seed}", "lab_json": {"i": int(i)}} for i in order]
            )


def test_processes_that_upsert_the_same_rows_end_with_the_right_rows(database, database_url):
    with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(_upsert_in_process, [database_url] * 4, [database.prefix] * 4, range(4)))
    rows = lab.Lab().to_dicts()
    assert sorted(row["lab"] for row in rows) == [f"lab{i:04d}" for i in range(300)]
    assert all(row["lab_json"] == {"i": int(row["lab"][3:])} for row in rows)
    assert {row["institution"] for row in rows} <= {f"by {i}" for i in range(4)}
    kept = ingestion.Change().to_dicts()
    assert all(set(row["old_values"]) == {"institution"} for row in kept)


def test_a_unicode_document_is_kept_in_changes(database):
    upsert(lab.Lab, [{"lab": "é\\", "institution": "a"}])
    upsert(lab.Lab, [{"lab": "é\\", "institution": "b😀\\'"}])
    change = ingestion.Change().fetch1()
    assert (change["row_key"], change["new_values"]) == ({"lab": "é\\"}, {"institution": "b😀\\'"})
    assert json.dumps(change["old_values"]) == '{"institution": "a"}'

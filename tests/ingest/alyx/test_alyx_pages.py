"""Parts as they are written: renames, names that pass on, long text, and single bad records."""

import datetime as dt
import uuid

import pytest

from labweave.database import upsert
from labweave.ingest.alyx import tables as alyx
from labweave.ingest.alyx.pages import compare, write
from labweave.ingest.alyx.pull import Pulled
from labweave.schemas import ingestion, lab, session, subject

SOURCE, RUN = "alyx", "00000000-0000-4000-8000-000000000001"
WHOLE = {"range": ["00000000-0000-0000-0000-000000000000", ""], "complete": True}


def uid(number):
    return str(uuid.UUID(int=number, version=4))


def animal(number, nickname, in_lab="north", **more):
    return {"id": uid(number), "nickname": nickname, "lab": in_lab, "sex": "F", "genotype": [], "projects": [], **more}


@pytest.fixture
def part(database):
    """Return a function that writes records as one part and returns its page."""
    upsert(ingestion.Source, [{"source": SOURCE, "adapter": "alyx", "location": "http://a", "source_lab": ""}])
    now = dt.datetime(2026, 1, 1)
    upsert(ingestion.Run, [{"run": RUN, "source": SOURCE, "status": "running", "started": now}])
    upsert(lab.Lab, [{"lab": "north"}, {"lab": "south"}])

    def put(name, *records, scope=WHOLE):
        return database.connection.run_transaction(
            lambda: write(database.connection, RUN, SOURCE, name, scope, Pulled(list(records)))
        )

    return put


def names():
    rows = subject.Subject().to_dicts()
    return {row["subject_uuid"]: (row["lab"], row["subject"]) for row in rows}


def test_the_same_part_again_writes_nothing(part):
    assert part("subjects", animal(1, "A"), animal(2, "B"))["n_new"] == 2
    page = part("subjects", animal(2, "B"), animal(1, "A"))
    assert (page["n_records"], page["n_new"], page["n_changed"], page["written"]) == (2, 0, 0, {})


def test_a_rename_carries_sessions_along_and_is_recorded(part):
    part("subjects", animal(1, "A"))
    upsert(session.Session, [{"eid": uid(9), "lab": "north", "subject": "A"}])
    assert part("subjects", animal(1, "A2", in_lab="south"))["n_changed"] == 1
    assert names() == {uid(1): ("south", "A2")}
    assert session.Session().fetch1("lab", "subject") == ("south", "A2")
    change = ingestion.Change().fetch1()
    assert change["row_key"] == {"lab": "north", "subject": "A"}
    assert change["old_values"] == {"lab": "north", "subject": "A"}
    assert change["new_values"] == {"lab": "south", "subject": "A2"}


def test_two_may_swap_their_names(part):
    part("subjects", animal(1, "A"), animal(2, "B"))
    part("subjects", animal(1, "B"), animal(2, "A"))
    assert names() == {uid(1): ("north", "B"), uid(2): ("north", "A")}


def test_two_may_swap_their_names_in_two_parts(part):
    part("subjects", animal(1, "A"), animal(2, "B"))
    part("subjects", animal(1, "B"), scope={"ids": [uid(1)]})
    part("subjects", animal(2, "A"), scope={"ids": [uid(2)]})
    assert names() == {uid(1): ("north", "B"), uid(2): ("north", "A")}


def test_a_name_may_pass_on_to_another_animal(part):
    part("subjects", animal(1, "A"))
    upsert(session.Session, [{"eid": uid(9), "lab": "north", "subject": "A"}])
    page = part("subjects", animal(2, "A"))
    assert page["absent"] == [uid(1)]
    assert names() == {uid(1): ("north", f"A ({uid(1)[:8]})"), uid(2): ("north", "A")}
    assert session.Session().fetch1("subject") == f"A ({uid(1)[:8]})"


def test_an_animal_known_from_files_becomes_that_of_the_server(part):
    upsert(subject.Subject, [{"lab": "north", "subject": "A", "subject_uuid": uid(7), "sex": "M"}])
    part("subjects", animal(1, "A"))
    assert names() == {uid(1): ("north", "A")}


def test_a_name_of_a_row_from_elsewhere_is_not_taken(part):
    part("subjects", animal(1, "A"))
    upsert(subject.Subject, [{"lab": "north", "subject": "B", "subject_uuid": uid(7)}])
    page = part("subjects", animal(1, "B"))
    assert (page["n_changed"], page["n_refused"]) == (0, 1)
    assert names() == {uid(1): ("north", "A"), uid(7): ("north", "B")}
    assert "did not come from this server" in ingestion.Failure().fetch1("message")


def test_what_is_too_long_stays_whole_in_the_json(part):
    story = "Ein langer Bericht 🐭\r\n" * 500
    part("subjects", animal(1, "A", description=story, json={"cage": "12"}))
    row = subject.Subject().fetch1()
    assert row["subject_description"] == story[: len(row["subject_description"])] != ""
    assert row["subject_json"] == {"description": story, "json": {"cage": "12"}}


def test_one_bad_record_does_not_stop_the_others_and_is_tried_again(part):
    page = part("subjects", animal(1, "x" * 65), animal(2, "B", birth_date="yesterday"), animal(3, "C"))
    assert (page["n_new"], page["n_refused"]) == (1, 2)
    assert names() == {uid(3): ("north", "C")}
    assert sorted(row["path"] for row in ingestion.Failure().to_dicts()) == [f"subjects/{uid(1)}", f"subjects/{uid(2)}"]
    assert part("subjects", animal(1, "x"), animal(2, "B"), animal(3, "C"))["n_refused"] == 0
    assert len(names()) == 3


def test_a_record_whose_name_is_null_is_refused(part):
    page = part("subjects", animal(1, None), animal(2, "B"))
    assert (page["n_new"], page["n_refused"]) == (1, 1)
    assert names() == {uid(2): ("north", "B")}
    assert "its name is null" in ingestion.Failure().fetch1("message")
    assert part("subjects", animal(1, "A"), animal(2, "B"))["n_refused"] == 0
    assert names() == {uid(1): ("north", "A"), uid(2): ("north", "B")}


def test_a_record_without_its_parent_waits_alone(part):
    page = part("subjects", animal(1, "A", responsible_user="nobody"), animal(2, "B"))
    assert page["postponed"] == {uid(1): "lab.LabMember nobody"}
    assert names() == {uid(2): ("north", "B")}


def test_links_follow_the_server_and_what_was_unlinked_is_recorded(part):
    part("projects", {"name": "p", "users": []}, {"name": "q", "users": []}, scope={"complete": True})
    part("subjects", animal(1, "A", projects=["p", "q"], genotype=["Ai14 +"]))
    part("subjects", animal(1, "A", projects=["q"], genotype=["Ai14 +/+"]))
    assert subject.SubjectProject().to_arrays("project").tolist() == ["q"]
    assert subject.SubjectGenotype().fetch1("allele", "zygosity") == ("Ai14", "Homozygous")
    changes = {row["table_name"]: row for row in ingestion.Change().to_dicts()}
    assert changes["subject.SubjectProject"]["row_key"]["project"] == "p"
    assert changes["subject.SubjectProject"]["new_values"] is None
    assert changes["subject.SubjectGenotype"]["old_values"] == {"zygosity": "Present"}


def test_a_record_that_comes_back_is_unmarked(part):
    part("subjects", animal(1, "A"))
    upsert(subject.Subject, [{"lab": "north", "subject": "A", "subject_vanished": RUN}])
    upsert(alyx.SourceRecord, [{"source": SOURCE, "resource": "subjects", "record_id": uid(1), "vanished_in": RUN}])
    assert part("subjects", animal(1, "A"))["n_changed"] == 1
    assert subject.Subject().fetch1("subject_vanished") is None
    assert alyx.SourceRecord().fetch1("vanished_in") is None


def test_what_could_not_be_read_is_not_taken_for_gone(part):
    part("subjects", animal(1, "A"), animal(2**127, "B"))
    low, high = int(uuid.UUID(uid(2**127))), int(uuid.UUID(uid(2**127))) + 1
    pulled = Pulled([animal(1, "A")], broken=[((low, high), "status 500")])
    assert compare(SOURCE, "subjects", WHOLE, pulled).absent == []
    assert compare(SOURCE, "subjects", WHOLE, Pulled([animal(1, "A")])).absent == [uid(2**127)]


def test_a_users_rename_is_seen_by_all_who_name_him(part):
    user = {"id": uid(5), "username": "daisuke", "email": "d@lab.example", "lab": ["north"], "allowed_users": []}
    part("users", user, scope={"complete": True})
    part("subjects", animal(1, "A", responsible_user="daisuke"))
    part("users", {**user, "username": "daisuke_t"}, scope={"complete": True})
    assert subject.Subject().fetch1("responsible_user") == "daisuke_t"
    assert lab.LabMembership().to_arrays("user").tolist() == ["daisuke_t"]

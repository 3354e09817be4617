"""A large lab in a database: ONE-api's cache tables, made by a generator, put in as fast as the server takes them.

    python tests/benchmarks/one/one_base.py TABLES URL PREFIX

TABLES is a folder with sessions.pqt and datasets.pqt. Every dataset gets one copy on a server.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import uuid
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

import labweave
from labweave.database import upsert
from labweave.schemas import dataset, lab, session, subject

BATCH_ROWS = 250_000


def load(tables: Path, database) -> None:
    """Put cache tables into the tables of an open, empty database."""
    sessions = pq.read_table(tables / "sessions.pqt").to_pandas().reset_index()
    upsert(lab.Lab, [{"lab": name} for name in sorted(set(sessions.lab))])
    animals = sorted(set(zip(sessions.lab, sessions.subject, strict=True)))
    upsert(
        subject.Subject,
        [
            {"lab": at, "subject": name, "subject_uuid": str(uuid.uuid3(uuid.NAMESPACE_URL, f"{at}/{name}"))}
            for at, name in animals
        ],
    )
    names = sessions.projects.str.split(",")
    upsert(lab.Project, [{"project": name} for name in sorted({n for each in names for n in each if n})])
    rows = pa.table(
        {
            "eid": sessions.id,
            "lab": sessions.lab,
            "subject": sessions.subject,
            "session_date": sessions.date.astype(str),
            "session_number": sessions.number,
            "task_protocol": sessions.task_protocol,
        }
    )
    _copy(database, session.Session, rows)
    pairs = [(eid, name) for eid, each in zip(sessions.id, names, strict=True) for name in each if name]
    eids, projects = zip(*pairs, strict=True)
    _copy(database, session.SessionProject, pa.table({"eid": eids, "project": projects}))
    upsert(
        dataset.Repository,
        [{"repository": "server", "repository_kind": "server", "data_url": "http://data.example.org"}],
    )
    folders = pa.table(
        {
            "eid": sessions.id,
            "folder": sessions.lab
            + "/Subjects/"
            + sessions.subject
            + "/"
            + sessions.date.astype(str)
            + "/"
            + sessions.number.map("{:03d}".format)
            + "/",
        }
    )
    seen: set[str] = set()
    # In the order of the primary key, and the other indexes afterwards: else a large table takes hours.
    rows = pq.read_table(tables / "datasets.pqt").sort_by("id")
    with _without_indexes(database, dataset.Dataset), _without_indexes(database, dataset.FileRecord):
        for at in range(0, len(rows), BATCH_ROWS):
            _datasets(database, rows.slice(at, BATCH_ROWS).combine_chunks(), folders, seen)
    if database.backend == "postgresql":
        database.connection.query("vacuum analyze")
    else:
        for table in (session.Session, session.SessionProject, dataset.Dataset, dataset.FileRecord):
            database.connection.query(f"analyze table {table.full_table_name}").fetchall()


@contextlib.contextmanager
def _without_indexes(database, table):
    """Take the secondary indexes and foreign keys off a table of MySQL or MariaDB, and put the indexes back.

    Foreign keys stay off: MariaDB copies the whole table for them, and who only reads does without.
    """
    if database.backend == "postgresql":
        yield
        return
    name, query = table.full_table_name, database.connection.query
    lines = [line.strip().rstrip(",") for line in query(f"show create table {name}").fetchone()[1].splitlines()]
    keys = [line for line in lines if line.startswith(("KEY", "UNIQUE KEY"))]
    links = [line for line in lines if line.startswith("CONSTRAINT") and "FOREIGN KEY" in line]
    quoted = [line.split("`")[1] for line in keys], [line.split("`")[1] for line in links]
    query("set foreign_key_checks = 0")
    query(f"alter table {name} " + ", ".join([f"drop foreign key `{each}`" for each in quoted[1]]))
    query(f"alter table {name} " + ", ".join([f"drop index `{each}`" for each in quoted[0]]))
    yield
    query(f"alter table {name} " + ", ".join(f"add {line}" for line in keys))
    query("set foreign_key_checks = 1")


def _datasets(database, table: pa.Table, folders: pa.Table, seen: set[str]) -> None:
    split = pc.extract_regex(table["rel_path"], r"^(?P<folder>(?:.*/)?)(?P<name>[^/]*)$").combine_chunks()
    name, folder = split.field("name"), split.field("folder")
    parts = pc.extract_regex(folder, r"^(?P<collection>[^#]*)(?:#(?P<revision>[^#]*)#/)?$")
    revision = parts.field("revision")
    missing = pc.equal(pc.fill_null(revision, ""), "")
    if new := set(revision.to_pylist()) - seen - {None, ""}:
        upsert(dataset.Revision, [{"revision": each} for each in sorted(new)])
        seen |= new
    rows = pa.table(
        {
            "dataset_id": table["id"],
            "eid": table["eid"],
            "collection": pc.utf8_rtrim(parts.field("collection"), "/"),
            "revision": pc.if_else(missing, "\\N", revision),
            "dataset_name": name,
            "file_size": table["file_size"],
            "hash": table["hash"],
            "dataset_qc": table["qc"].cast(pa.string()),
            "is_default": table["default_revision"].cast(pa.int8()),
            "is_present": pa.repeat(1, len(table)),
        }
    )
    _copy(database, dataset.Dataset, rows)
    rel_path = table["rel_path"].cast(pa.large_string())
    place = pa.table({"eid": table["eid"], "order": range(len(table))}).join(folders, "eid").sort_by("order")
    records = pa.table(
        {
            "file_record_id": [str(uuid.UUID(int=uuid.UUID(each).int ^ 1)) for each in table["id"].to_pylist()],
            "dataset_id": table["id"],
            "repository": pa.repeat("server", len(table)),
            "relative_path": pc.binary_join_element_wise(
                place["folder"].cast(pa.large_string()), rel_path, pa.scalar("", pa.large_string())
            ),
            "present": pa.repeat(1, len(table)),
        }
    )
    _copy(database, dataset.FileRecord, records)


def _copy(database, table, rows: pa.Table) -> None:
    """Insert rows by COPY or LOAD DATA."""
    options = pyarrow.csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")
    names = ", ".join(rows.column_names)
    with tempfile.NamedTemporaryFile(suffix=".tsv") as file:
        pyarrow.csv.write_csv(rows, file.name, options)
        if database.backend == "postgresql":
            with database.connection._conn.cursor() as cursor, open(file.name, encoding="utf-8") as text:
                cursor.copy_expert(f"copy {table.full_table_name} ({names}) from stdin", text)
                database.connection._conn.commit()
            return
        import pymysql

        info = database.connection.conn_info
        connection = pymysql.connect(
            host=info["host"], port=info["port"], user=info["user"], password=info["passwd"], local_infile=True,
            charset="utf8mb4", autocommit=True,
        )  # fmt: skip
        with connection, connection.cursor() as cursor:
            cursor.execute("set foreign_key_checks = 0, unique_checks = 0")
            cursor.execute(
                f"load data local infile %s into table {table.full_table_name} character set utf8mb4 ({names})",
                (file.name,),
            )


if __name__ == "__main__":
    tables, url, prefix = sys.argv[1:]
    with labweave.connect(url, prefix=prefix) as opened:
        load(Path(tables), opened)

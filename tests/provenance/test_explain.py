"""Why a value is what it is."""

import datajoint as dj
import pytest
from simulated import AMPLITUDES, OPTIONS, rheobase_na, spikes, sweeps_of, write_cell

import labweave
from labweave import ingest, populate
from labweave.errors import SchemaError
from labweave.formats.hashing import sha256_of_file
from labweave.schemas import recording, rheobase

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(database, tmp_path):
    """A folder of one cell, a file a sweep; its rheobase is made."""
    for number, sweep in enumerate(sweeps_of(0)):
        write_cell(tmp_path, 0, "a", file=f"a/s{number}.h5", sweeps=[sweep])
    ingest.run("ephys", tmp_path, **OPTIONS)
    assert populate.run().failed == 0
    return tmp_path


def explained(query=rheobase.Rheobase):
    return str(labweave.explain(query)).splitlines()


def about(lines, word):
    return [line for line in lines if word in line]


def test_a_rheobase_down_to_its_files(database, folder):
    lines = explained()
    assert about(lines, "rheobase = ")[0].split()[3:5] == [f"{rheobase.Rheobase().fetch1('rheobase'):.6g}", "nA"]
    assert rheobase.Rheobase().fetch1("rheobase") == pytest.approx(rheobase_na(sweeps_of(0)), abs=1e-3)
    assert about(lines, "labweave ")[0].count(labweave.__version__) and about(lines, "made 20")
    sweeps = about(lines, "n_spikes=")
    assert [int(line.split("n_spikes=")[1].split()[0]) for line in sweeps] == [spikes(sweep) for sweep in sweeps_of(0)]
    files = about(lines, ".h5")
    assert len(files) == len(AMPLITUDES)
    for number, line in enumerate(files):
        assert f"a/s{number}.h5  sha256 {sha256_of_file(folder / f'a/s{number}.h5')[:12]}" in line
        assert "the same, ingested" in line
    assert not about(lines, "made again") and not about(lines, "overwritten")


def test_what_changed_since_is_named(database, folder):
    write_cell(folder, 0, "a", file="a/s1.h5", sweeps=[sweeps_of(1)[1]])
    (folder / "a/s2.h5").unlink()
    key = (recording.RecordingStimulus & "recording like 'a/s3%%'").keys()[0]
    recording.RecordingStimulus.update1({**key, "n_spikes": 77})
    lines = explained()
    assert [line.split("…  ")[1].split(",")[0] for line in about(lines, ".h5")] == [
        "the same", "changed since", "gone", "the same", "the same", "the same",
    ]  # fmt: skip
    (reason,) = about(lines, "would be made again")
    assert "recording.RecordingStimulus" in reason and "changed" in reason


def test_what_was_overwritten_before_is_named(database, folder):
    ingest.run("ephys", folder, **OPTIONS, cell_type="L5PC")
    lines = explained(recording.Cell)
    assert any("cell_type was" in line and "by the run" in line for line in about(lines, "recording.Cell"))


def test_one_row_is_explained_at_a_time(database, folder, labweave_command):
    with pytest.raises(SchemaError, match="6 rows fit recording.Recording"):
        labweave.explain(recording.Recording)
    with pytest.raises(SchemaError, match="No row fits"):
        labweave.explain(recording.Cell & {"cell": "nobody"})
    done = labweave_command("explain", "Rheobase", "cell=a", check=0)
    assert done.stdout.splitlines()[0].startswith("rheobase.Rheobase eid=") and "a/s5.h5" in done.stdout
    assert "cel" in labweave_command("explain", "Rheobase", "cel=a", check=2).stderr
    assert "<summary>" in labweave.explain(rheobase.Rheobase)._repr_html_()


def test_a_table_of_the_lab_s_own_is_recorded_and_explained(database, folder):
    own = dj.Schema(f"{database.connection.prefix}ownmade", connection=database.connection, context=globals())

    class Doubled(dj.Computed):
        definition = """
        # one number that somebody's own pipeline computes
        -> rheobase.Rheobase
        ---
        doubled : float64       # nA
        """

        def make(self, key):
            self.insert1({**key, "doubled": 2 * (rheobase.Rheobase & key).fetch1("rheobase")})

    doubled = own(Doubled)
    try:
        doubled.populate()
        lines = explained(doubled)
        assert about(lines, "made 20") and about(lines, "rheobase.Rheobase: 1 row") and len(about(lines, ".h5")) == 6
        rheobase.Rheobase.update1({**rheobase.Rheobase().keys()[0], "rheobase": 0.5})
        assert not about(explained(doubled), "made again"), "a result counts by what its make gave"
    finally:
        own.drop(prompt=False)

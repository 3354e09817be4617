"""The metadata tree: what is tracked, added, restored and saved (edge cases by number)."""

import datetime as dt
import json
import math
from collections import OrderedDict
from pathlib import PurePosixPath

import numpy as np
import pandas as pd
import pytest

from labweave.acquisition import DataCollector
from labweave.errors import LabweaveError


class Param:
    """A parameter as lightparam has it."""

    def __init__(self, value, limits=None, loadable=True):
        self.value, self.limits, self.loadable = value, limits, loadable


class Parameters:
    def __init__(self, parametrized):
        self._parametrized = parametrized

    def items(self):
        return dict(self._parametrized.own)

    @property
    def values(self):
        return {name: param.value for name, param in self._parametrized.own.items()}


class Parametrized:
    def __init__(self, name, tree, **own):
        self.name, self.own = name, own
        self.params = Parameters(self)
        tree.add(self)

    def __setattr__(self, name, value):
        if name in getattr(self, "own", ()):
            self.own[name].value = value
        else:
            object.__setattr__(self, name, value)


@pytest.fixture
def collector(home, tmp_path):
    return DataCollector(folder_path=tmp_path / "data")


def write_config(home, content, number=""):
    (home / f"stytra_last_config{number}.json").write_text(content if isinstance(content, str) else json.dumps(content))


def test_the_tree(collector):  # 31, 32
    Parametrized("general/animal", collector, id=Param("7"), age=Param(6))
    Parametrized("tracking+tail_tracking", collector, n_segments=Param(12))
    collector.add_static_data("screen.tif", "animal/screening/image")
    collector.add_static_data(5, "general_db_idx")
    collector.add_static_data("no category")
    collector.add_static_data({"animal": {"id": "8"}, "log": [1]}, "general")
    collector.add_static_data("in it", "general/note")
    assert collector.get_clean_dict() == {
        "general": {"animal": {"id": "8"}, "log": [1], "note": "in it"},
        "tracking+tail_tracking": {"n_segments": 12},
        "animal": {"screening": {"image": "screen.tif"}},
        "general_db_idx": 5,
        "unspecified_entry": "no category",
    }
    assert DataCollector(({"a": 1}, "x/y"), ("z",), folder_path=collector.folder_path).get_clean_dict() == {
        "x": {"y": {"a": 1}},
        "unspecified_entry": "z",
    }


def test_entries_that_exclude_each_other(collector):  # 33
    collector.add_static_data(7, "general")
    with pytest.raises(TypeError, match="general is 7") as error:
        collector.add_static_data(1, "general/x")
    assert isinstance(error.value, LabweaveError)
    collector.add_static_data(1, "imaging/x")
    with pytest.raises(TypeError, match="imaging/x below it"):
        collector.add_static_data(1, "imaging")
    Parametrized("stimulus", collector, speed=Param(2))
    collector.add_static_data(1, "stimulus/speed/x")
    with pytest.raises(TypeError, match="parameter speed"):
        collector.get_clean_dict()


def test_values(collector, tmp_path, caplog):  # 34 - 37
    start = dt.datetime(2024, 3, 5, 14, 7, 9, 123456)
    values = {
        "none": None,
        "array": np.arange(3.0),
        "nested": OrderedDict(a=(1, np.float32(0.5)), b=[np.bool_(True), np.int64(3)]),
        "nan": math.nan,
        "inf": -math.inf,
        "start": start,
        "whole": start.replace(microsecond=0),
        "table": pd.DataFrame({"a": [1, 2], "b": ["x", None]}),
        "path": PurePosixPath("dir/f.tif"),
        "day": start.date(),
        "pause": dt.timedelta(milliseconds=1500),
        "mixed": {1: "a", "b": 2},
        "class": dict,
        "text": "κόσμε",
    }
    for name, value in values.items():
        collector.add_static_data(value, f"v/{name}")
    collector.save(tmp_path / "140709_metadata.json")
    text = (tmp_path / "140709_metadata.json").read_text()
    assert text.isascii()
    found = json.loads(text, parse_constant=lambda token: pytest.fail(f"{token} is not JSON"))["v"]
    assert list(found) == sorted(found)
    assert found == {
        "none": None,
        "array": [0.0, 1.0, 2.0],
        "nested": {"a": [1, 0.5], "b": [True, 3]},
        "nan": None,
        "inf": None,
        "start": "2024-03-05T14:07:09.123456",
        "whole": "2024-03-05T14:07:09",
        "table": {"a": [1, 2], "b": ["x", None]},
        "path": "dir/f.tif",
        "day": "2024-03-05",
        "pause": 1.5,
        "mixed": {"1": "a", "b": 2},
        "class": None,
        "text": "κόσμε",
    }
    assert "v/class" in caplog.text
    clean = collector.get_clean_dict(eliminate_df=True)["v"]
    assert (clean["table"], clean["start"]) == (0, start.replace(microsecond=0))
    for wrong in ({1, 2}, {"a": [b"bytes"]}):
        with pytest.raises(TypeError, match="JSON can't hold"):
            collector.add_static_data(wrong, "w")


def test_what_is_restored(home, tmp_path, collector):  # 38 - 40
    write_config(
        home,
        {
            "general": {"animal": {"id": "9", "age": 5, "gone": 1, "speed": 99.0, "sides": [3, 4], "gain": 3}},
            "camera": {"mode": "fast", "wrong": "text", "flag": 1, "kind": "z", "fixed": 2},
        },
    )
    tree = DataCollector(folder_path=tmp_path)
    animal = Parametrized(
        "general/animal",
        tree,
        id=Param("1"),
        age=Param(6, loadable=False),
        speed=Param(1.5, (1, 2)),
        sides=Param((0, 0), (0, 5)),
        gain=Param(1.0, (None, 4)),
    )
    camera = Parametrized(
        "camera", tree, mode=Param("slow", ["slow", "fast"]), wrong=Param(1), flag=Param(True), kind=Param("a", ["a"]),
        fixed=Param(None),
    )  # fmt: skip
    with pytest.warns(UserWarning) as warned:
        tree.restore_from_saved()
    assert animal.params.values == {"id": "9", "age": 6, "speed": 1.5, "sides": (3, 4), "gain": 3.0}
    assert camera.params.values == {"mode": "fast", "wrong": 1, "flag": True, "kind": "a", "fixed": 2}
    said = "\n".join(str(warning.message) for warning in warned)
    for part in ("general/animal/gone", "99.0 is outside of 1 to 2", "'text' is no int", "camera/flag", "camera/kind"):
        assert part in said
    assert len(warned) == 5


def test_the_last_values(home, tmp_path):
    write_config(home, {"general": {"animal": {"id": "9"}}, "other_program": {"x": 1}})
    tree = DataCollector(extra_settings={"general": {"animal": {"id": "1", "age": 3}}}, folder_path=tmp_path)
    assert tree.last_metadata["general"]["animal"] == {"id": "9", "age": 3}
    assert tree.get_last_value("general/animal/id") == "9"
    assert tree.get_last_value("general/animal/none") is None
    assert tree.get_last_value("general/animal/id/deeper") is None
    Parametrized("general/animal", tree, id=Param("10"))
    Parametrized("empty", tree)
    tree.add_static_data(1, "static")
    tree.save_config_file()
    assert json.loads((home / "stytra_last_config.json").read_text()) == {
        "general": {"animal": {"id": "10", "age": 3}},
        "other_program": {"x": 1},
    }
    assert DataCollector(folder_path=tmp_path).get_last_value("general/animal/id") == "10"
    second = DataCollector(folder_path=tmp_path, instance_number=1)
    assert second.last_metadata == {}
    second.save_config_file()
    assert (home / "stytra_last_config_1.json").is_file()


def test_a_broken_configuration(home, tmp_path):  # 41
    write_config(home, '{"general": ')
    with pytest.warns(UserWarning, match="stytra_last_config.json can't be read"):
        assert DataCollector(folder_path=tmp_path).last_metadata == {}


def test_places(collector, home, tmp_path):
    assert collector.folder_path.is_dir()
    with pytest.raises(FileNotFoundError):
        collector.save()
    with pytest.raises(FileNotFoundError):
        collector.save(tmp_path / "no" / "m.json")
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError):
        DataCollector(folder_path=tmp_path / "file")

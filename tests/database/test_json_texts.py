"""JSON of many values at once is that of each by itself."""

import datetime as dt
import random

import pytest

from labweave.database.values import alike_to_json, to_json

SEED = 5
WORDS = ["", "right", 'a "b" \\ 100% %s', "tâche\n\t\x07", "\u2028", "007"]
SCALARS = [*WORDS, 0, -7, 2**70, 0.1, -0.0, 1e300, 5e-324, True, False, None]


def test_alike_dictionaries_give_the_text_of_each():
    chance = random.Random(SEED)
    for _ in range(50):
        names = chance.sample(["b", "a", "100%", 'q"q', "ä", "\\"], chance.randint(1, 6))
        values = [{name: chance.choice(SCALARS) for name in names} for _ in range(20)]
        assert alike_to_json(values) == [to_json(value) for value in values]


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"b": 1},
        {"a": 1, "b": 2},
        {1: 2},
        {"a": float("nan")},
        {"a": float("inf")},
        {"a": "\0"},
        {"a": "\\u0000"},
        {"a": [1]},
        {"a": dt.date(2026, 1, 2)},
        [1],
        "text",
        float("nan"),
    ],
    ids=repr,
)
def test_others_are_left_to_be_looked_at_one_by_one(odd):
    assert alike_to_json([{"a": 1}, odd]) is None
    assert alike_to_json([odd, odd]) is None or odd in ({"b": 1}, {"a": 1, "b": 2})

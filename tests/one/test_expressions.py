"""Regular expressions of a person, or a web client, have a time limit."""

import re

import pytest

from labweave.one.search import expressions
from labweave.one.search.expressions import Expression

NAMES = ["spikes.times.npy", "_ibl_trials.table.pqt", "alf/probe00/spikes.times.npy", "Spikes.x.csv", "a" * 40 + "!"]


@pytest.mark.parametrize(
    "text",
    [r"spikes\..*", r"^_\w+_trials", r"(?i)SPIKES", r"(?<!/)spikes", r"(\w)\1", r"[^/]*\.npy$", r"x|y", r"\Aa{3,}"],
)
def test_they_mean_what_they_mean_in_python(text):
    for name in NAMES:
        expression = Expression(text)
        assert expression.search(name) == (re.search(text, name) is not None)
        assert expression.match(name) == (re.match(text, name) is not None)
        assert expression.fullmatch(name) == (re.fullmatch(text, name) is not None)


def test_one_that_takes_for_ever_is_refused_in_words(monkeypatch):
    monkeypatch.setattr(expressions, "SECONDS", 0.2)
    with pytest.raises(ValueError, match=re.escape("'(a|aa)+$' takes longer than")):
        Expression("(a|aa)+$").search("a" * 60 + "!")


def test_the_seconds_are_those_of_all_texts_together(monkeypatch):
    monkeypatch.setattr(expressions, "SECONDS", 0.3)
    expression = Expression("(a|aa)+$")
    with pytest.raises(ValueError, match="takes longer"):
        for length in range(20, 60):  # each is harmless, or nearly
            expression.search("a" * length + "!")


@pytest.mark.parametrize("text", ["(", "[a", "a{2", "*"])
def test_none_is_told(text):
    if text == "a{2":  # a text in Python, too
        assert Expression(text).search("a{2")
        return
    with pytest.raises(ValueError, match="is not a regular expression"):
        Expression(text)

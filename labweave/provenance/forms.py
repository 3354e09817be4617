"""The forms of an explanation, each made of the same structure: for people, for programs, for papers."""

from __future__ import annotations

import json
from collections.abc import Callable

from labweave.errors import ConfigError
from labweave.provenance.crate import crate_text
from labweave.provenance.explanation import Explanation
from labweave.provenance.mermaid import mermaid_text
from labweave.provenance.prov import prov_text
from labweave.provenance.tree import tree_text


def json_text(found: Explanation) -> str:
    """Return all that is known, as JSON; nothing is cut."""
    return json.dumps(found.to_dict(), indent=2, ensure_ascii=False)


FORMS: dict[str, Callable[[Explanation], str]] = {
    "tree": tree_text,
    "json": json_text,
    "prov": prov_text,
    "crate": crate_text,
    "mermaid": mermaid_text,
}
"""Name of a form -> what makes it."""


def render(found: Explanation, form: str) -> str:
    """Return an explanation as text.

    Parameters
    ----------
    found : Explanation
    form : {"tree", "json", "prov", "crate", "mermaid"}
        Lines for people; all of it; W3C PROV-JSON; the ``ro-crate-metadata.json`` of an RO-Crate with the profile
        Process Run Crate; a diagram for GitHub, notebooks and pages. Trees and diagrams are cut where they are long.

    Raises
    ------
    ConfigError
        There is no such form, or the package that writes it is not installed.

    Examples
    --------
    >>> import labweave
    >>> from labweave.provenance import render
    >>> from labweave.schemas.rheobase import Rheobase
    >>> print(render(labweave.explain(Rheobase & {"cell": "sim01"}), "mermaid"))
    flowchart LR
    ...
    """
    if form not in FORMS:
        raise ConfigError(f"There is no form {form!r}. Choose one of {', '.join(FORMS)}.")
    return FORMS[form](found)

"""Griffe extension: a table is documented by its definition."""

from __future__ import annotations

import ast
import inspect

import griffe


class Tables(griffe.Extension):
    """Show ``definition`` as it is written, in the documentation of its class."""

    def on_class_members(self, *, cls: griffe.Class, **_) -> None:
        """Append the definition to the docstring."""
        definition = cls.members.get("definition")
        if not isinstance(definition, griffe.Attribute) or definition.value is None:
            return
        try:
            text = ast.literal_eval(str(definition.value))
        except (SyntaxError, ValueError):  # made in code
            return
        block = f"```text\n{inspect.cleandoc(text)}\n```"
        if cls.docstring is None:
            cls.docstring = griffe.Docstring(block, parent=cls)
        else:
            cls.docstring.value = f"{cls.docstring.value}\n\n{block}"
        cls.del_member("definition")

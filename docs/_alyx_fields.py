"""MkDocs hook: the table of Alyx's fields in the guide, from their declaration."""

from __future__ import annotations

from labweave.formats.alyx import RESOURCES

MARK = "<!-- the table of Alyx's fields -->"
FILTERS = {"": "", "path": "django", "exact": "yes", "iexact": "yes, any case", "icontains": "yes, a part"}


def fields_table() -> str:
    """Return the fields of every resource and where they are kept, as a Markdown table."""
    lines = ["| Alyx | field | table and column | filter |", "| --- | --- | --- | --- |"]
    for resource in RESOURCES.values():
        if resource.name == "sessions":  # a session's details have these fields, too
            continue
        for field in resource.fields:
            if field.kind != "other":
                own = f"{resource.table}.{field.column or resource.json}"
                place = field.column if field.kind == "names" else own
                lines.append(f"| {resource.path[1:]} | {field.name} | `{place}` | {FILTERS[field.filter]} |")
    return "\n".join(lines)


def on_page_markdown(markdown, page, config, files):
    """Put the table where the guide has its mark."""
    return markdown.replace(MARK, fields_table())

"""MkDocs hook: a reference page for each part of labweave, from its docstrings."""

from __future__ import annotations

from pathlib import Path

from mkdocs.structure.files import File

PACKAGE = Path(__file__).resolve().parents[1] / "labweave"


def modules_of(part: Path) -> list[str]:
    """Return the public modules below a module or package, parents first."""
    files = [part] if part.is_file() else sorted(part.rglob("*.py"))
    names = []
    for file in files:
        path = file.relative_to(PACKAGE.parent).with_suffix("")
        parts = path.parts[:-1] if path.name == "__init__" else path.parts
        if not any(word.startswith("_") for word in parts):
            names.append(".".join(parts))
    return sorted(names)


def parts() -> dict[str, list[str]]:
    """Return the modules of each page: the package itself, then each of its children."""
    pages = {"labweave": ["labweave"]}
    for child in sorted(PACKAGE.iterdir()):
        is_part = child.suffix == ".py" or (child / "__init__.py").is_file()
        if is_part and (modules := modules_of(child)):
            pages.setdefault(modules[0].rpartition(".")[2], modules)
    return pages


def on_config(config):
    """Put the reference at the end of the navigation."""
    pages = [{modules[0]: f"reference/{page}.md"} for page, modules in parts().items()]
    config.nav = [*config.nav, {"Reference": pages}]
    return config


def on_files(files, config):
    """Make the pages."""
    for page, modules in parts().items():
        text = [f"# {modules[0]}\n"]
        for name in modules:
            text.append(f"::: {name}\n    options:\n      show_submodules: false\n")
        files.append(File.generated(config, f"reference/{page}.md", content="\n".join(text)))
    return files

"""The entity diagram, drawn with matplotlib: no program outside Python is needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from labweave.database.declare import schema_modules, short_name, table_classes
from labweave.database.reads import table_label
from labweave.errors import ConfigError

TIERS = {  # colour, meaning
    "Manual": ("#d9ead3", "entered or ingested"),
    "Lookup": ("#e4e4e4", "with default contents"),
    "Imported": ("#cfe2f3", "read from files by populate"),
    "Computed": ("#f4cccc", "computed by populate"),
    "Part": ("#ffffff", "part of the table above"),
}
HALF_WIDTH, HALF_HEIGHT, LANE = 0.33, 0.3, 0.028


def draw_tables(path: Path, modules: Sequence[str] | None = None) -> None:
    """Draw every table as a box, a column per schema, with an arrow to each table that refers to it.

    Parameters
    ----------
    path : Path
        Ends in .svg or .png.
    modules : sequence of str, optional
        Schemas to draw; all by default.

    Raises
    ------
    ConfigError
        The file ends in something else, or a schema does not exist.
    """
    from matplotlib.figure import Figure

    if path.suffix.lower() not in {".svg", ".png"}:
        raise ConfigError(f"{path}: a diagram is written as .svg or .png.")
    known = {short_name(module): module for module in schema_modules()}
    if unknown := set(modules or ()) - set(known):
        raise ConfigError(f"No schema is called {', '.join(sorted(unknown))}. There are: {', '.join(known)}.")
    columns = {name: table_classes(module) for name, module in known.items() if not modules or name in modules}
    places = {
        cls.full_table_name: (column, row)
        for column, classes in enumerate(columns.values())
        for row, cls in enumerate(classes)
    }
    n_rows = max(map(len, columns.values()))
    figure = Figure(figsize=(2.9 * len(columns), 0.42 * (n_rows + 2.5)))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-0.55, len(columns) - 0.55), ylim=(n_rows + 0.9, -1.5))
    axes.axis("off")
    for column, (name, classes) in enumerate(columns.items()):
        axes.text(column, -1.0, name, ha="center", va="center", fontsize=12, fontweight="bold")
        lanes: dict[str, float] = {}
        for cls in classes:
            for parent in cls().parents():
                if parent in places:
                    _draw_arrow(axes, places[parent], places[cls.full_table_name], lanes, parent)
        for cls in classes:
            _draw_box(axes, *places[cls.full_table_name], cls)
    for index, (color, meaning) in enumerate(TIERS.values()):
        x = -0.45 + index * (len(columns) - 0.2) / len(TIERS)
        axes.text(x, n_rows + 0.45, f" {meaning} ", fontsize=8, va="center", bbox={"facecolor": color, "lw": 0.5})
    figure.savefig(path, dpi=150)


def _draw_box(axes: Any, column: int, row: int, cls: Any) -> None:
    from matplotlib.patches import Rectangle

    tier = next(base.__name__ for base in cls.__mro__ if base.__name__ in TIERS)
    name = table_label(cls).partition(".")[2]
    corner = (column - HALF_WIDTH, row - HALF_HEIGHT)
    size = (2 * HALF_WIDTH, 2 * HALF_HEIGHT)
    axes.add_patch(Rectangle(corner, *size, facecolor=TIERS[tier][0], edgecolor="#666666", lw=0.6, zorder=3))
    axes.text(column, row, name, ha="center", va="center", fontsize=8 if len(name) < 24 else 6.5, zorder=4)


def _draw_arrow(axes: Any, parent: tuple[int, int], child: tuple[int, int], lanes: dict[str, float], name: str) -> None:
    """Draw a bracket on the left within a column, or a curve between columns."""
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path as Curve

    (px, py), (x, y) = parent, child
    end = (x - HALF_WIDTH, y)
    if px == x:
        lane = lanes.setdefault(name, x - HALF_WIDTH - LANE * (1 + len(lanes) % 5))
        curve = Curve([(px - HALF_WIDTH, py), (lane, py), (lane, y), end])
    else:
        start = (px + HALF_WIDTH, py) if px < x else (px - HALF_WIDTH, py)
        middle = (start[0] + end[0]) / 2
        curve = Curve([start, (middle, py), (middle, y), end], [Curve.MOVETO, Curve.CURVE4, Curve.CURVE4, Curve.CURVE4])
    color = ("#7a8aa0", "#a07a7a", "#7aa084", "#9a86b5", "#b09a6a")[py % 5]
    arrow = FancyArrowPatch(path=curve, arrowstyle="-|>", mutation_scale=6, color=color, lw=0.7, zorder=2, fill=False)
    axes.add_patch(arrow)

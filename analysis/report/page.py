"""The parts of a report, and the page that is made of them."""

import base64
import io
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import matplotlib as mpl
from jinja2 import Environment
from matplotlib.figure import Figure

MOST_SHAPES = 1_000
"""Bars, points of areas and tenths of points of lines in a figure from which on a picture of dots is made of it: a drawing would be larger."""
DPI = 170
"""Dots an inch of such a picture."""


class Lacking(Exception):
    """A section has nothing to say; the text is one line that says why."""


@dataclass(frozen=True)
class Table:
    """A table with its caption."""

    caption: str
    titles: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: Collection[int] = (0,)
    """Columns that hold words; the others hold numbers."""
    what: str = "table"


@dataclass(frozen=True)
class Picture:
    """A figure as a data URI, with what it shows in words."""

    caption: str
    data: str
    what: str = "picture"


type Parts = Sequence[str | Table | Picture]
"""Paragraphs, tables and pictures in their order."""


@dataclass(frozen=True)
class Section:
    """A heading with paragraphs, tables and pictures below it."""

    key: str
    title: str
    parts: Parts


def picture(figure: Figure, caption: str) -> Picture:
    """A figure as part of a page: as a drawing, or of dots where it has very many shapes. Equal figures give equal bytes."""
    kind, held = ("svg", "svg+xml") if _shapes(figure) < MOST_SHAPES else ("png", "png"), io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "report"}):
        figure.savefig(held, format=kind[0], dpi=DPI, metadata={"Date": None} if kind[0] == "svg" else None)
    return Picture(caption, f"data:image/{kind[1]};base64,{base64.b64encode(held.getvalue()).decode()}")


def _shapes(figure: Figure) -> int:
    areas = [path for ax in figure.axes for drawn in ax.collections for path in drawn.get_paths()]
    points = sum(len(line.get_xydata()) for ax in figure.axes for line in ax.lines)
    return sum(len(ax.patches) for ax in figure.axes) + sum(len(path.vertices) for path in areas) + points // 10


def sections(wanted: Iterable[tuple[str, str, Callable[[], Parts]]]) -> dict[str, Any]:
    """The sections that have something to say, and of the others why they have not.

    Args:
        wanted: Key, title and contents of each.
    """
    told, lacking = [], []
    for key, title, contents in wanted:
        try:
            told.append(Section(key, title, contents()))
        except Lacking as why:
            lacking.append((title, str(why)))
    return {"sections": told, "lacking": lacking}


def render(title: str, subtitle: str, content: Mapping[str, Any]) -> str:
    """The page: one HTML file that needs nothing else.

    Args:
        title: Of the page.
        subtitle: One line below it.
        content: What `sections` gave.
    """
    template = files("analysis.report").joinpath("template.html").read_text("utf-8")
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(template)
    return page.render(title=title, subtitle=subtitle, **content)

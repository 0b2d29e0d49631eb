"""The picture of the contagion network: who is linked to whom, and what each has lost."""

import math
from typing import Any

from bokeh.models import ColorBar, ColumnDataSource, HoverTool, LinearColorMapper, NumeralTickFormatter, Range1d
from bokeh.palettes import RdBu11

from experiments.app.pictures import INK, empty

_WIDE, _HIGH = (-1.75, 1.75), (-1.22, 1.22)
_CANVAS = (370.0, 310.0)
"""Pixels of the smallest picture; in a larger one labels have more room."""
_LETTER, _LINE = 6.4, 14.0  # pixels of a label

Box = tuple[float, float, float, float]
"""Left, right, bottom, top, in pixels."""


class ContagionNetwork:
    """Assets and who holds them, coloured by what each has lost."""

    def __init__(self) -> None:
        self.plot = plot = empty(Range1d(*_WIDE), 360, "")
        plot.y_range = Range1d(*_HIGH)
        plot.axis.visible = False
        plot.grid.visible = False
        self.edges = ColumnDataSource({"x0": [], "y0": [], "x1": [], "y1": []})
        names = ("node", "x", "y", "loss", "size", "align", "aside", "lift", "label", "kind", "percent")
        self.holders, self.assets = (ColumnDataSource({name: [] for name in names}) for _ in range(2))
        self._places: dict[str, tuple[float, float]] = {}
        self._sides: dict[str, tuple[int, int]] = {}
        self._drawn: Any = None
        mapper = LinearColorMapper(list(RdBu11), low=-0.5, high=0.5, nan_color="#cccccc")
        plot.segment("x0", "y0", "x1", "y1", source=self.edges, color="#bbbbbb", line_alpha=0.5)
        fill = {"field": "loss", "transform": mapper}
        drawn = []
        for source, marker in ((self.holders, "circle"), (self.assets, "square")):
            drawn.append(
                plot.scatter("x", "y", size="size", source=source, marker=marker, fill_color=fill, line_color=INK)
            )
            plot.text("x", "y", "label", source=source, x_offset="aside", y_offset="lift", text_align="align",
                      text_font_size="12px", text_baseline="middle")  # fmt: skip
        plot.add_tools(HoverTool(renderers=drawn, tooltips=[("", "@node"), ("kind", "@kind"), ("change", "@percent")]))
        bar = ColorBar(
            color_mapper=mapper, width=12, title="lost", major_label_text_font_size="12px", border_line_color=None
        )
        bar.formatter = NumeralTickFormatter(format="0%")
        plot.add_layout(bar, "right")

    def show(self, nodes: list[dict[str, Any]], edges: list[tuple[str, str, str]]) -> None:
        """Give the nodes other colours; their places stay."""
        if not nodes or repr(nodes) == self._drawn:
            return
        self._drawn = repr(nodes)
        most = max(node["size"] for node in nodes) or 1.0
        sizes = {node["node"]: 9.0 + 22.0 * math.sqrt(node["size"] / most) for node in nodes}
        if sizes.keys() - self._places.keys():
            self._places = _places(nodes)
            self._sides = _sides(nodes, self._places, sizes)
            self.edges.data = {"x0": [], "y0": [], "x1": [], "y1": []}
        for source, assets in ((self.holders, False), (self.assets, True)):
            mine = [node for node in nodes if (node["kind"] == "asset") == assets]
            names = [node["node"] for node in mine]
            sides = [self._sides.get(name, (0, 0)) for name in names]
            source.data = {
                "node": [_named(name) for name in names],
                "x": [self._places[name][0] for name in names],
                "y": [self._places[name][1] for name in names],
                "loss": [node["loss"] for node in mine],
                "size": [sizes[name] for name in names],
                "align": [("center", "left", "right")[right] for right, _ in sides],
                "aside": [right * (sizes[name] / 2 + 4) for name, (right, _) in zip(names, sides, strict=True)],
                "lift": [-up * (sizes[name] + _LINE + 4) / 2 for name, (_, up) in zip(names, sides, strict=True)],
                "label": [_named(name) if name in self._sides else "" for name in names],
                "kind": [node["kind"] for node in mine],
                "percent": ["" if math.isnan(node["loss"]) else f"{-node['loss']:+.1%}" for node in mine],
            }
        ends = {(u, v) for u, v, _ in edges if u in self._places and v in self._places}
        if len(ends) != len(self.edges.data["x0"]):
            pairs = [(*self._places[u], *self._places[v]) for u, v in sorted(ends)]
            self.edges.data = dict(zip(("x0", "y0", "x1", "y1"), map(list, zip(*pairs, strict=True)), strict=True))


def _named(node: str) -> str:
    return node.replace("_", " ").replace("house:", "").replace("community:", "mood: ").replace("factor:", "news: ")


def _places(nodes: list[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    """Assets on an inner ring, all others on an outer one, the largest apart from each other."""
    places: dict[str, tuple[float, float]] = {}
    for assets, across, up in ((True, 0.5, 0.42), (False, 1.25, 1.0)):
        ring = [node["node"] for node in nodes if (node["kind"] == "asset") == assets]
        for place, name in enumerate(ring):
            angle = 2.0 * math.pi * (place + 0.25) / max(len(ring), 1)
            places[name] = across * math.cos(angle), up * math.sin(angle)
    return places


def _sides(
    nodes: list[dict[str, Any]], places: dict[str, tuple[float, float]], sizes: dict[str, float]
) -> dict[str, tuple[int, int]]:
    """To which side of its node each label stands, as steps to the right and up, so that none lies on another or on a node.

    A label that finds no room is left out: whoever points at the node reads its name.
    """
    middle = {name: _pixels(place) for name, place in places.items()}
    taken = {name: (x - r, x + r, y - r, y + r) for name, (x, y) in middle.items() for r in (sizes[name] / 2,)}
    labels: dict[str, Box] = {}
    sides: dict[str, tuple[int, int]] = {}
    for node in sorted(nodes, key=lambda node: node["kind"] != "asset"):
        name = node["node"]
        x, y = places[name]
        out, up = (1 if x >= 0 else -1), (1 if y >= 0 else -1)
        for side in ((0, up), (out, 0), (0, -up), (-out, 0)):
            box = _label(middle[name], sizes[name], len(_named(name)), side)
            others = [each for other, each in taken.items() if other != name]
            if _within(box) and not any(_overlap(box, each) for each in (*others, *labels.values())):
                labels[name], sides[name] = box, side
                break
    return sides


def _pixels(place: tuple[float, float]) -> tuple[float, float]:
    x, y = (
        (at - low) / (high - low) * size for at, (low, high), size in zip(place, (_WIDE, _HIGH), _CANVAS, strict=True)
    )
    return x, y


def _label(middle: tuple[float, float], size: float, letters: int, side: tuple[int, int]) -> Box:
    """Where a label is: beside its node, above it, or below it."""
    right, up = side
    half = letters * _LETTER / 2
    x = middle[0] + right * (size / 2 + 4 + half)
    y = middle[1] + up * (size + _LINE + 4) / 2
    return x - half, x + half, y - _LINE / 2, y + _LINE / 2


def _within(box: Box) -> bool:
    return box[0] >= 0 and box[1] <= _CANVAS[0] and box[2] >= 0 and box[3] <= _CANVAS[1]


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[1] and b[0] < a[1] and a[2] < b[3] and b[2] < a[3]

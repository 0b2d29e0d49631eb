"""The picture of the contagion network: who is linked to whom, and what each has lost."""

import math
from typing import Any

from bokeh.models import ColorBar, ColumnDataSource, HoverTool, LinearColorMapper, NumeralTickFormatter, Range1d
from bokeh.palettes import RdBu11

from experiments.app.pictures import INK, empty


class ContagionNetwork:
    """Assets and who holds them, coloured by what each has lost."""

    def __init__(self) -> None:
        self.plot = plot = empty(Range1d(-1.75, 1.75), 360, "")
        plot.y_range = Range1d(-1.22, 1.22)
        plot.axis.visible = False
        plot.grid.visible = False
        self.edges = ColumnDataSource({"x0": [], "y0": [], "x1": [], "y1": []})
        names = ("node", "x", "y", "loss", "size", "lift", "label", "kind", "percent")
        self.holders, self.assets = (ColumnDataSource({name: [] for name in names}) for _ in range(2))
        self._places: dict[str, tuple[float, float]] = {}
        self._drawn: Any = None
        mapper = LinearColorMapper(list(RdBu11), low=-0.5, high=0.5, nan_color="#cccccc")
        plot.segment("x0", "y0", "x1", "y1", source=self.edges, color="#bbbbbb", line_alpha=0.5)
        fill = {"field": "loss", "transform": mapper}
        drawn = []
        for source, marker in ((self.holders, "circle"), (self.assets, "square")):
            drawn.append(
                plot.scatter("x", "y", size="size", source=source, marker=marker, fill_color=fill, line_color=INK)
            )
            plot.text("x", "y", "label", source=source, y_offset="lift", text_align="center", text_font_size="12px",
                      text_baseline="bottom")  # fmt: skip
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
        if any(node["node"] not in self._places for node in nodes):
            self._places = _places(nodes)
            self.edges.data = {"x0": [], "y0": [], "x1": [], "y1": []}
        most = max(node["size"] for node in nodes) or 1.0
        for source, assets in ((self.holders, False), (self.assets, True)):
            mine = [node for node in nodes if (node["kind"] == "asset") == assets]
            source.data = {
                "node": [_named(node["node"]) for node in mine],
                "x": [self._places[node["node"]][0] for node in mine],
                "y": [self._places[node["node"]][1] for node in mine],
                "loss": [node["loss"] for node in mine],
                "size": (sizes := [9.0 + 22.0 * math.sqrt(node["size"] / most) for node in mine]),
                # Away from the middle, so that labels of a ring do not lie on each other's nodes
                "lift": [
                    -size / 2 - 2 if self._places[node["node"]][1] >= -0.6 else size / 2 + 15
                    for size, node in zip(sizes, mine, strict=True)
                ],
                "label": [_named(node["node"]) if len(nodes) <= 40 or assets else "" for node in mine],
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

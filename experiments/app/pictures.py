"""The pictures of one run. They are made once; after that only what is new is sent."""

import math
from datetime import UTC, datetime
from typing import Any

import numpy as np
from bokeh.models import (
    ColumnDataSource,
    CrosshairTool,
    DataRange1d,
    DatetimeTickFormatter,
    HoverTool,
    NumeralTickFormatter,
    Range1d,
    Span,
)
from bokeh.plotting import figure
from matplotlib.colors import to_hex

from analysis.figures import REASONS
from experiments.app.snapshot import FAR, RUNGS, Grid, Traded

BLUE, ORANGE, GREEN, RED, GREY, INK = "#0173b2", "#de8f05", "#029e73", "#d55e00", "#777777", "#222222"
"""Colours that the colour-blind tell apart; what matters has another shape or hatch besides."""
_HATCH = {"": " ", "//": "/", "xx": "x", "..": ".", "\\\\": "\\", "--": "-"}
_MILLION = 1e6
_HEIGHT = 250


def empty(x: Any = None, height: int = _HEIGHT, label: str = "", **more: Any) -> Any:
    """An empty picture without tools that a click could hit by mistake."""
    plot = figure(
        height=height,
        sizing_mode="stretch_width",
        x_range=x or DataRange1d(),
        toolbar_location=None,
        tools="",
        output_backend="canvas",
        min_border_right=14,
        **more,
    )
    plot.outline_line_color = None
    plot.xgrid.grid_line_color = None
    plot.ygrid.grid_line_color = "#e5e5e5"
    for axis in plot.axis:
        axis.axis_label_text_font_style = "normal"
        axis.axis_label_text_font_size = axis.major_label_text_font_size = "13px"
        axis.axis_label_text_color = axis.major_label_text_color = INK
        axis.minor_tick_line_color = None
    plot.yaxis.axis_label = label
    return plot


def _timed(grid: Grid, start: datetime, x: Any, label: str, height: int = _HEIGHT) -> Any:
    plot = empty(x, height, label, x_axis_type="datetime")
    # One for each picture: what two visitors shared would lose its formats when the first of them goes
    plot.xaxis.formatter = DatetimeTickFormatter(
        seconds="%H:%M:%S",
        minsec="%H:%M",
        minutes="%H:%M",
        hourmin="%H:%M",
        hours="%H:%M",
        days="%e %b",
        months="%e %b",
    )
    plot.xaxis.ticker.desired_num_ticks = 6
    return plot


class Times:
    """The axis of time that all pictures of a page share."""

    def __init__(self, grid: Grid, start: datetime) -> None:
        self.grid, self.start = grid, start
        self._first = start.timestamp() * 1000.0
        self.range = Range1d(self._first, self._first + grid.total * 1000.0)

    def at(self, seconds: Any) -> Any:
        """Milliseconds for an axis."""
        return self._first + np.asarray(seconds, np.float64) * 1000.0

    def written(self, seconds: float) -> str:
        """A moment for people."""
        when = datetime.fromtimestamp(self._first / 1000.0 + seconds, UTC)
        return f"{when.day} {when:%b %H:%M}"


class Price:
    """The price, where positions were liquidated, and the price of the other run."""

    def __init__(self, times: Times, y: Any = None) -> None:
        self._times = times
        self.plot = plot = _timed(times.grid, times.start, times.range, "USD", 300)
        plot.y_range = y or Range1d(0.0, 1.0)
        plot.yaxis.formatter = NumeralTickFormatter(format="0,0.[00]")
        self.line, self.other = (ColumnDataSource({"t": [], "mid": []}) for _ in range(2))
        self.marks = {side: ColumnDataSource({"t": [], "mid": [], "size": [], "usd": []}) for side in ("long", "short")}
        self.now = ColumnDataSource({"t": [], "mid": []})
        plot.line("t", "mid", source=self.other, color=GREY, line_width=2, line_dash="dashed")
        line = plot.line("t", "mid", source=self.line, color=INK, line_width=2)
        plot.scatter("t", "mid", source=self.now, color=INK, size=8)
        for side, marker, colour in (("long", "inverted_triangle", RED), ("short", "triangle", BLUE)):
            plot.scatter(
                "t", "mid", size="size", source=self.marks[side], marker=marker, color=colour, alpha=0.55,
                line_color="white",
            )  # fmt: skip
        hover = [("time", "@t{%e %b %H:%M}"), ("price", "@mid{0,0.[00]}")]
        plot.add_tools(HoverTool(renderers=[line], tooltips=hover, formatters={"@t": "datetime"}, mode="vline"))
        plot.add_tools(CrosshairTool(dimensions="height", line_color=GREY, line_alpha=0.5))

    def show(self, seen: Traded, bets: Traded, seconds: float) -> None:
        """Add what is new: of the price, and of positions in the instrument that has leverage."""
        sent, n = len(self.line.data["t"]), len(seen.price)
        at = self._times.at(np.arange(sent, n) * self._times.grid.column)
        if n > sent:
            self.line.stream({"t": at, "mid": seen.price[sent:]})
            before = max(0, sent - 1)  # the last column was not whole
            for side, amounts in (("long", bets.longs), ("short", bets.shorts)):
                part = amounts[before : n - 1]
                where = before + np.flatnonzero(part)
                usd = amounts[where]
                self.marks[side].stream(
                    {
                        "t": self._times.at(where * self._times.grid.column),
                        "mid": seen.price[where],
                        "size": np.clip(np.sqrt(usd / 2e5), 4, 36),
                        "usd": usd,
                    }
                )
        self.now.data = {"t": [float(self._times.at(seconds))], "mid": [seen.now]}

    def show_other(self, seen: Traded) -> None:
        """Add what is new of the other run."""
        sent, n = len(self.other.data["t"]), len(seen.price)
        if n > sent:
            at = self._times.at(np.arange(sent, n) * self._times.grid.column)
            self.other.stream({"t": at, "mid": seen.price[sent:]})

    def expect(self, price: float) -> None:
        """Have the axis lie about a price, until there is one to fit it to."""
        self.plot.y_range.update(start=0.99 * price, end=1.01 * price)

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest price of this run so far; nothing lies between them where there is none."""
        prices = [*self.now.data["mid"], *self.line.data["mid"]]
        return (min(prices), max(prices)) if prices else (math.inf, -math.inf)

    def clear(self) -> None:
        """Begin anew."""
        self.line.data, self.now.data = {"t": [], "mid": []}, {"t": [], "mid": []}
        for marks in self.marks.values():
            marks.data = {"t": [], "mid": [], "size": [], "usd": []}

    def clear_other(self) -> None:
        """Forget the other run."""
        self.other.data = {"t": [], "mid": []}


def _same(first: Any, second: Any) -> bool:
    """Whether two sets of arrays are equal: what has not changed is not drawn again."""
    return (
        first is not None
        and second is not None
        and all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    )


class Ladder:
    """What is bid and offered at prices near the mid."""

    def __init__(self) -> None:
        self.plot = plot = empty(Range1d(-0.25, 1), 290, "")
        plot.y_range = Range1d(-RUNGS - 0.6, RUNGS - 0.4)
        plot.xaxis.axis_label = "million USD at each price"
        plot.yaxis.visible, plot.ygrid.grid_line_color = False, None
        nothing: dict[str, list[Any]] = {"y": [], "amount": [], "price": [], "said": []}
        self.sides = []
        self._drawn: Any = None
        for colour, hatch in ((BLUE, " "), (ORANGE, "/")):
            source = ColumnDataSource(nothing)
            plot.hbar(
                "y", 0.84, "amount", source=source, color=colour, hatch_pattern=hatch, hatch_color="white",
                hatch_alpha=0.5, legend_label="bids" if colour == BLUE else "offers",
            )  # fmt: skip
            plot.text(0, "y", "price", source=source, x_offset=-6, text_baseline="middle", text_align="right",
                      text_font_size="12px")  # fmt: skip
            plot.text(
                "amount", "y", "said", source=source, x_offset=6, text_baseline="middle", text_font_size="12px",
                text_color="#555555",
            )  # fmt: skip
            self.sides.append(source)
        plot.legend.location, plot.legend.border_line_color = "right", None
        plot.legend.label_text_font_size = "13px"
        plot.xaxis.bounds = (0, 1e6)
        plot.add_layout(Span(location=-0.5, dimension="width", line_color=INK, line_width=1.5))

    def show(self, seen: Traded) -> None:
        """Draw the rungs anew: there are twenty."""
        width, *sides = seen.ladder
        if _same(self._drawn, sides):
            return
        self._drawn = sides
        digits = max(0, -math.floor(math.log10(width)))
        most = max(float(side[1].max(initial=0.0)) for side in sides) / _MILLION
        for source, (price, amount), sign in zip(self.sides, sides, (-1, 1), strict=True):
            rungs = np.arange(RUNGS)
            millions = amount / _MILLION
            source.data = {
                "y": -1.0 - rungs if sign < 0 else rungs.astype(float),
                "amount": millions,
                "price": [f"{each:,.{digits}f}" for each in price],
                "said": [f"{each:.1f}" if each >= 0.05 else "" for each in millions],
            }
        # Grows at once and shrinks in steps, so that bars do not dance
        if most > self.plot.x_range.end * 0.85 or most < self.plot.x_range.end * 0.3:
            end = max(most * 1.3, 0.1)
            self.plot.x_range.update(start=-0.25 * end, end=end)


class Depth:
    """What can be sold and bought until a price."""

    def __init__(self) -> None:
        self.plot = plot = empty(Range1d(0.0, 1.0), 290, "million USD up to there")
        plot.xaxis.axis_label = "price (USD)"
        plot.xaxis.formatter = NumeralTickFormatter(format="0,0.[00]")
        plot.xaxis.ticker.desired_num_ticks = 4
        plot.y_range = DataRange1d(start=0)
        self.sides = []
        self._drawn: Any = None
        for colour, name in ((BLUE, "bids"), (ORANGE, "offers")):
            source = ColumnDataSource({"x": [], "y": []})
            plot.varea("x", 0, "y", source=source, fill_color=colour, fill_alpha=0.35)
            plot.line("x", "y", source=source, color=colour, line_width=2.5, legend_label=name,
                      line_dash="solid" if name == "bids" else "dashed")  # fmt: skip
            self.sides.append(source)
        plot.legend.location, plot.legend.border_line_color = "top_center", None
        plot.legend.label_text_font_size, plot.legend.background_fill_alpha = "13px", 0.6

    def show(self, seen: Traded) -> None:
        """Draw both sides anew."""
        if _same(self._drawn, seen.depth):
            return
        self._drawn = seen.depth
        for source, (price, amount) in zip(self.sides, seen.depth, strict=True):
            source.data = {"x": price, "y": amount / _MILLION}
        (bids, _), (offers, _) = seen.depth
        self.plot.x_range.update(start=float(bids[-1]), end=float(offers[-1]))


class LiquidationMap:
    """Where the next accounts fall."""

    def __init__(self) -> None:
        self.plot = plot = empty(Range1d(-FAR, FAR), _HEIGHT, "million USD")
        plot.y_range = DataRange1d(start=0)
        plot.xaxis.axis_label = "if the price moves by (%)"
        self.sources = {}
        self._drawn: Any = None
        for name, sign, colour, hatch in (("longs", -1, RED, " "), ("shorts", 1, BLUE, "/")):
            middles = sign * (np.arange(FAR) + 0.5)
            source = ColumnDataSource({"x": middles, "amount": np.zeros(FAR)})
            plot.vbar("x", 0.9, "amount", source=source, color=colour, hatch_pattern=hatch, hatch_color="white",
                      legend_label=f"{name} that are closed")  # fmt: skip
            self.sources[name] = source
        plot.add_layout(Span(location=0, dimension="height", line_color=INK, line_width=1.5))
        plot.add_layout(plot.legend[0], "above")  # inside it would lie on the bars nearest to the price
        plot.legend.orientation, plot.legend.border_line_color = "horizontal", None
        plot.legend.label_text_font_size, plot.legend.padding = "13px", 0

    def named(self, instrument: str) -> None:
        """Say of which instrument it is."""
        self.plot.yaxis.axis_label = f"million USD, {instrument}"

    def show(self, seen: Traded) -> None:
        """Patch the heights."""
        if seen.map is None or _same(self._drawn, seen.map):
            return
        self._drawn = seen.map
        for source, amounts in zip(self.sources.values(), seen.map[1:], strict=True):
            source.patch({"amount": [(slice(0, FAR), amounts / _MILLION)]})


class Volume:
    """Who took liquidity, by reason and time: periods that are over are added, the one that goes on is drawn anew."""

    def __init__(self, times: Times) -> None:
        self._times = times
        self.plot = plot = _timed(times.grid, times.start, times.range, "million USD", 290)
        plot.y_range = DataRange1d(start=0)
        self.over, self.going = (ColumnDataSource(_no_bars()) for _ in range(2))
        for source in (self.over, self.going):
            plot.vbar(
                "t", times.grid.period * 950.0, "top", "bottom", source=source, fill_color="colour", line_color=None,
                hatch_pattern="hatch", hatch_color="white",
            )  # fmt: skip
        self.reasons: list[str] = []
        """Those that there were so far, in the order in which they are stacked."""
        self._sent = 0
        self._going: Any = None

    def show(self, seen: Traded) -> None:
        """Add what is new."""
        if not seen.volume:
            return
        self.reasons = [reason for reason in REASONS if reason in seen.volume]
        amounts = np.array([seen.volume[reason] for reason in self.reasons]) / _MILLION
        last = int(np.flatnonzero(amounts.any(axis=0))[-1])
        if last > self._sent:
            self.over.stream(self._bars(amounts, self._sent, last))
            self._sent = last
        going = amounts[:, last]
        if not np.array_equal(going, self._going):
            self._going = going
            self.going.data = self._bars(amounts, last, last + 1)

    def _bars(self, amounts: Any, first: int, until: int) -> dict[str, Any]:
        part = amounts[:, first:until].T
        tops = part.cumsum(axis=1)
        period, reason = np.nonzero(part)
        styles = [REASONS[self.reasons[k]] for k in reason]
        return {
            "t": self._times.at((first + period + 0.5) * self._times.grid.period),
            "top": tops[period, reason],
            "bottom": (tops - part)[period, reason],
            "colour": [to_hex(colour) for _, colour, _ in styles],
            "hatch": [_HATCH[hatch] for _, _, hatch in styles],
        }

    def clear(self) -> None:
        """Begin anew."""
        self.over.data, self.going.data = _no_bars(), _no_bars()
        self.reasons, self._sent, self._going = [], 0, None


def _no_bars() -> dict[str, Any]:
    return {name: [] for name in ("t", "top", "bottom", "colour", "hatch")}


class OverTime:
    """A few numbers over time that are read from bars: open interest, funding, depth."""

    def __init__(self, times: Times, name: str, label: str, colour: str, scale: float = 1.0) -> None:
        self._times, self._name, self._scale, self._label = times, name, scale, label
        self.plot = plot = _timed(times.grid, times.start, times.range, label, 160)
        self.source = ColumnDataSource({"t": [], "y": []})
        plot.varea("t", 0, "y", source=self.source, fill_color=colour, fill_alpha=0.2)
        plot.line("t", "y", source=self.source, color=colour, line_width=2)
        if name == "funding":
            plot.add_layout(Span(location=0, dimension="width", line_color=INK))

    def named(self, instrument: str) -> None:
        """Say of which instrument it is."""
        self.plot.yaxis.axis_label = f"{self._label}, {instrument}"

    def show(self, seen: Traded) -> None:
        """Add what is new."""
        values, sent = seen.bars[self._name], len(self.source.data["t"])
        if len(values) > sent and not np.isnan(values).all():
            self.source.stream({"t": self._times.at(seen.bars["time"][sent:]), "y": values[sent:] / self._scale})

    def clear(self) -> None:
        """Begin anew."""
        self.source.data = {"t": [], "y": []}

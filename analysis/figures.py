"""The figures of a run. One message a figure, units on the axes, colours safe for the colour-blind and the same everywhere."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.dates as mdates
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from abm.record import Result
from analysis.attribution import Attribution
from analysis.compare import INTERVAL

_PALETTE = sns.color_palette("colorblind", 10)
REASONS: dict[str, tuple[str, Any, str]] = {
    # reason: (label, colour, hatch); a hatch tells apart what shares a colour
    "noise": ("noise", _PALETTE[7], ""),
    "value": ("value", _PALETTE[0], ""),
    "market_making": ("market making", _PALETTE[9], ""),
    "trend": ("trend", _PALETTE[1], ""),
    "panic": ("panic", _PALETTE[3], ""),
    "accumulation": ("accumulation", _PALETTE[2], ""),
    "distribution": ("distribution", _PALETTE[4], ""),
    "redemption": ("fund redemptions", _PALETTE[5], ""),
    "creation": ("fund creations", _PALETTE[5], "//"),
    "mining": ("miners", _PALETTE[8], ""),
    "liquidation": ("liquidation", _PALETTE[3], "xx"),
    "deleveraging": ("deleveraging", _PALETTE[3], "//"),
    "stop_loss": ("stop loss", _PALETTE[3], ".."),
    "margin_call": ("margin call", _PALETTE[3], "\\\\"),
    "margin_notice": ("margin notice", _PALETTE[3], "--"),
    "take_profit": ("take profit", _PALETTE[1], "//"),
    "short_cover": ("short cover", _PALETTE[1], "xx"),
    "hedge": ("hedge", _PALETTE[6], ""),
    "arbitrage": ("arbitrage", _PALETTE[6], "//"),
    "treasury": ("treasury", _PALETTE[8], "//"),
    "execution": ("execution", _PALETTE[0], "//"),
    "informed": ("informed", _PALETTE[0], "xx"),
    "replay": ("replay", _PALETTE[7], "//"),
    "unspecified": ("other", _PALETTE[7], "xx"),
}
"""How each reason for an order is drawn, wherever it is drawn."""

_BID, _ASK, _INK = _PALETTE[0], _PALETTE[1], "#222222"


def _axes(fig: Figure, **grid: Any) -> Any:
    axes = fig.subplots(**grid)
    for ax in np.atleast_1d(axes):
        sns.despine(ax=ax)
        ax.grid(axis="y", color="#e5e5e5", linewidth=0.6)
        ax.set_axisbelow(True)
    return axes


def _date_axis(ax: Any, times: pd.Series) -> None:
    locator = mdates.AutoDateLocator(minticks=4, maxticks=9, tz="UTC")
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(mdates.ConciseDateFormatter(locator, tz="UTC", show_offset=False))
    ax.set_xlim(times.iloc[0], times.iloc[-1])
    first, last = (f"{when.day} {when:%B %Y}" for when in (times.iloc[0], times.iloc[-1] - pd.Timedelta("1s")))
    ax.set_xlabel(f"time (UTC), {first}" if first == last else f"time (UTC), {first} to {last}")


def _title(ax: Any, text: str, result: Result) -> None:
    ax.set_title(text, loc="left", fontsize=11, fontweight="bold")
    ax.set_title(
        f"{result.summary['scenario']}, seed {result.summary['seed']}", loc="right", fontsize=8, color="#777777"
    )


def price_and_depth(result: Result, instrument: str) -> Figure:
    """The price, and below it the depth on each side of the book."""
    bars = result.bars[result.bars["instrument"] == instrument]
    bps = result.scenario["recording"]["depth_bps"]
    times = bars["time"] + pd.Timedelta(seconds=result.scenario["recording"]["interval"])
    with mpl.rc_context(sns.axes_style("white")):
        fig = Figure(figsize=(9, 5.6), layout="constrained")
        top, low = _axes(fig, nrows=2, sharex=True, height_ratios=[2.2, 1])
    change = result.summary["instruments"][instrument]["return"]
    opening = result.summary["instruments"][instrument]["open"]
    top.plot([bars["time"].iloc[0], *times], [opening, *bars["mid"]], color=_INK, linewidth=1.0)
    top.set_ylabel("mid price (USD)")
    top.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    _title(top, f"{instrument}: {change:+.1%} from {opening:,.0f} USD", result)
    # Depth has no sign of its own: offers are drawn upwards and bids downwards.
    low.fill_between(times, bars["ask_depth"] / 1e6, color=_ASK, linewidth=0, label="offers")
    low.fill_between(times, -bars["bid_depth"] / 1e6, color=_BID, linewidth=0, label="bids")
    low.axhline(0, color=_INK, linewidth=0.6)
    low.yaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
    low.set_ylabel(f"shown within {bps:g} bp\n(million USD)")
    low.legend(frameon=False, ncols=2, loc="lower right", bbox_to_anchor=(1.0, 0.97), fontsize=8)
    _date_axis(low, pd.Series([bars["time"].iloc[0], times.iloc[-1]]))
    return fig


def volume_by_reason(result: Result, instrument: str) -> Figure:
    """Volume over time, stacked by the reason of those who took liquidity (up) and of those who gave it (down)."""
    flows = result.flows[result.flows["instrument"] == instrument]
    times = result.bars["time"]
    span = times.iloc[-1] - times.iloc[0]
    rule, unit = (
        ("1h", "an hour")
        if span > pd.Timedelta("12h")
        else ("10min", "10 min")
        if span > pd.Timedelta("1h")
        else ("1min", "a minute")
    )
    width = pd.Timedelta(rule)
    edges = pd.date_range(times.iloc[0].floor(rule), times.iloc[-1].floor(rule), freq=rule)
    borders = edges.append(pd.DatetimeIndex([edges[-1] + width]))
    with mpl.rc_context(sns.axes_style("white")):
        fig = Figure(figsize=(9, 5.2), layout="constrained")
        ax = _axes(fig)
    order = {reason: rank for rank, reason in enumerate(REASONS)}
    handles: dict[str, Any] = {}
    for role, sign in (("taker", 1.0), ("maker", -1.0)):
        mine = flows[flows["role"] == role]
        table = (
            mine.groupby([mine["time"].dt.floor(rule), "reason"], observed=True)["volume"].sum().unstack(fill_value=0.0)
        )
        table = table.reindex(edges, fill_value=0.0)
        base = np.zeros(len(edges))
        for reason in sorted(table.columns, key=lambda name: order.get(name, len(order))):
            label, colour, hatch = REASONS[reason]
            top = base + table[reason].to_numpy()
            # One patch and not one a bar: a run of all markets has tens of thousands of bars
            drawn = ax.stairs(
                sign * top,
                borders,
                baseline=sign * base,
                fill=True,
                facecolor=colour,
                hatch=hatch,
                linewidth=0,
                edgecolor="white",
            )
            base = top
            handles.setdefault(label, drawn)
    ax.axhline(0, color=_INK, linewidth=0.8)
    ax.set_ylabel(f"volume (BTC {unit})" if instrument.startswith("btc") else f"volume (coins or shares {unit})")
    ax.yaxis.set_major_formatter(lambda value, _: f"{abs(value):,.0f}")
    ax.text(0.005, 0.985, "taken by", transform=ax.transAxes, va="top", fontsize=9, color="#555555")
    ax.text(0.005, 0.015, "given by", transform=ax.transAxes, va="bottom", fontsize=9, color="#555555")
    ax.legend(handles.values(), handles.keys(), frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
    _title(ax, f"{instrument}: who took liquidity, and who gave it", result)
    _date_axis(ax, pd.Series([edges[0], edges[-1] + width]))
    return fig


def moves_by_hour(result: Result, found: Attribution) -> Figure:
    """Whose orders moved the mid in each hour, up and down, and the way of the mid as their sum."""
    table = found.by("time", "reason").pivot(index="time", columns="reason", values="change").fillna(0.0)
    width = pd.Timedelta("1h")
    with mpl.rc_context(sns.axes_style("white")):
        fig = Figure(figsize=(9, 5.2), layout="constrained")
        ax = _axes(fig)
    up, down = np.zeros(len(table)), np.zeros(len(table))
    for reason in sorted(table.columns, key=list(REASONS).index):
        label, colour, hatch = REASONS[reason]
        height = table[reason].to_numpy()
        base = np.where(height > 0, up, down)
        ax.bar(
            table.index + width / 2,
            height,
            width=width,
            bottom=base,
            color=colour,
            hatch=hatch,
            linewidth=0,
            edgecolor="white",
            label=label,
        )
        up, down = up + np.maximum(height, 0.0), down + np.minimum(height, 0.0)
    edges = [found.start, *(table.index[1:]), found.end]
    ax.plot(edges, [0.0, *table.sum(axis=1).cumsum()], ".-", color=_INK, linewidth=1.4, label="mid since the start")
    ax.axhline(0, color=_INK, linewidth=0.8)
    ax.set_ylabel("change of the mid (USD)")
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:+,.0f}")
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
    _title(ax, f"{found.instrument}: whose orders moved the mid, by hour", result)
    _date_axis(ax, pd.Series([found.start, found.end]))
    return fig


def prices_of_runs(mids: Mapping[int, "pd.Series[float]"], result: Result, instrument: str) -> Figure:
    """The mid of an instrument in runs that differ in their seed: each, the median, and where nine of ten lie.

    Args:
        mids: By seed, the mid by time.
        result: The run among them that is drawn as a line of its own.
        instrument: Its name.
    """
    table = pd.DataFrame(mids).sort_index().ffill()
    low, middle, high = (table.quantile(part, axis=1) for part in (INTERVAL[0], 0.5, INTERVAL[1]))
    with mpl.rc_context(sns.axes_style("white")):
        fig = Figure(figsize=(9, 4.2), layout="constrained")
        ax = _axes(fig)
    ax.fill_between(table.index, low, high, color=_BID, alpha=0.18, linewidth=0, label="nine of ten runs")
    ax.plot(table.index, table, color=_BID, linewidth=0.5, alpha=0.5)
    ax.plot(table.index, middle, color=_BID, linewidth=1.6, label="median")
    ax.plot(
        table.index, table[result.summary["seed"]], color=_INK, linewidth=1.0, label=f"seed {result.summary['seed']}"
    )
    ax.set_ylabel("mid price (USD)")
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    ax.legend(frameon=False, fontsize=8)
    ax.set_title(f"{instrument}: {len(mids)} runs", loc="left", fontsize=11, fontweight="bold")
    _date_axis(ax, pd.Series([table.index[0], table.index[-1]]))
    return fig


def draw(result: Result, folder: Path) -> list[Path]:
    """Draw the figures of a run into a folder, as PNG; their paths."""
    drawn = []
    for instrument in result.summary["instruments"]:
        for name, figure in (("price", price_and_depth), ("volume_by_reason", volume_by_reason)):
            path = folder / (f"{name}.png" if len(result.summary["instruments"]) == 1 else f"{name}-{instrument}.png")
            figure(result, instrument).savefig(path, dpi=150)
            drawn.append(path)
    return drawn

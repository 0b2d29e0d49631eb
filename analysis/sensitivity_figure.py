"""The figure of a sensitivity: indices with their intervals, and what noise alone makes of them."""

from typing import Any

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from analysis.sensitivity import Sensitivity

_PALETTE = sns.color_palette("colorblind", 10)
_FIRST, _TOTAL, _NOISE, _INK = _PALETTE[0], _PALETTE[1], "#777777", "#222222"
_ERROR = {"fmt": "none", "ecolor": _INK, "elinewidth": 1.2, "capsize": 2.5}


def sensitivity_figure(found: Sensitivity, title: str) -> Figure:
    """Sobol: bars of the first and the total indices, and a heat map of those of two keys. Morris: sigma over mu*. Slopes: bars.

    Args:
        found: What is drawn.
        title: Name of the sweep.
    """
    if found.kind == "morris":
        fig = _morris(found)
    elif found.kind == "saltelli":
        fig = _sobol(found)
    else:
        fig = _slopes(found)
    fig.suptitle(f"{title}: what {found.measure} depends on", x=0.01, ha="left", fontsize=11, fontweight="bold")
    return fig


def _sobol(found: Sensitivity) -> Figure:
    table = found.table.sort_values("total", ascending=False, ignore_index=True)
    k, pairs = len(table), found.pairs is not None and len(found.pairs) > 0
    with mpl.rc_context(sns.axes_style("white")):
        size = (7.0 + (0.6 + 0.75 * k) * pairs, 2.2 + 0.6 * k)
        fig = Figure(figsize=size, layout="constrained")
        axes = fig.subplots(ncols=1 + pairs, squeeze=False, width_ratios=[4.5, 0.4 + 0.75 * k][: 1 + pairs])[0]
    ax, places = axes[0], np.arange(k)
    _plain(ax)
    for side, name, label, colour in (
        (-0.2, "first", "first order: alone", _FIRST),
        (0.2, "total", "total: with all it works together with", _TOTAL),
    ):
        ax.barh(places + side, table[name], height=0.38, color=colour, label=label)
        ax.errorbar(table[name], places + side, xerr=table[f"{name}_error"], **_ERROR)
    if found.noise == found.noise:
        ax.axvline(found.noise, color=_NOISE, linestyle="--", linewidth=1.2, label="share of the noise of seeds")
    ax.axvline(0, color=_INK, linewidth=0.8)
    names = [f"{_folded(key)}  {place}" if pairs else _folded(key) for place, key in enumerate(table["key"], 1)]
    ax.set_yticks(places, names, fontsize=9)
    ax.set_ylim(k - 0.4, -0.6)
    ax.set_xlabel("share of the variance between points")
    fig.legend(*ax.get_legend_handles_labels(), loc="outside lower left", ncols=1, frameon=False, fontsize=9)
    if pairs:
        _pairs(axes[1], found.pairs, list(table["key"]))
    return fig


def _pairs(ax: Any, pairs: Any, keys: list[str]) -> None:
    """Indices of two keys, which stand there by their places, with half their intervals."""
    k = len(keys)
    values, texts = np.full((k, k), np.nan), np.full((k, k), "", dtype=object)
    for row in pairs.itertuples():
        i, j = sorted((keys.index(row.key), keys.index(row.other)), reverse=True)
        values[i, j], texts[i, j] = row.second, f"{row.second:.2f}\n±{row.second_error:.2f}"
    limit = float(max(np.nanmax(np.abs(values)), 0.05))
    sns.heatmap(
        values[1:, :-1],
        ax=ax,
        vmin=-limit,
        vmax=limit,
        cmap="vlag",
        annot=texts[1:, :-1],
        fmt="",
        annot_kws={"fontsize": 8},
        linewidths=0.5,
        cbar=False,
        xticklabels=range(1, k),
        yticklabels=range(2, k + 1),
    )
    ax.set_title("second order: two together", loc="right", fontsize=10)
    ax.tick_params(rotation=0)


def _folded(key: str) -> str:
    """A long dotted key on two lines."""
    dots = [place for place, letter in enumerate(key) if letter == "."]
    if len(key) <= 28 or not dots:
        return key
    middle = min(dots, key=lambda place: abs(place - len(key) / 2))
    return f"{key[: middle + 1]}\n{key[middle + 1 :]}"


def _morris(found: Sensitivity) -> Figure:
    table = found.table
    with mpl.rc_context(sns.axes_style("white")):
        fig = Figure(figsize=(7.0, 5.0), layout="constrained")
        ax = fig.subplots()
    _plain(ax)
    ax.grid(axis="y", color="#e5e5e5", linewidth=0.6)
    ax.errorbar(table["mu_star"], table["sigma"], xerr=table["mu_star_error"], **_ERROR)
    ax.plot(table["mu_star"], table["sigma"], "o", color=_FIRST, markersize=7)
    for row in table.itertuples():
        ax.annotate(
            _folded(row.key), (row.mu_star, row.sigma), (6, 6), textcoords="offset points", fontsize=9, color=_INK
        )
    ends = np.array([0.0, 1.35 * float((table["mu_star"] + table["mu_star_error"]).max())])
    top = 1.2 * float(max(table["sigma"].max(), 0.25 * ends[1]))
    ax.plot(ends, ends, color=_INK, linewidth=0.8, label="sigma = mu*: above it not one way, or not alone")
    if found.noise == found.noise:
        ax.axvline(found.noise, color=_NOISE, linestyle="--", linewidth=1.2, label="mu* of the noise of seeds alone")
    unit = _unit(found)
    ax.set_xlim(0.0, ends[1])
    ax.set_ylim(-0.02 * top, top)
    ax.set_xlabel(f"mu*: mean size of the effect of the whole range{unit}")
    ax.set_ylabel(f"sigma: how much it differs from place to place{unit}")
    fig.legend(*ax.get_legend_handles_labels(), loc="outside lower left", ncols=1, frameon=False, fontsize=9)
    return fig


def _slopes(found: Sensitivity) -> Figure:
    table = found.table.sort_values("slope", key=abs, ascending=False, ignore_index=True)
    with mpl.rc_context(sns.axes_style("white")):
        fig = Figure(figsize=(7.0, 1.4 + 0.45 * len(table)), layout="constrained")
        ax = fig.subplots()
    _plain(ax)
    ax.barh(table.index, table["slope"], height=0.6, color=_FIRST)
    ax.errorbar(table["slope"], table.index, xerr=table["slope_error"], **_ERROR)
    ax.axvline(0, color=_INK, linewidth=0.8)
    ax.set_yticks(table.index, [_folded(key) for key in table["key"]], fontsize=9)
    ax.set_ylim(len(table) - 0.4, -0.6)
    ax.set_xlabel(f"slope: change from the low to the high end of the range{_unit(found)}")
    return fig


def _unit(found: Sensitivity) -> str:
    return {"": "", "1": " (fraction)"}.get(found.unit, f" ({found.unit})")


def _plain(ax: Any) -> None:
    sns.despine(ax=ax)
    ax.grid(axis="x", color="#e5e5e5", linewidth=0.6)
    ax.set_axisbelow(True)

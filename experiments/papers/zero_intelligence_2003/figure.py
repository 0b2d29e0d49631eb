"""The figure: spread and diffusion by epsilon."""

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from experiments.papers import Estimate, Measured
from experiments.papers.zero_intelligence_2003.model import Config, mean_field


def draw(config: Config, measured: Measured) -> Figure:
    """Draw the spread beside the mean-field formula, and diffusion at both lags."""
    colours = sns.color_palette("colorblind")
    with mpl.rc_context(sns.axes_style("white")):
        fig = Figure(figsize=(10, 4.6), layout="constrained")
        left, right = fig.subplots(1, 2)
    for colour, tick in zip(colours, config.ticks, strict=False):
        found = [measured.drawn[tick, epsilon].spread for epsilon in config.epsilons]
        _dots(left, config, found, colour, f"measured, tick {tick:g} $p_c$")
    fine = np.geomspace(config.epsilons[0], config.epsilons[-1], 100)
    left.plot(fine, [mean_field(e) for e in fine], color="0.5", linewidth=1.2, label="mean-field formula")
    left.set(ylim=(0, None), ylabel=r"mean spread, in $\mu / \alpha$")
    last = [measured.drawn[config.ticks[-1], epsilon] for epsilon in config.epsilons]
    _dots(right, config, [each.early for each in last], colours[2], f"lag {config.early:g}")
    _dots(right, config, [each.late for each in last], colours[3], rf"lag {config.late:g} / $\delta$")
    right.set(yscale="log", ylabel=r"diffusion of the mid, in $p_c^2\,\delta$")
    right.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    right.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    right.yaxis.set_minor_formatter(NullFormatter())
    for ax in (left, right):
        ax.set(xscale="log", xlabel=r"granularity $\epsilon = 2 \delta \sigma / \mu$", xticks=config.epsilons)
        ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.legend(frameon=False)
        sns.despine(ax=ax)
    fig.suptitle(
        "Orders without intelligence: the spread, and a mid that bounces back",
        x=0.01,
        ha="left",
        fontsize=11,
        fontweight="bold",
    )
    return fig


def _dots(ax: Axes, config: Config, found: list[Estimate], colour: tuple[float, ...], label: str) -> None:
    values, errors = [each.value for each in found], [2 * each.error for each in found]
    ax.errorbar(config.epsilons, values, errors, fmt="o--", linewidth=0.8, markersize=5, color=colour, label=label)

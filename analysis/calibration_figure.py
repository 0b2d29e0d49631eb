"""The figure of a calibration: the loss of each trial over each parameter, and what curvature says of it."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from analysis.calibration import Parameter, Precision

_PALETTE = sns.color_palette("colorblind", 10)
_COLUMNS = 3


def profiles_figure(
    title: str,
    parameters: Sequence[Parameter],
    trials: Sequence[tuple[Mapping[str, float], float]],
    best: tuple[Mapping[str, float], float],
    precisions: Sequence[Precision],
    profiles: Mapping[str, Sequence[tuple[float, float]]],
) -> Figure:
    """One panel for each parameter.

    Args:
        title: Above all panels.
        parameters: What was varied.
        trials: Values and loss of each trial that did not fail.
        best: Those of the best.
        precisions: By parameter its standard error around the best; empty where it was not asked for.
        profiles: By parameter the losses next to the best, the others held.
    """
    rows = -(-len(parameters) // _COLUMNS)
    columns = min(len(parameters), _COLUMNS)
    with mpl.rc_context(sns.axes_style("ticks")):
        fig = Figure(figsize=(3.6 * columns + 0.6, 2.7 * rows + 1.1), layout="constrained")
        axes = fig.subplots(rows, columns, squeeze=False, sharey=True)
        for ax in axes.flat[len(parameters) :]:
            ax.set_visible(False)
        for position, (ax, parameter) in enumerate(zip(axes.flat, parameters, strict=False)):
            name = parameter.name
            if precisions:
                share, error = parameter.share(best[0][name]), precisions[position].error
                ends = [parameter.value(min(max(share + side * error, 0.0), 1.0)) for side in (-1, 1)]
                ax.axvspan(*ends, color="#e8e8e8", linewidth=0, label="one standard error")
            ax.plot(
                [values[name] for values, _ in trials],
                [loss for _, loss in trials],
                "o",
                color=_PALETTE[0],
                markersize=3.5,
                alpha=0.7,
                label="trial",
            )
            if name in profiles:
                ax.plot(*np.array(profiles[name]).T, "-", color=_PALETTE[1], linewidth=1.8, label="the others held")
            ax.plot(best[0][name], best[1], "D", color=_PALETTE[3], markersize=6, label="best")
            if parameter.log:
                ax.set_xscale("log")
                ax.minorticks_off()
                ax.set_xticks(
                    ticks := [parameter.value(share) for share in (0.0, 0.5, 1.0)], [f"{x:.3g}" for x in ticks]
                )
            ax.set_xlim(parameter.low, parameter.high)
            ax.set_yscale("log")
            ax.yaxis.set_major_formatter(LogFormatter())
            ax.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1.5, 0.5)))
            ax.set_xlabel(name if len(name) < 40 else "…" + name[-38:], fontsize=9)
            if position % columns == 0:
                ax.set_ylabel("loss (squared half widths)")
            sns.despine(ax=ax)
        handles, labels = axes[0, 0].get_legend_handles_labels()
        fig.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
        fig.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return fig

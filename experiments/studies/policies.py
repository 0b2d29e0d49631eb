"""Which policy would have softened February 2026: what docs/experiments/policies.md says and draws.

    python -m experiments.studies.policies runs/sweeps/policies docs/images/policies.png

prints what the text has as a table and draws the figure.
"""

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from analysis.sweep import Sweep
from experiments.studies import command, headed

POLICY, NONE = "policy", "as it was"
_SHOWN = {
    "drawdown": "deepest fall, points less (+) or more (-)",
    "liquidated_usd": "liquidated, million USD less (+) or more (-)",
}


def differences(found: Sweep) -> pd.DataFrame:
    """What each policy changed: one row a run of a policy, each measure less that of the run of its seed without one.

    Raises:
        KeyError: The sweep has no runs without a policy.
    """
    runs = found.table[found.table["error"] == ""].set_index([POLICY, "seed"])
    measures = [name for name in found.manifest["spec"]["measures"] if name in runs.columns]
    before = runs.loc[NONE, measures]
    rows = runs.drop(index=NONE, level=POLICY)[measures]
    return rows - before.reindex(rows.index.get_level_values("seed")).set_axis(rows.index)


def table(found: Sweep) -> pd.DataFrame:
    """By policy, in the order of the sweep: medians of the runs, and the median, least and greatest change of the fall."""
    runs = found.table[found.table["error"] == ""]
    measures = [name for name in found.manifest["spec"]["measures"] if name in runs.columns]
    changed = differences(found)["drawdown"].groupby(level=POLICY)
    rows = runs.groupby(POLICY, sort=False)[measures].median()
    rows.insert(0, "runs", runs.groupby(POLICY).size())
    for name, of in {"change": changed.median(), "least": changed.min(), "greatest": changed.max()}.items():
        rows[name] = of
    return rows


def draw(found: Sweep) -> Figure:
    """What each policy changed at each seed: the fall, and what was liquidated. Right is milder."""
    changed = differences(found).reset_index()
    changed["drawdown"] *= 100.0
    changed["liquidated_usd"] /= -1e6
    order = [name for name in found.table[POLICY].unique() if name != NONE]
    with mpl.rc_context(sns.axes_style("whitegrid")):
        fig = Figure(figsize=(11, 4.2), layout="constrained")
        axes = fig.subplots(ncols=2, sharey=True)
    for ax, (measure, label) in zip(axes, _SHOWN.items(), strict=True):
        sns.stripplot(changed, x=measure, y=POLICY, order=order, ax=ax, color="#0173b2", alpha=0.7, size=6, jitter=0.15)
        medians = changed.groupby(POLICY)[measure].median().reindex(order)
        ax.scatter(medians, range(len(order)), marker="|", s=500, color="#222222", zorder=3)
        ax.axvline(0.0, color="#222222", linewidth=1.0)
        ax.set(xlabel=label, ylabel="")
        sns.despine(ax=ax, left=True)
    headed(fig, "What each policy changed at the same seeds; a dot is a run, the bar their median")
    return fig


def _told(sweep: Sweep) -> tuple[Figure, str]:
    """The figure; the table as text."""
    return draw(sweep), table(sweep).to_string(float_format="{:.4g}".format)


if __name__ == "__main__":
    command(_told)

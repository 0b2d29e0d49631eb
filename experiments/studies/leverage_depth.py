"""Where a sale becomes a cascade: what docs/experiments/leverage-depth.md measures, expects and draws.

    python -m experiments.studies.leverage_depth runs/sweeps/leverage-depth docs/images/leverage-depth.png

prints what the text has as a table and draws the figure.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import abm
from analysis.compare import INTERVAL
from analysis.phase import Phase, phase
from analysis.sweep import Sweep
from experiments.studies import command, finished, headed

Floats = npt.NDArray[np.float64]

PERP, FALL = "btc-perp", "drawdown"
LEVERAGE, DEPTH = "leverage", "depth"
SCALE = "traders.retail_leverage.leverage.scale"
_SHOWN = (0.25, 0.63, 1.0, 2.5)  # depths of the panel on the right
_ROUNDS = 1000
_HALVINGS = 8


def forced(result: abm.Result) -> dict[str, float]:
    """Currency that the sale and liquidations traded at once in the books, and that the insurance fund took over instead."""
    takers = result.flows[result.flows["role"] == "taker"].groupby("reason")["notional"].sum()
    rows = result.liquidations[result.liquidations["what"] == "taken_over"]
    return {
        "sale_usd": float(takers.get("execution", 0.0)),
        "forced_usd": float(takers.get("liquidation", 0.0)),
        "taken_over_usd": float((rows["quantity"] * rows["price"]).sum()),
    }


# --------------------------------------------------------------------------------------------------------- what is expected


@dataclass(frozen=True)
class AtRisk:
    """Long positions by the fall that liquidates them."""

    falls: Floats
    """Fractions of the price at the start, rising."""
    usd: Floats
    """Currency liquidated at each of these falls and all before, at the prices at which it is."""

    def within(self, fall: float) -> float:
        """N(x): currency that is liquidated where the price has fallen by x."""
        count = int(np.searchsorted(self.falls, fall, side="right"))
        return float(self.usd[count - 1]) if count else 0.0


def at_risk(scenario: abm.Scenario) -> AtRisk:
    """What a run begins with; nothing is played."""
    market = abm.Market(scenario)
    index = market.exchange.index(PERP)
    lots, book = market.position[:, index], market.exchange.instruments[index]
    prices = market.house.liquidation_prices(PERP)[: len(lots)]
    who = np.flatnonzero((lots > 0) & ~np.isnan(prices))
    who = who[np.argsort(-prices[who], kind="stable")]
    assert book.reference_price is not None
    return AtRisk(1.0 - prices[who] / book.reference_price, np.cumsum(lots[who] * book.lot * prices[who]))


@dataclass(frozen=True)
class Impact:
    """The fall that a sale alone makes: x = a (Q / depth)^b."""

    a: float
    b: float

    @classmethod
    def fitted(cls, falls: Mapping[float, float], sale: float) -> "Impact":
        """By least squares of logarithms.

        Args:
            falls: By factor on the depth, where nobody has borrowed.
            sale: Q, currency.
        """
        depths = np.array(list(falls))
        b, log_a = np.polyfit(np.log(sale / depths), np.log(list(falls.values())), 1)
        return cls(float(np.exp(log_a)), float(b))

    def fall(self, sold: float, depth: float) -> float:
        """Fraction x of the price, where currency `sold` comes into books of a factor `depth`."""
        return float(self.a * (sold / depth) ** self.b)


def expected_fall(impact: Impact, risk: AtRisk, sale: float, depth: float) -> float:
    """The smallest fall x that carries itself: x = impact of the sale Q and of all that is liquidated within x, Q + N(x).

    Where N grows as n x and impact is I for each unit it is I Q / (1 - k), k = I n: each unit sold has k others sold, these k^2, and so on, which
    is the mean total of a branching process, critical at k = 1 (Borel 1942; Tanner 1961; experiments/papers/liquidation_cascade_2026).
    """
    fall = impact.fall(sale, depth)
    for _ in range(_ROUNDS):
        deeper = impact.fall(sale + risk.within(fall), depth)
        if deeper <= fall:
            break
        fall = deeper
    return min(fall, 1.0)


def expected_border(scenario: str, impact: Impact, sale: float, depth: float, low: float, high: float) -> float:
    """The factor on leverage from which on more is expected to be liquidated than sold, by bisection; not a number where it is not in between."""

    def cascades(leverage: float) -> bool:
        risk = at_risk(abm.load(scenario, **{SCALE: leverage}))
        return risk.within(expected_fall(impact, risk, sale, depth)) > sale

    if cascades(low) or not cascades(high):
        return float("nan")
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if cascades(middle) else (middle, high)
    return 0.5 * (low + high)


@dataclass(frozen=True)
class Study:
    """What was found, and what was expected."""

    runs: pd.DataFrame
    """One row a run, with `amplified`: its fall, in falls of the run of the same depth and seed in which nobody has borrowed."""
    line: Phase
    """Share of runs in which more was liquidated than sold."""
    expected: pd.DataFrame
    """One row for each point: leverage, depth, fall, amplified, liquidated (currency)."""
    borders: pd.Series
    """By depth, the leverage from which on more is expected to be liquidated than sold."""
    impact: Impact
    sale: float
    """Currency, median of all runs."""


def study(found: Sweep) -> Study:
    """Hold a sweep of `configs/sweeps/leverage-depth.yaml` against what is expected of how its runs began."""
    runs = found.table[found.table["error"] == ""].copy()
    sale, scenario = float(runs["sale_usd"].median()), found.manifest["spec"]["scenario"]
    levels, depths = (np.unique(runs[key].to_numpy(float)) for key in (LEVERAGE, DEPTH))
    alone = runs[runs[LEVERAGE] == levels[0]].set_index([DEPTH, "replication"])[FALL]
    runs["amplified"] = runs[FALL] / alone.reindex(pd.MultiIndex.from_frame(runs[[DEPTH, "replication"]])).to_numpy()
    impact = Impact.fitted(dict(-alone.groupby(level=0).median()), sale)
    rows = []
    for leverage in levels:
        risk = at_risk(abm.load(scenario, **{SCALE: float(leverage)}))
        for depth in depths:
            fall = expected_fall(impact, risk, sale, depth)
            rows.append((leverage, depth, fall, fall / impact.fall(sale, depth), risk.within(fall)))
    expected = pd.DataFrame(rows, columns=[LEVERAGE, DEPTH, "fall", "amplified", "liquidated"])
    borders = [expected_border(scenario, impact, sale, depth, float(levels[0]), float(levels[-1])) for depth in depths]
    line = phase(found, DEPTH, LEVERAGE, "liquidated_usd", sale)
    return Study(runs, line, expected, pd.Series(borders, depths), impact, sale)


# ---------------------------------------------------------------------------------------------------------------- the figure


def draw(found: Study) -> Figure:
    """How much deeper the fall is than that of the sale alone: over both keys, and by leverage with what is expected."""
    with mpl.rc_context(sns.axes_style("white")):
        fig = Figure(figsize=(11, 4.6), layout="constrained")
        left, right = fig.subplots(ncols=2, width_ratios=[1, 1.05])
    grid = found.runs.pivot_table("amplified", LEVERAGE, DEPTH, aggfunc="median")
    sns.heatmap(
        grid, ax=left, annot=True, fmt=".1f", cmap="flare", linewidths=0.4, cbar=False, annot_kws={"fontsize": 9}
    )
    left.invert_yaxis()
    left.set(xlabel="factor on the depth of the books", ylabel="factor on leverage")
    left.set_title("fall, in falls of the sale alone (median)", loc="left", fontsize=10)
    _border(left, grid, found)
    _by_leverage(right, found)
    headed(fig, "How much deeper a sale goes where accounts have borrowed, and where books are thin")
    return fig


def _border(ax: Axes, grid: pd.DataFrame, found: Study) -> None:
    """Leverage at which half the runs liquidate more than was sold, and that at which it is expected."""
    levels, places = grid.index.to_numpy(float), np.arange(len(grid.index)) + 0.5
    seen = found.line.line
    assert seen is not None
    across = np.arange(len(seen)) + 0.5
    lines = {
        "half of the runs": (seen["critical"].to_numpy(float), "-o"),
        "expected": (found.borders.to_numpy(float), "--s"),
    }
    for label, (values, style) in lines.items():
        heights = np.where(np.isfinite(values), np.interp(values, levels, places), np.nan)
        ax.plot(
            across, heights, style, color="#222222", markersize=5, markerfacecolor="none", linewidth=1.6, label=label
        )
    title = "more is liquidated than sold:"
    ax.legend(
        title=title,
        ncols=2,
        frameon=False,
        fontsize=8,
        title_fontsize=8,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.14),
    )


def _by_leverage(ax: Axes, found: Study) -> None:
    low, high = INTERVAL
    for depth, colour in zip(_SHOWN, sns.color_palette("colorblind", len(_SHOWN)), strict=True):
        runs = found.runs[found.runs[DEPTH] == depth].groupby(LEVERAGE)["amplified"]
        middle = runs.median()
        ends = np.abs(np.vstack([runs.quantile(low), runs.quantile(high)]) - middle.to_numpy())
        ax.errorbar(middle.index, middle, ends, fmt="o-", color=colour, markersize=4, capsize=2, label=f"{depth:g}")
        wanted = found.expected[found.expected[DEPTH] == depth]
        ax.plot(wanted[LEVERAGE], wanted["amplified"], "--", color=colour, linewidth=1.2)
    ax.set(xlabel="factor on leverage", ylim=(0, 1.15 * float(found.runs["amplified"].max())))
    ax.set_title("the same by leverage, 90 % of runs; dashed: expected", loc="left", fontsize=10)
    finished(ax, "depth")


def table(found: Study) -> pd.DataFrame:
    """One row for each point: medians of the runs, the interval of the amplification, and what is expected."""
    by = found.runs.groupby([LEVERAGE, DEPTH])
    low, high = INTERVAL
    rows = pd.DataFrame(
        {
            "runs": by.size(),
            "fall": -by[FALL].median(),
            "amplified": by["amplified"].median(),
            "low": by["amplified"].quantile(low),
            "high": by["amplified"].quantile(high),
            "liquidated": by["liquidated_usd"].median(),
            "accounts": by["liquidated_accounts"].median(),
            "in books": by["forced_usd"].median(),
            "taken over": by["taken_over_usd"].median(),
        }
    ).reset_index()
    return rows.merge(found.expected[[LEVERAGE, DEPTH, "amplified"]], on=[LEVERAGE, DEPTH], suffixes=("", " expected"))


def _told(sweep: Sweep) -> tuple[Figure, str]:
    """The figure; the table as text."""
    found = study(sweep)
    about = f"sale {found.sale:.4g} USD; alone it falls {found.impact.a:.3g} x^{found.impact.b:.3f}"
    return draw(found), f"{about}\n{table(found).to_string(index=False, float_format='{:.4g}'.format)}"


if __name__ == "__main__":
    command(_told)

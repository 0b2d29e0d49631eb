"""Diversification and crowding: what docs/experiments/diversification.md measures, expects and draws.

    python -m experiments.studies.diversification runs/sweeps/diversification docs/images/diversification.png

prints what the text has as a table and draws the figure.
"""

from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import abm
from abm.agents.execution import DAY, Participation
from abm.agents.execution_agent import ExecutionAgentConfig
from abm.agents.market_makers import MarketMakers
from abm.agents.multi_asset import MultiAssetConfig, MultiAssetFunds
from abm.agents.noise import NoiseConfig
from abm.agents.view import BPS
from analysis.sweep import Sweep
from experiments.studies import command, finished, headed

Floats = npt.NDArray[np.float64]

HOLDS, CROWDING = "holds", "crowding"
DEEP = 0.05
_DRAW = "traders.funds.draw"
_SEEDS = 2  # of each point, by which holdings are expected


def contagion(result: abm.Result) -> dict[str, float]:
    """How far and how fast the sale of one share has come to others (`reach`, by closes of bars), and what it did to funds.

    Beside these: the average fall of all shares where it was deepest, the highest that any rose, what funds sold to deleverage (currency), the
    part of their equity that they lost, and how many had none left.
    """
    names = list(result.scenario["instruments"])
    start = np.array([result.scenario["instruments"][name]["reference_price"] for name in names])
    closes = result.bars.pivot(index="time", columns="instrument", values="close")[names].ffill()
    falls = 1.0 - closes.to_numpy() / start
    since = closes.index - pd.Timestamp(result.scenario["clock"]["start"])
    takers = result.flows[result.flows["role"] == "taker"].groupby("reason")["notional"].sum()
    funds = result.nodes[result.nodes["trader"] == "multi_asset_funds"]
    equity = funds.pivot(index="node", columns="time", values="equity")
    return {
        **reach(falls, since.total_seconds().to_numpy() / 60.0),
        "average_fall": float(falls.mean(axis=1).max()),
        "highest": float(-falls.min()),
        "deleveraged_usd": float(takers.get("deleveraging", 0.0)),
        "equity_lost": float(1.0 - equity.iloc[:, -1].sum() / equity.iloc[:, 0].sum()),
        "ruined": float((equity.iloc[:, -1] <= 0.0).sum()),
    }


def reach(falls: Floats, minutes: Floats) -> dict[str, float]:
    """How far a fall has come.

    Args:
        falls: Fractions of the price at the start (times, shares); the share that is sold stands first.
        minutes: Times since the start.

    Returns:
        `sold_fall`, the deepest of the share that is sold; `others`, how many beside it fell by more than `DEEP`; and `half_minutes` until half of
        these had done so, not a number where none did.
    """
    deep = falls[:, 1:] > DEEP
    first = minutes[deep[:, deep.any(axis=0)].argmax(axis=0)]
    half = float(np.median(first)) if len(first) else float("nan")
    return {"sold_fall": float(falls[:, 0].max()), "others": float(len(first)), "half_minutes": half}


# --------------------------------------------------------------------------------------------------------- what is expected


@dataclass(frozen=True)
class Funds:
    """What funds have at the start, and how much they move prices."""

    weights: Floats
    """(funds, shares), of sum 1 for each fund."""
    leverage: Floats
    equity: Floats
    """Currency."""
    impact: float
    """I: change of a logarithm of a price for a unit of currency that takers trade."""

    @classmethod
    def of(cls, market: abm.Market) -> "Funds":
        """Those of a market; nothing is played."""
        funds = next(p for p in market.populations if isinstance(p, MultiAssetFunds))
        makers = next(p for p in market.populations if isinstance(p, MarketMakers))
        shift = next(iter(makers.config.books.values())).impact_bps * BPS
        return cls(funds.weights, funds.leverage, funds.capital, shift / 1e6)

    def traded(self, held: Floats, equity: Floats) -> Floats:
        """Currency that funds trade to have `leverage` times their equity in their shares, sales negative (funds, shares)."""
        return (self.leverage * np.maximum(equity, 0.0))[:, None] * self.weights - held

    @property
    def radius(self) -> float:
        """The largest eigenvalue of A, where a small fall x of prices makes funds sell as much as makes a fall A x.

        A = I (W' diag(L^2 E) W - diag(W' (L E))): a fall of share j costs a fund L w_j of its equity, so that it sells L w_i times that of each share
        i, less what its holding of j has lost anyway (Adrian and Shin 2010, by share). Beyond 1 each round is larger than the one before: the border
        between a fall that ends and one that does not, as in Caccioli, Shrestha, Moore and Farmer (2014).
        """
        exposure = self.leverage * self.equity
        together = self.weights.T @ ((self.leverage * exposure)[:, None] * self.weights)
        return float(np.linalg.eigvalsh(self.impact * (together - np.diag(self.weights.T @ exposure))).max())

    def played(self, sales: Floats) -> Floats:
        """Prices, as fractions of those at the start, after each round: funds answer the prices before it, and takers move them by I and no more.

        Args:
            sales: Of the first share in each round, currency at the price of the start.

        Returns:
            Shape (rounds, shares).
        """
        prices = np.ones(self.weights.shape[1])
        equity, held = self.equity.copy(), (self.leverage * self.equity)[:, None] * self.weights
        path = []
        for sold in sales:
            trades = self.traded(held, equity)
            total = trades.sum(axis=0)
            total[0] -= sold * prices[0]
            moves = np.exp(self.impact * total)
            equity = equity + (held * (moves - 1.0)).sum(axis=1)
            held, prices = held * moves + trades, prices * moves
            path.append(prices)
        return np.array(path)


def sales(scenario: abm.Scenario) -> Floats:
    """Currency that the sale brings in each round of funds, at the price of the start, where nobody but noise trades beside it."""
    sale, noise = scenario.traders["sale"], scenario.traders["noise_01"]
    funds = scenario.traders["funds"]
    assert (
        isinstance(sale, ExecutionAgentConfig)
        and isinstance(noise, NoiseConfig)
        and isinstance(funds, MultiAssetConfig)
    )
    assert isinstance(sale.style, Participation)
    price = scenario.instruments[sale.instrument].reference_price
    assert price is not None
    each = sale.style.rate / (1.0 - sale.style.rate) * noise.volume_per_day * funds.every / DAY
    rounds = int(scenario.clock.steps * scenario.clock.step / funds.every)
    return price * np.clip(sale.quantity - each * np.arange(rounds), 0.0, each)


def expected(scenario: abm.Scenario) -> dict[str, float]:
    """The radius of how a run begins, and what its rounds come to (`reach`)."""
    funds, sold = Funds.of(abm.Market(scenario)), sales(scenario)
    minutes = np.arange(1, len(sold) + 1) * scenario.clock.steps * scenario.clock.step / len(sold) / 60.0
    return {"radius": funds.radius, **reach(1.0 - funds.played(sold), minutes)}


@dataclass(frozen=True)
class Study:
    """What was found, and what was expected."""

    runs: pd.DataFrame
    """One row a run."""
    expected: pd.DataFrame
    """One row for each point: crowding, holds, and medians of `expected` over some of its seeds."""


def study(found: Sweep) -> Study:
    """Hold a sweep of `configs/sweeps/diversification.yaml` against what is expected of how its runs began."""
    runs = found.table[found.table["error"] == ""].copy()
    scenario, rows = found.manifest["spec"]["scenario"], []
    for (crowding, holds), mine in runs.groupby([CROWDING, HOLDS]):
        for seed in mine["seed"].iloc[:_SEEDS]:
            point = {"seed": int(seed), f"{_DRAW}.assets": int(holds), f"{_DRAW}.crowding": float(crowding)}
            rows.append({CROWDING: crowding, HOLDS: holds, **expected(abm.load(scenario, **point))})
    return Study(runs, pd.DataFrame(rows).groupby([CROWDING, HOLDS]).median().reset_index())


# ---------------------------------------------------------------------------------------------------------------- the figure


def draw(found: Study) -> Figure:
    """How many shares the fall came to over both keys, and how fast by diversification."""
    with mpl.rc_context(sns.axes_style("white")):
        fig = Figure(figsize=(11, 4.4), layout="constrained")
        left, right = fig.subplots(ncols=2, width_ratios=[1, 1.1])
    _how_far(left, found)
    _how_fast(right, found)
    headed(fig, "What a sale of one share does to others, by how many shares funds hold and how alike")
    return fig


def _how_far(ax: Axes, found: Study) -> None:
    seen = found.runs.pivot_table("others", CROWDING, HOLDS, aggfunc="mean")
    wanted = found.expected.pivot_table("radius", CROWDING, HOLDS)
    labels = np.array(
        [
            [f"{a:.1f}\n({b:.1f})" for a, b in zip(*row, strict=True)]
            for row in zip(seen.values, wanted.values, strict=True)
        ]
    )
    sns.heatmap(seen, ax=ax, annot=labels, fmt="", cmap="flare", linewidths=0.4, cbar=False, annot_kws={"fontsize": 9})
    ax.invert_yaxis()
    ax.set(xlabel="shares that each fund holds", ylabel="crowding: part of them from the common list")
    ax.set_title("other shares that fell by more than 5 %, mean (radius expected)", loc="left", fontsize=10)


def _how_fast(ax: Axes, found: Study) -> None:
    crowded = [c for c, mine in found.runs.groupby(CROWDING) if mine["half_minutes"].notna().any()]
    for crowding, colour in zip(crowded, sns.color_palette("colorblind", len(crowded)), strict=True):
        runs = found.runs[found.runs[CROWDING] == crowding].groupby(HOLDS)["half_minutes"]
        middle = runs.median().dropna()
        ends = np.abs(np.vstack([runs.min()[middle.index], runs.max()[middle.index]]) - middle.to_numpy())
        ax.errorbar(middle.index, middle, ends, fmt="o-", color=colour, markersize=4, capsize=2, label=f"{crowding:g}")
        wanted = found.expected[found.expected[CROWDING] == crowding]
        ax.plot(wanted[HOLDS], wanted["half_minutes"], "s--", color=colour, linewidth=1.2, markersize=4, mfc="none")
    ax.set(xlabel="shares that each fund holds", ylabel="minutes from the start", ylim=(0, None))
    ax.set_title("until half of these had, median and range; dashed: expected", loc="left", fontsize=10)
    finished(ax, "crowding")


def table(found: Study) -> pd.DataFrame:
    """One row for each point: what runs came to, and what was expected of it."""
    by = found.runs.groupby([CROWDING, HOLDS])
    rows = pd.DataFrame(
        {
            "runs": by.size(),
            "sold_fall": by["sold_fall"].median(),
            "others": by["others"].mean(),
            "half_minutes": by["half_minutes"].median(),
            "average_fall": by["average_fall"].median(),
            "deleveraged_usd": by["deleveraged_usd"].median(),
            "equity_lost": by["equity_lost"].median(),
            "ruined": by["ruined"].max(),
            "highest": by["highest"].max(),
        }
    ).reset_index()
    return rows.merge(found.expected, on=[CROWDING, HOLDS], suffixes=("", " expected"))


def _told(sweep: Sweep) -> tuple[Figure, str]:
    """The figure; the table as text."""
    found = study(sweep)
    return draw(found), table(found).to_string(index=False, float_format="{:.3g}".format)


if __name__ == "__main__":
    command(_told)

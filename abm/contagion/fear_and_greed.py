"""An index of fear and greed, computed from what a run made and from nothing else.

It has the parts and weights of the public index of that name (MECHANICS 10): volatility and drawdown 25, momentum and volume 25, social
media 15, surveys 15, dominance 10, search 10. A part is 100 Phi(z); z says how many standard deviations it is above its mean in the calm part of
the run. Social media and surveys are the moods of communities (channel `sentiment`), dominance is the first asset's part of what all coins are
worth, and search is how many trades there are, which counts as fear while prices fall. A part that a run does not have is left out, and the
others count the more.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.stats import norm

from abm.clock import seconds

_LEAST_MOOD = 0.1
"""Standard deviation that moods are taken to have in the calm at least: where nothing happens they hardly move."""

WEIGHTS: Mapping[str, float] = {
    "volatility": 25.0,
    "momentum": 25.0,
    "social": 15.0,
    "surveys": 15.0,
    "dominance": 10.0,
    "search": 10.0,
}


def fear_and_greed(
    bars: pd.DataFrame,
    nodes: pd.DataFrame,
    first: str = "btc-spot",
    supply: Mapping[str, float] | None = None,
    window: str = "6h",
    calm: str = "24h",
) -> pd.DataFrame:
    """The index after each bar.

    Args:
        bars: Of a `Result`.
        nodes: Of the same; moods are as old as the last export (`recording.network`).
        first: The instrument that the index is about.
        supply: Coins there are of each, by instrument, `first` among them; without it dominance is left out.
        window: Over which volatility, momentum and volume are taken.
        calm: The first part of the run, by whose mean and standard deviation each part is measured.

    Returns:
        Columns index and the parts, from 0 (fear) to 100 (greed), by time (the end of each bar, UTC).

    Raises:
        ValueError: There are no bars of an instrument, or fewer than ten in the calm.
    """
    wide = {
        column: bars.pivot(index="time", columns="instrument", values=column) for column in ("mid", "volume", "trades")
    }
    if supply and first not in supply:
        raise ValueError(f"supply: {first!r} is missing; its part of all is dominance")
    for name in (first, *(supply or {})):
        if name not in wide["mid"]:
            raise ValueError(f"no bars of {name!r}; there are {', '.join(map(str, wide['mid'].columns))}")
    mid = wide["mid"][first].astype(np.float64)
    bar = pd.Timedelta(mid.index[1] - mid.index[0]) if len(mid) > 1 else pd.Timedelta(1, "s")
    n, usual = (max(2, round(seconds(span) / bar.total_seconds())) for span in (window, calm))
    if min(len(mid), usual) < 10:
        raise ValueError(f"calm: the first {calm} of the run have fewer than ten bars; choose a longer time")

    def z(values: "pd.Series[float]", floor: float = 1e-12) -> "pd.Series[float]":
        known = values.iloc[:usual]
        return (values - known.mean()) / max(float(known.std()), floor)

    logs = pd.Series(np.log(mid.to_numpy()), mid.index)
    returns, moved = logs.diff().fillna(0.0), logs.diff(n).fillna(0.0)
    falls = pd.Series(np.sign(moved.to_numpy()), mid.index)
    volume, trades = (wide[c][first].astype(np.float64).rolling(n, min_periods=1).mean() for c in ("volume", "trades"))
    rough = returns.rolling(n, min_periods=2).std().bfill()
    parts = {
        "volatility": -(z(rough) + z(1.0 - mid / mid.cummax())) / 2.0,
        "momentum": (z(moved) + z(volume).clip(lower=0.0) * falls) / 2.0,
        "search": z(trades).clip(lower=0.0) * falls,
        **{name: z(values, _LEAST_MOOD) for name, values in _moods(nodes, mid.index + bar).items()},
    }
    if supply:
        worth = wide["mid"][list(supply)] * pd.Series(supply)
        parts["dominance"] = -z((worth[first] / worth.sum(axis=1)).astype(np.float64))
    table = pd.DataFrame(
        {name: 100.0 * norm.cdf(parts[name]) for name in WEIGHTS if name in parts},
        index=pd.DatetimeIndex(mid.index) + bar,
    )
    weights = np.array([WEIGHTS[name] for name in WEIGHTS if name in parts])
    table.insert(0, "index", table.to_numpy() @ weights / weights.sum())
    return table


def by_day(index: pd.DataFrame) -> pd.DataFrame:
    """The index of each day: as it ends (UTC, or as the run does), the parts then, and its lowest with the time of that.

    Args:
        index: What `fear_and_greed` gives.

    Returns:
        Columns index, lowest, at, and the parts, by day.
    """
    ends = pd.DatetimeIndex(index.index)
    days = (ends - pd.Timedelta(1, "ns")).floor("D")  # a bar that ends at midnight is of the day before
    grouped = index.groupby(days)
    table = grouped.last()
    table.insert(1, "lowest", grouped["index"].min())
    table.insert(2, "at", grouped["index"].idxmin())
    table.index.name = "day"
    return table


def _moods(nodes: pd.DataFrame, times: pd.Index) -> "dict[str, pd.Series[float]]":
    """Social media: the mean mood, which is 0 where nobody feels anything; surveys: how many more are glad than afraid."""
    if "mood" not in nodes:
        return {}
    moods = nodes.dropna(subset=["mood"]).pivot(index="time", columns="node", values="mood")
    if moods.empty:
        return {}
    glad = (moods > 0).mean(axis=1) - (moods < 0).mean(axis=1)
    both = pd.DataFrame({"social": moods.mean(axis=1), "surveys": glad}).reindex(times, method="ffill").fillna(0.0)
    before = times - (times[1] - times[0])
    return {name: pd.Series(both[name].to_numpy(), before) for name in ("social", "surveys")}

"""Small markets in each of which one channel can pass on what happens to one asset, and what that does to its correlation with another.

One rule of size for all, set before the runs that are reported: whoever carries a channel can bring to an asset as much as its book shows a side
within 100 basis points in the calm, and so can those who sell in the first asset alone. (With one and a half times as much books ran empty in
trials: then a price says nothing.) It happens at two o'clock: the first asset falls by a tenth over two hours on news of its own, or its margin
is raised, or a hub that has both ends. The eight hours from then on count, in intervals of half an hour, which is longer than anybody here takes
to act on what he sees.
"""

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

import abm
from abm.contagion.channels import Channels
from abm.contagion.measures import corrected_correlation
from tests.unit.two_assets import BTC, ETH, PRICES, SILVER, two_assets
from tests.unit.walls import derivative

ALL_OFF = dict.fromkeys(Channels.model_fields, False)
BASKET = "basket"
EVENT, HOURS, INTERVAL = datetime(2026, 2, 5, 2, tzinfo=UTC), 10.0, "30min"
FALL = 0.1

DEPTH = 20e6  # currency a side within 100 basis points, as in `two_assets`
BRINGS = DEPTH
_BOOK = {"depth_usd": DEPTH, "impact_bps": 5.0, "calm_volatility": 0.6}
_PACE = {"accounts": 20, "every": "10min", "slice": "1min", "slippage": 0.02, "size_sigma": 0.3}
_MOVES = {"moves": {BTC: math.log(1.0 - FALL)}, "over": "2h"}
_FALLS = {"news": {"calendar": [{"at": EVENT, "kind": "other", "what": "a fall of one asset alone", **_MOVES}]}}


class Case(NamedTuple):
    """A market for one channel."""

    source: str
    """The asset to which it happens."""
    other: str
    traders: Mapping[str, Any]
    """Besides, or instead of, those of `two_assets`, whose funds are left out."""
    own: tuple[str, ...] = tuple(PRICES)
    """What there is news of."""
    needs: tuple[str, ...] = ()
    """Channels that are on in both runs, as it acts through their traders."""
    more: Mapping[str, Any] = {}
    """Other keys of the scenario."""
    terms: Mapping[str, Any] = {}
    """Of the channel, where it is on."""


# ------------------------------------------------------------------ traders


def makers(*names: str, capital: float = 200e6) -> dict[str, Any]:
    """Four firms with a capital for all of these books together, currency."""
    return {
        "kind": "market_makers",
        "accounts": 4,
        "capital": [capital / 4.0] * 4,
        "books": dict.fromkeys(names, _BOOK),
    }


def noise(name: str, price: float, coins: float) -> dict[str, Any]:
    """As much of it as of the two assets."""
    means = {"accounts": 20, "cash": 20e6, "coins": coins}
    return {
        "kind": "noise",
        "instrument": name,
        "orders_per_second": 0.3,
        "volume_per_day": 3e8 / price,
        **means,
    }


def allocators(*names: str) -> dict[str, Any]:
    """Portfolios of these that sell half of each in full stress; volatility half above the usual is that."""
    part, leaves = 0.9 / len(names), 0.5
    held = {"risky": dict.fromkeys(names, part), "leaves": leaves, "capital": BRINGS / (leaves * part)}
    stress = {"volatility": 0.6, "correlation": 0.0, "full": 1.5, "band": 0.01}
    return {"kind": "allocators", **held, **stress, **_PACE}


def funds() -> dict[str, Any]:
    """Funds of leverage L = 3 in equal parts: after a fall r of one asset they sell L^2 r / 4 of their equity of the other."""
    style = {"style": "leverage", "leverage": [3, 3], "weights": dict.fromkeys(PRICES, 0.5), "band": 0.0}
    return {"kind": "multi_asset_funds", "capital": BRINGS / (2.25 * FALL), **style, **_PACE}


def pool() -> dict[str, Any]:
    """Loans against bitcoin, of which half are due once it has fallen by that much."""
    return {"kind": "lending_pool", "locked": 2.0 * BRINGS, "health_median": 1.0 / (1.0 - FALL), "health_sigma": 0.5}


def borrower() -> dict[str, Any]:
    """One who keeps his health where it is: of a debt D he repays D r after a fall r of bitcoin, with ether as far as he has any."""
    health, coin = 1.4, PRICES[BTC]
    collateral = BRINGS / FALL * health / 0.83
    rule = {"health": health, "trigger": health, "target": health, "pace": 24.0 * BRINGS / coin}
    return {"coins": collateral / coin, **rule, "beside": {"instrument": ETH, "coins": BRINGS / PRICES[ETH]}}


def hub(**customers: Any) -> dict[str, Any]:
    """A hub that has both assets."""
    coins = {name: BRINGS / price for name, price in PRICES.items()}
    return {"kind": "credit_hub", "customers": customers, "coins": coins, "fails_at": EVENT}


def basket() -> dict[str, Any]:
    """Who trades a basket of both assets in equal parts, and who could tie it to them."""
    units = {name: 50.0 / price for name, price in PRICES.items()}
    means = {"components": units, "cash": BRINGS, "baskets": BRINGS / 100.0}
    return {
        "makers-basket": makers(BASKET),
        "noise-basket": noise(BASKET, 100.0, 20e6 / 100.0),
        "arbitrage": {"kind": "index_arbitrage", "instrument": BASKET, **means},
    }


def spot(**others: float) -> dict[str, Any]:
    """The two assets and others, by price."""
    prices = {**PRICES, **others}
    return {
        name: {"tick": 0.01, "lot": 0.001, "max_price": 10 * price, "reference_price": price}
        for name, price in prices.items()
    }


# ------------------------------------------------------------------ the cases


def _common_holders() -> Case:
    return Case(BTC, ETH, {"funds": funds()}, more=_FALLS)


def _margin_notices() -> Case:
    """Silver's notice of February 2026; of what it makes funds lack they raise as much in bitcoin as in silver, and nothing else makes them trade."""
    before, after = 0.15, 0.18
    elsewhere = 1.0 / (1.0 + after)
    holds = BRINGS / (elsewhere * (after - before))
    margin = {"mark": {"index": {}}, "brackets": [{"leverage": 1.0 / before, "maintenance": 0.12}]}
    silver = derivative("future", BTC, 77.4, **margin) | {"tick": 0.001, "lot": 1, "max_price": 1_000}
    style = {"style": "leverage", "leverage": [1, 1], "weights": {BTC: 0.5, SILVER: 0.5}, "band": 0.9}
    notified = {"constrained": 1.0, "elsewhere": elsewhere, "account_leverage": 1.0 / before}
    who = {
        "makers-eth-spot": None,
        "noise-eth-spot": None,
        "makers-silver": makers(SILVER),
        "noise-silver": noise(SILVER, 77.4, 0.0),
        "hedgers": {"kind": "hedgers", "instrument": SILVER},
        "funds": {"kind": "multi_asset_funds", "capital": 2.0 * holds, **style, **notified, **_PACE},
    }
    traded = {"instruments": {BTC: spot()[BTC], SILVER: silver}}
    notice = {"instrument": SILVER, "announced": EVENT, "at": EVENT, "before": before, "after": after}
    return Case(SILVER, BTC, who, (BTC, SILVER), ("common_holders",), traded, {"calendar": [notice]})


def _market_making() -> Case:
    """Allocators sell bitcoin to firms, who lose a day's limit (.015 of their capital) where half the fall comes after that."""
    apart = dict.fromkeys(f"makers-{name}" for name in PRICES)
    firms = makers(*PRICES, capital=BRINGS * FALL / 2.0 / 0.015)
    return Case(BTC, ETH, {**apart, "makers": firms, "allocators": allocators(BTC)}, needs=("flight",), more=_FALLS)


def _collateral() -> Case:
    """Who has borrowed against bitcoin sells ether first."""
    return Case(BTC, ETH, {"pool": pool() | {"large": [borrower()]}}, more=_FALLS)


def _arbitrage() -> Case:
    return Case(BTC, BASKET, basket(), more={"instruments": spot(basket=100.0), **_FALLS})


def _flight() -> Case:
    return Case(BTC, ETH, {"allocators": allocators(*PRICES)}, more=_FALLS)


def _sentiment() -> Case:
    """Allocators of ether hear those of bitcoin, who watch it."""
    who = {f"allocators-{name}": allocators(name) for name in PRICES}
    communities = {
        "watchers": {"traders": [f"allocators-{BTC}"], "watches": {BTC: 1.0}},
        "listeners": {"traders": [f"allocators-{ETH}"], "listens": {"watchers": 1.0}, "others": 0.99},
    }
    terms = {"communities": communities, "memory": "10min", "horizon": "6h"}
    return Case(BTC, ETH, who, needs=("flight",), more=_FALLS, terms=terms)


def _correlation() -> Case:
    """Who trades ether infers all of bitcoin's return from it: half of their equity for the whole fall."""
    gain = 0.5 / FALL
    who = {"kind": "correlation_traders", "instrument": ETH, "capital": 2.0 * BRINGS, "gain": gain, "half_life": "6h"}
    terms = {"follows": {ETH: {BTC: 1.0}}}
    return Case(BTC, ETH, {"followers": who}, more=_FALLS, terms=terms)


def _credit() -> Case:
    return Case(BTC, ETH, {"hub": hub(**{f"noise-{BTC}": {"deposit": 0.1}})})


CASES: dict[str, Callable[[], Case]] = {
    "common_holders": _common_holders,
    "margin_notices": _margin_notices,
    "market_making": _market_making,
    "collateral": _collateral,
    "arbitrage": _arbitrage,
    "flight": _flight,
    "sentiment": _sentiment,
    "correlation": _correlation,
    "credit": _credit,
}
"""By channel. News is none of them: it moves values, by loadings."""


def one_channel(
    channel: str, on: bool, seed: int = 1, hours: float = HOURS, volatility: float = 0.6, of: Case | None = None
) -> abm.Scenario:
    """The market of a channel, with it or without.

    Args:
        channel: Its name.
        on: Whether it carries anything.
        seed: Of the run.
        hours: From midnight on.
        volatility: A year, of the news that each asset has alone.
        of: Another market than that in `CASES`.
    """
    case = of or CASES[channel]()
    switches: dict[str, Any] = {**ALL_OFF, "news": True, **dict.fromkeys(case.needs, True)}
    switches[channel] = {"on": on, **case.terms}
    news = {"fundamentals": {name: {"volatility": volatility} for name in case.own}}
    return two_assets(seed, hours, switches, {"funds": None, **case.traders}, **news, **case.more)


# ------------------------------------------------------------------ what it does


def changes(result: abm.Result, what: str = "mid") -> pd.DataFrame:
    """Logarithmic changes from the event on, by instrument: of the mid from one interval's end to the next, or of mean depths of both sides."""
    bars = result.bars.assign(depth=result.bars["bid_depth"] + result.bars["ask_depth"])
    table = bars.pivot(index="time", columns="instrument", values=what)
    table.index += pd.Timedelta("1min")  # bars have what was at their end
    counted = table[
        table.index > EVENT - pd.Timedelta(INTERVAL)
    ]  # the last interval before is what the first is compared with
    intervals = counted.resample(INTERVAL, origin=EVENT, closed="right", label="right")
    return np.log(intervals.last() if what == "mid" else intervals.mean()).diff().dropna()


def correlations(channel: str, seed: int, what: str = "mid", of: Case | None = None, **terms: Any) -> dict[str, float]:
    """Correlation of source and other without the channel, with it, and with it corrected for the source's variance (Forbes and Rigobon 2002).

    Both runs have the same draws, and the one without the channel is the calm of the correction. So `corrected` is above `off` only if the
    other asset follows the source more closely, and not if the source alone moves more.

    Args:
        channel: Its name.
        seed: Of both runs.
        what: `mid` for returns, `depth` for changes of depth.
        of: Another market than that in `CASES`.
        **terms: Others of `one_channel`.
    """
    case = of or CASES[channel]()
    runs = (abm.run(one_channel(channel, switch, seed, of=case, **terms)) for switch in (False, True))
    off, on = (changes(result, what) for result in runs)
    found = corrected_correlation(off, on, case.source).loc[case.other]
    return {"off": found["calm"], "on": found["crisis"], "corrected": found["corrected"]}


def rises(table: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """By how much the correlations with the channel are above those without: mean over seeds, Student's interval, and at how many seeds.

    Args:
        table: `correlations`, a row for each seed.
        confidence: Of the interval.
    """
    rise, n = table[["on", "corrected"]].sub(table["off"], axis=0), len(table)
    reach = stats.t.ppf((1.0 + confidence) / 2.0, n - 1) * rise.std(ddof=1) / math.sqrt(n)
    mean = rise.mean()
    return pd.DataFrame({"rise": mean, "low": mean - reach, "high": mean + reach, "up": (rise > 0).sum()})

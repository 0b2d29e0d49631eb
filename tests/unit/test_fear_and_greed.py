"""Fear and greed: made from the run alone, 50 in the calm, low in a fall."""

import numpy as np
import pandas as pd
import pytest

import abm
from abm.contagion.fear_and_greed import WEIGHTS, by_day, fear_and_greed
from tests.unit.two_assets import BTC, ETH, two_assets

START = pd.Timestamp("2026-02-01T00:00Z")
NOBODY = pd.DataFrame({"time": [], "node": []})


def walk(drift: float, days: int = 3, seed: int = 5) -> pd.DataFrame:
    """Five-minute bars of two coins: two calm days, then a drift (a day) and more volume with it."""
    rng, n = np.random.default_rng(seed), days * 288
    moves = 0.001 * rng.standard_normal(n) + np.where(np.arange(n) >= 576, drift / 288, 0.0)
    busy = np.where(np.arange(n) >= 576, 1.0 + 20 * abs(drift), 1.0)
    time = [START + pd.Timedelta(minutes=5 * k) for k in range(n)]
    common = {"time": time, "volume": busy * rng.uniform(0.5, 1.5, n), "trades": np.round(100 * busy)}
    btc = pd.DataFrame(common | {"instrument": BTC, "mid": 70_000 * np.exp(np.cumsum(moves))})
    eth = pd.DataFrame(common | {"instrument": ETH, "mid": 2_000 * np.exp(1.5 * np.cumsum(moves))})
    return pd.concat([btc, eth])


def test_the_calm_is_about_the_middle_and_a_fall_is_fear_and_a_rise_greed() -> None:
    last = {}
    for drift in (-0.15, 0.0, 0.15):
        table = fear_and_greed(walk(drift), NOBODY, supply={BTC: 20e6, ETH: 120e6}, calm="2d")
        assert ((table >= 0) & (table <= 100)).all().all()
        assert table["index"].iloc[:576].mean() == pytest.approx(50, abs=8)
        last[drift] = table.iloc[-1]
    assert last[-0.15]["index"] < 20 < last[0.0]["index"] < 80
    assert last[0.15]["index"] > last[0.0]["index"]
    assert last[-0.15]["dominance"] < 50 < last[0.15]["dominance"]  # the first coin falls less than the other


def test_weights_are_those_of_the_parts_that_there_are() -> None:
    table = fear_and_greed(walk(-0.1), NOBODY, calm="2d")
    assert list(table) == ["index", "volatility", "momentum", "search"]
    expected = (25 * table["volatility"] + 25 * table["momentum"] + 10 * table["search"]) / 60
    assert table["index"].to_numpy() == pytest.approx(expected.to_numpy())
    assert sum(WEIGHTS.values()) == 100


def test_a_run_with_communities_has_their_moods_in_it() -> None:
    people = {"communities": {"all": {"watches": {BTC: 1.0}}}, "memory": "10min", "horizon": "30min", "strong": 0.002}
    crash = {
        "calendar": [
            {"at": "2026-02-05T03:00Z", "kind": "other", "what": "a fall", "moves": {BTC: -0.1}, "over": "30min"}
        ]
    }
    result = abm.run(
        two_assets(
            hours=4, channels={"sentiment": people}, news=crash, recording={"interval": "1min", "network": "10min"}
        )
    )
    table = fear_and_greed(result.bars, result.nodes, window="30min", calm="3h")
    assert {"social", "surveys"} <= set(table)
    assert table["social"].iloc[-20] < 5 < table["social"].iloc[100]
    assert table["index"].iloc[-20] < 25


def test_by_day_it_is_what_it_was_as_the_day_ended() -> None:
    table = fear_and_greed(walk(-0.15), NOBODY, calm="2d")
    days = by_day(table)
    assert list(days.index) == [START + pd.Timedelta(k, "D") for k in range(3)]
    assert list(days) == ["index", "lowest", "at", "volatility", "momentum", "search"]
    for day, row in days.iterrows():
        of_it = table[(table.index > day) & (table.index <= day + pd.Timedelta(1, "D"))]
        assert row["index"] == of_it["index"].loc[day + pd.Timedelta(1, "D")]
        assert row["momentum"] == of_it["momentum"].iloc[-1]
        assert row["lowest"] == of_it["index"].min() == table.loc[row["at"], "index"]
    assert days["index"].iloc[-1] < 20


def test_what_cannot_be_computed_is_said() -> None:
    with pytest.raises(ValueError, match="no bars of 'doge'; there are btc-spot, eth-spot"):
        fear_and_greed(walk(0.0), NOBODY, first="doge")
    with pytest.raises(ValueError, match="fewer than ten bars"):
        fear_and_greed(walk(0.0), NOBODY, calm="10min")

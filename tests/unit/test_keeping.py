"""A part of a scenario: some of its instruments, and who trades no others."""

from typing import Any

import pytest

import abm
from abm.scenario import ScenarioError, load

BITCOIN = ["btc-spot", "btc-perp"]


def test_who_trades_what_is_gone_is_left_out_and_what_is_said_of_it() -> None:
    whole, part = load("contagion"), load("contagion", keep=BITCOIN)
    assert list(part.instruments) == BITCOIN
    assert set(part.fundamentals) <= set(BITCOIN)
    # funds hold shares and metals too, the pool lends against ether, correlation traders have no leader left
    assert not {"funds_leverage", "pods", "allocators", "eth_pool", "correlation_btc", "noise_ndx"} & set(part.traders)
    assert {"crypto_makers", "leverage_btc", "basis_btc", "value_btc"} <= set(part.traders)
    assert set(part.traders["crypto_makers"].books) == set(BITCOIN)
    assert set(whole.traders["crypto_makers"].books) > set(BITCOIN)
    assert part.channels.margin_notices.calendar == ()
    assert set(part.channels.sentiment.communities["coins"].traders) == {"leverage_btc"}
    named = {name for event in part.news.calendar for name in event.moves}
    assert named <= set(part.news.factors)
    assert not any(key.startswith("instruments.gold") for key in part.inputs)
    assert all(
        key.split(".")[1] in part.traders for link in part.links.values() for key in link.off if "traders" in key
    )


def test_followers_stay_with_a_leader_that_stays() -> None:
    part = load("contagion", keep=[*BITCOIN, "ndx"])
    assert part.channels.correlation.follows == {"btc-perp": {"ndx": 0.4}}
    assert "correlation_btc" in part.traders and "value_ndx" in part.traders


def test_the_part_runs_and_keeps_the_books() -> None:
    part = load("contagion", keep=BITCOIN, clock={"end": "2026-02-04T00:05Z"}, recording={"network": None})
    result = abm.run(part)
    assert result.audit.passed
    assert set(result.bars["instrument"]) == set(BITCOIN)


@pytest.mark.parametrize("coins", [["eth-spot", "eth-perp"], ["btc-spot"], ["doge-spot", "doge-perp", "gold"]])
@pytest.mark.parametrize("name", ["markets", "contagion", "february-2026"])
def test_any_part_is_a_scenario(name: str, coins: list[str]) -> None:
    part = load(name, keep=coins)
    assert set(part.instruments) == set(coins)
    assert not [key for key in (*part.inputs, *part.fitted) if "btc-perp" in key]


def test_what_is_not_there_cannot_be_kept() -> None:
    with pytest.raises(ScenarioError, match="keep: 'btc' is not an instrument of this scenario; it has btc-spot"):
        load("contagion", keep=["btc"])
    with pytest.raises(
        ScenarioError, match=r"keep: 'btc-spot' is not a list of instruments; write \[btc-spot, btc-perp\]"
    ):
        load("contagion", keep="btc-spot")


def test_a_price_of_the_day_before_is_looked_back_to() -> None:
    terms = {"day_before": {"btc-spot": 80_000.0}, "clock": {"end": "2026-02-05T00:10Z"}}
    without, made = abm.Market(load("first-hour")), abm.Market(load("first-hour", **terms))
    assert without.scenario.hash == load("first-hour", day_before={}).hash != made.scenario.hash
    assert without.view()["btc-spot"].return_over("1d") == 0.0
    book = made.view()["btc-spot"]
    assert book.return_over("1d") == pytest.approx(book.mid / 80_000 - 1)
    assert book.mid_before("12h") == pytest.approx((book.mid * 80_000) ** 0.5)
    assert book.mid_before("3d") == pytest.approx(80_000)
    made.run_for("6min")
    assert made.view()["btc-spot"].mid_before("5min") == pytest.approx(made.recorder.mids[0, 60])
    with pytest.raises(ScenarioError, match=r"day_before\.btc: not traded here"):
        load("first-hour", day_before={"btc": 1.0})


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"traders.noise_ndx.accounts": 5}, "traders.noise_ndx"),
        ({"instruments.ndx.reference_price": 5}, "instruments.ndx"),
        ({"traders": {"share_makers": {"books": {"ndx": {"depth_usd": 5}}}}}, "traders.share_makers"),
    ],
)
def test_what_is_set_for_what_is_left_out_is_an_error(change: dict[str, Any], key: str) -> None:
    with pytest.raises(ScenarioError) as error:
        load("contagion", keep=BITCOIN, **change)
    assert (
        str(error.value)
        == f"contagion: {key}: keep leaves this out, as it has btc-spot, btc-perp alone; set it without keep"
    )


def test_who_is_left_out_may_be_taken_out_too() -> None:
    assert load("contagion", keep=BITCOIN, **{"traders.noise_ndx": None}) == load("contagion", keep=BITCOIN)

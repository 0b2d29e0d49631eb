"""Users of a lending pool: what stands at the start, who is liquidated or sells first, what that does to prices, and that nothing is lost."""

import time
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

import abm
from abm.agents.lending_pool import LendingPoolConfig, PoolUsers
from abm.testing import TraderContract
from tests.unit.makers import BOTH, BTC, ETH, Maker, market, sound
from tests.unit.walls import only, volume

SIZE = {BTC: 3.0, ETH: 100.0}
POOL = {"kind": "lending_pool", "instrument": ETH, "accounts": 105, "locked": 24e6}
CROWDED = POOL | {"health_median": 1.1, "health_sigma": 0.5}


def pool(on: bool = True, **settings: Any) -> tuple[abm.Market, dict[str, Maker], PoolUsers]:
    """A pool of ether for an hour, in a market where 100 ETH move the price by a fifth of a percent."""
    made, makers = market({"pool": CROWDED | settings}, SIZE, channels={"collateral": on})
    return made, makers, only(made, PoolUsers)


class TestPoolUsers(TraderContract):
    kind = "lending_pool"


class TestPoolUsersAtWork(TraderContract):
    """With loans that are due at once, and two who deleverage: one of them sells another coin first."""

    kind = "lending_pool"
    overrides = {  # noqa: RUF012
        "instruments": {ETH: BOTH[ETH]},
        "traders": {"makers-eth": {"kind": "market_makers", "books": {ETH: {"depth_usd": 1e6}}}},
    }
    beside = ("market_makers", "makers-eth")
    config = {  # noqa: RUF012
        "pool": {"liquidation_threshold": 0.83, "block": 5.0, "deviation": 0.0},
        "health_lowest": 1.0005,
        "health_median": 1.01,
        "locked": 100e6,
        "large": [
            {"coins": 500, "health": 1.2, "trigger": 1.3, "pace": 1e5},
            {"coins": 500, "health": 1.2, "trigger": 1.3, "pace": 1e5, "beside": {"instrument": ETH, "coins": 50}},
        ],
    }

    def test_he_sells_the_other_coin_first(self) -> None:
        """So that what the contract says is said of both."""
        market = self.market()
        market.run_for(self.duration)
        assert volume(market, "deleveraging", ETH) == pytest.approx(50.0)
        assert volume(market, "deleveraging", BTC) > 0.0


# ------------------------------------------------------------------ the start


def test_what_stands_in_the_pool_is_what_the_scenario_says() -> None:
    settings = {"share": 0.5, "health_median": 3.0, "size_sigma": 0.5}
    made, _, users = pool(large=[{"coins": 1000, "health": 1.4}], bands=[{"price": 2200, "share": 0.3}], **settings)
    coins = users.pool.collateral(users.rows) * 0.001
    assert coins.sum() == pytest.approx(0.5 * (24e6 / 2400 + 1000), rel=1e-4)
    health, price = users.pool.health(users.rows[users.borrowers]), users.pool.liquidation_price(users.rows)
    assert health[0] == pytest.approx(1.4, rel=1e-4) and coins[users.borrowers[0]] == 500.0
    assert health.min() >= 1.02 - 1e-4
    assert users.oracle == 2400.0
    band = (abs(price / 2200 - 1) < 0.02) & (np.arange(users.size) > users.borrowers[0])
    assert coins[band].sum() / (24e6 / 2400 * 0.5) == pytest.approx(0.3, abs=0.03)
    assert users.pool.lent / (users.pool.lent + users.pool.cash) == pytest.approx(0.8, rel=1e-3)
    assert users.free_cash(users.liquidators).tolist() == [2e6] * 4
    assert users.free_cash()[users.borrowers].sum() == 0.0  # what was borrowed is spent
    sound(made, users.pool)


def test_where_all_are_sound_nothing_is_sent() -> None:
    made, _, users = pool(health_lowest=2.0, health_median=3.0)
    made.run_for("10min")
    assert volume(made, "liquidation") == volume(made, "deleveraging") == 0.0
    assert users.pool.oracle.moved == 0 and len(users.seizures) == 0
    sound(made, users.pool)


# ------------------------------------------------------------------ falls


def after_a_fall(
    fall: float = 0.1, minutes: int = 10, on: bool = True, **settings: Any
) -> tuple[abm.Market, dict[str, Maker], PoolUsers]:
    """The price of ether falls by news after a minute, without a trade."""
    made, makers, users = pool(on, **settings)
    made.run_for("1min")
    makers[ETH].news = np.log(1 - fall)
    made.run_for(f"{minutes}min")
    return made, makers, users


def test_a_fall_liquidates_and_what_is_sold_makes_it_larger() -> None:
    made, makers, users = after_a_fall()
    sound(made, users.pool)
    sold = volume(made, "liquidation", ETH)
    assert len(users.seizures) > 20 and sold > 1000.0
    assert sold == pytest.approx(users.about()["seized"])  # no liquidator is left with any
    assert makers[ETH].price == pytest.approx(2400 * 0.9 * np.exp(-0.002 * sold / SIZE[ETH]))
    assert makers[BTC].price == 73_100.0 and volume(made, "liquidation", BTC) == 0.0  # nobody holds both
    more = after_a_fall(minutes=50)
    assert len(more[2].seizures) == pytest.approx(len(users.seizures), abs=3)  # a cascade that ends


def test_off_nobody_is_liquidated() -> None:
    made, makers, users = after_a_fall(on=False)
    assert users.silent and len(users.seizures) == 0 and users.pool.oracle.moved == 0
    assert makers[ETH].price == pytest.approx(2160.0) and volume(made, "liquidation") == 0.0
    assert not [edge for edge in made.contagion.network().edges(data="channel") if edge[2] == "collateral"]
    sound(made, users.pool)


def test_a_fall_of_another_coin_changes_nothing() -> None:
    made, makers, users = pool()
    makers[BTC].news = -0.2
    made.run_for("10min")
    assert len(users.seizures) == 0 and makers[ETH].price == 2400.0


def test_a_common_holder_brings_the_fall_to_another_coin() -> None:
    """A fund that holds both for a leverage target sells bitcoin as liquidations lower ether."""
    fund = {"kind": "multi_asset_funds", "accounts": 1, "style": "leverage", "leverage": [3, 3], "band": 0.0}
    fund |= {"instrument": ETH, "weights": {ETH: 0.5, BTC: 0.5}, "capital": 5e6, "every": "1min", "slice": "30s"}
    made, makers = market({"fund": fund, "pool": CROWDED}, SIZE)
    made.run_for("1min")
    makers[ETH].news = np.log(0.9)
    made.run_for("20min")
    assert volume(made, "liquidation", ETH) > 1000.0 and makers[BTC].price < 73_100 * 0.999
    sound(made, only(made, PoolUsers).pool)


def test_liquidators_act_in_the_block_after_the_oracle_has_moved() -> None:
    _, _, users = after_a_fall()
    # News at 60 s is in the book a second later: the block of 72 s moves the oracle, that of 84 s liquidates
    assert users.seizures["time"].min() == 84 * 10**9 and (users.seizures["time"] % (12 * 10**9) == 0).all()


def test_where_the_fall_is_deeper_than_the_bonus_covers_suppliers_lose() -> None:
    made, _, users = after_a_fall(0.3)
    assert users.about()["bad_debt"] > 0.0
    assert (
        int(users.pool.claim(users.rows[:1])[0]) < users.pool.lent + users.pool.cash + users.about()["bad_debt"] * 1e6
    )
    sound(made, users.pool)


def test_liquidators_without_cash_or_bids_wait() -> None:
    poor = after_a_fall(liquidator_cash=0.0)[2]
    assert len(poor.seizures) == 0 and poor.pool.health(poor.rows).min() < 1.0
    dear = after_a_fall(pool={"gas": 1e9})[2]
    assert len(dear.seizures) == 0


# ------------------------------------------------------------------ large borrowers


def test_a_large_borrower_sells_at_his_pace_until_he_is_at_his_target() -> None:
    large = {"coins": 5_000, "health": 1.3, "trigger": 1.25, "target": 1.4, "pace": 240_000}
    made, makers, users = after_a_fall(0.05, minutes=50, large=[large], locked=0.0)
    who = users.rows[users.borrowers[:1]]
    paces = users.deleveraged["lots"] * 0.001
    assert paces.max() == pytest.approx(240_000 / 7200, rel=1e-3)  # 7200 blocks a day
    assert users.pool.health(who)[0] == pytest.approx(1.4, rel=0.01)
    sold = volume(made, "deleveraging", ETH)
    assert sold == pytest.approx(users.about()["deleveraged"]) and sold > 500.0
    debt = 5_000 * 2400 * 0.83 / 1.3

    def needed(price: float) -> float:
        """x of (c - x) p t = H (D - x p): coins to be sold at one price."""
        return float((1.4 * debt - 5_000 * price * 0.83) / (price * (1.4 - 0.83)))

    assert needed(2280.0) < sold < needed(makers[ETH].price)
    assert makers[ETH].price < 2280.0 and len(users.seizures) == 0
    sound(made, users.pool)


def test_who_does_not_fall_below_his_trigger_keeps_all() -> None:
    large = {"coins": 5_000, "health": 1.5, "trigger": 1.25}
    _, _, users = after_a_fall(0.05, large=[large], locked=0.0)
    assert len(users.deleveraged) == 0


# ------------------------------------------------------------------ what he has beside the pool


def with_bitcoin(coins: float, fall: float, on: bool = True) -> tuple[abm.Market, dict[str, Maker], PoolUsers, Any]:
    """One large borrower who owes 7.7 million against ether and holds bitcoin; also the trades of his account."""
    large = {"coins": 5_000, "health": 1.3, "trigger": 1.25, "target": 1.4, "pace": 240_000}
    large["beside"] = {"instrument": BTC, "coins": coins}
    made, makers, users = after_a_fall(fall, minutes=50, on=on, large=[large], locked=0.0)
    sound(made, users.pool)
    return made, makers, users, made.recorder.trades_of(int(users.rows[users.borrowers[0]]))


def test_another_asset_is_sold_before_collateral_and_repays() -> None:
    made, makers, users, trades = with_bitcoin(coins=20.0, fall=0.05)
    who = users.rows[users.borrowers[:1]]
    assert set(trades["instrument"]) == {BTC} and len(users.deleveraged) == 0
    assert makers[BTC].price < 73_000.0 and makers[ETH].price == pytest.approx(2280.0)
    # A block's sale is what so many ether are worth as his pace allows, in whole lots; no fees here
    blocks = trades.groupby("time")["quantity"].sum()
    full = 240_000 / 7200 * 2280 / 73_100
    assert blocks.iloc[0] == pytest.approx(full, abs=2e-4) and (blocks < full * 1.02).all()
    proceeds = float((trades["price"] * trades["quantity"]).sum())
    debt = 5_000 * 2400 * 0.83 / 1.3
    left = int(users.pool.debt(who)[0]) / 1e6
    assert users.about()["repaid_beside"] == pytest.approx(proceeds - float(users.cash[users.borrowers[0]]), abs=1e-5)
    assert debt - left == pytest.approx(users.about()["repaid_beside"], rel=1e-3)  # interest of an hour
    # D (1 - h / H) was missing
    assert users.about()["repaid_beside"] == pytest.approx(debt - 5_000 * 2280 * 0.83 / 1.4, rel=1e-3)
    assert users.pool.health(who)[0] == pytest.approx(1.4, rel=1e-5)
    assert made.result().summary["traders"]["pool"]["repaid_beside"] == users.about()["repaid_beside"]


def test_once_it_is_used_up_collateral_is_sold() -> None:
    made, _, users, trades = with_bitcoin(coins=5.0, fall=0.1)
    first, then = (trades[trades["instrument"] == name] for name in (BTC, ETH))
    assert first["quantity"].sum() == pytest.approx(5.0) and first["time"].max() < then["time"].min()
    assert then["quantity"].sum() == pytest.approx(users.about()["deleveraged"])
    assert users.pool.health(users.rows[users.borrowers[:1]])[0] == pytest.approx(1.4, rel=0.01)
    assert volume(made, "deleveraging", ETH) > 500.0 and len(users.seizures) == 0


@pytest.mark.parametrize(("on", "fall"), [(False, 0.1), (True, 0.02)])
def test_what_he_has_beside_stays_where_the_channel_is_off_or_he_is_above_his_trigger(on: bool, fall: float) -> None:
    _, makers, users, trades = with_bitcoin(coins=5.0, fall=fall, on=on)
    assert len(trades) == 0 and makers[BTC].price == 73_100.0
    assert users.holdings(BTC)[users.borrowers[0]] == 5.0 and users.about()["repaid_beside"] == 0.0


# ------------------------------------------------------------------ the network


def test_the_channel_links_asset_pool_and_borrowers() -> None:
    made, _, users = pool(accounts=20)
    graph = made.contagion.network()
    links = {(u, v): d["weight"] for u, v, d in graph.edges(data=True) if d["channel"] == "collateral"}
    worth = users.pool.collateral(users.rows) * 0.001 * 2400
    assert links[ETH, "pool:pool"] == pytest.approx(worth.sum())
    assert links["pool:pool", "pool/7"] == users.pool.debt(users.rows[[7]])[0] / 1e6
    assert links["pool/7", ETH] == pytest.approx(worth[7])
    assert len(links) == 1 + 2 * len(users.borrowers) and graph.nodes["pool:pool"]["kind"] == "pool"


def test_the_channel_links_a_borrower_to_what_he_may_sell_beside() -> None:
    large = {"coins": 100, "beside": {"instrument": BTC, "coins": 3.0}}
    made, _, users = pool(accounts=20, share=0.5, large=[large])
    links = {(u, v): d for u, v, d in made.contagion.network().edges(data=True) if d["channel"] == "collateral"}
    assert links["pool/5", BTC]["weight"] == pytest.approx(1.5 * 73_100)
    assert links["pool/5", ETH]["weight"] == pytest.approx(50 * 2400)
    assert len(links) == 2 + 2 * len(users.borrowers) and users.config.traded == (ETH, BTC)


def test_the_run_tells_of_the_pool() -> None:
    made, _, users = after_a_fall()
    about = made.result().summary["traders"]["pool"]
    assert about["liquidations"] == len(users.seizures) and about["lent"] == users.pool.lent / 1e6
    users.pool.cash += 1
    audit = made.result().audit
    assert not audit.passed and audit.faults[0].startswith("pool: cash:")


# ------------------------------------------------------------------ configuration and cost


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"accounts": 5}, "accounts must be more than 5"),
        ({"health_median": 1.01}, "health_median must be above health_lowest"),
        ({"bands": [{"price": 2200, "share": 0.6}] * 2}, "must not add up to more than 1"),
        ({"pool": {"collateral": BTC}}, "give one"),
        ({"large": [{"coins": 1, "trigger": 1.5, "target": 1.4}]}, "target must not be below trigger"),
        ({"large": [{"coins": 1, "beside": {"instrument": ETH, "coins": 1}}]}, "beside must not be eth-spot"),
    ],
)
def test_what_does_not_fit_is_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        LendingPoolConfig.model_validate(POOL | wrong)


def test_what_only_shows_in_a_market_is_refused() -> None:
    with pytest.raises(abm.ScenarioError, match="loans due at 2390 are gone at 2400; leave the band out"):
        pool(bands=[{"price": 2390, "share": 0.1}])
    with pytest.raises(abm.ScenarioError, match=r"other: pool has a pool of the same name; set pool\.name"):
        market({"pool": POOL, "other": POOL}, SIZE)
    with pytest.raises(ValidationError, match="'ltc-spot' is not traded here"):
        pool(large=[{"coins": 1, "beside": {"instrument": "ltc-spot", "coins": 1}}])


def test_a_pool_in_which_nothing_happens_costs_next_to_nothing() -> None:
    """Less than 10 us a step of one second, with a thousand borrowers."""
    made, _, users = pool(health_lowest=2.0, health_median=3.0, accounts=1005)
    made.run_for("2min")
    view, began = made.view(), time.perf_counter()
    for _ in range(1000):
        view.time_ns += 12 * 10**9
        users.decide(view)
    assert users.pool.oracle.moved > 0
    assert (time.perf_counter() - began) / 1000 / 12 < 10e-6

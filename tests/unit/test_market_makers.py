"""Market makers: depth, spread, leaning, limits, withdrawal and return; several books out of one capital."""

import math
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

import abm
from abm.agents.desks import UNITS
from abm.agents.market_makers import BookTerms, MarketMakers, MarketMakersConfig, calibrate
from abm.agents.quoting import NINETY_NINE, asymptotic_distances, optimal_spread, reservation_price
from abm.agents.view import BPS, View
from abm.exchange.messages import Records, Reject, Side
from abm.world.fundamental import YEAR

SPOT, PERP, ETHER = "btc-spot", "btc-perp", "eth-spot"
PRICE, ETHER_PRICE = 73_100.0, 2_100.0
BOTH = {SPOT: {"depth_usd": 12e6}, PERP: {"depth_usd": 60e6}}
THREE = {**BOTH, ETHER: {"depth_usd": 5e6}}
INSTRUMENTS: dict[str, Any] = {
    PERP: {
        "kind": "perpetual",
        "tick": 0.1,
        "lot": 0.001,
        "max_price": 200_000,
        "reference_price": PRICE,
        "margin": {"brackets": "btc", "mark": {"index": {SPOT: 1.0}}},
    },
    ETHER: {"tick": 0.01, "lot": 0.0001, "max_price": 10_000, "reference_price": ETHER_PRICE},
}
NOISE = {
    "noise": {"accounts": 100, "cash": 10e6, "coins": 125},
    "noise-perp": {
        "kind": "noise",
        "instrument": PERP,
        "volume_per_day": 100_000,
        "orders_per_second": 6.0,
        "cash": 50e6,
        "coins": 0.0,
    },
}


def market(books: dict[str, Any] = BOTH, noise: bool = False, volatility: float = 0.0, **terms: Any) -> abm.Market:
    """Market makers, alone or among noise traders; `seed` and `start` are the scenario's, other terms theirs."""
    scenario: dict[str, Any] = {"seed": terms.pop("seed", 1)}
    start = terms.pop("start", "2026-02-05T00:00Z")
    others = dict.fromkeys(abm.load("first-hour").traders)
    traders = {**others, **(NOISE if noise else {}), "market_makers": {"books": {SPOT: None} | books, **terms}}
    news = {SPOT: {"volatility": volatility}, PERP: {"of": SPOT}}
    return abm.Market(
        abm.load(
            "first-hour",
            clock={"start": start, "end": "2026-02-05T01:00Z"},
            instruments=INSTRUMENTS,
            fundamentals=news,
            traders=traders,
            **scenario,
        )
    )


def makers(market: abm.Market) -> MarketMakers:
    return next(p for p in market.populations if isinstance(p, MarketMakers))


def resting(market: abm.Market, name: str, firm: int | None = None) -> Records:
    """Orders of one firm or all, in one book."""
    mine = makers(market)
    rows = mine.rows if firm is None else mine.rows[firm : firm + 1]
    orders = np.concatenate([market.exchange.orders_of(int(row)) for row in rows])
    return orders[orders["instrument"] == market.exchange.index(name)]


def quoted_usd(market: abm.Market, name: str, side: Side, firm: int | None = None) -> float:
    """What the firms show on one side."""
    orders, traded = resting(market, name, firm), market.scenario.instruments[name]
    return float(orders["quantity"][orders["side"] == side].sum()) * traded.lot * (traded.reference_price or 0.0)


def depth_usd(market: abm.Market, name: str, bps: float) -> float:
    """Mean of both sides within a distance from the mid."""
    traded = market.scenario.instruments[name]
    lots = market.exchange.depth_within(market.exchange.index(name), bps)
    return float(np.mean(lots)) * traded.lot * market.view()[name].mid


def centres(market: abm.Market, name: str) -> np.ndarray:
    """Middle of the innermost quotes of each firm, currency."""
    middles = []
    for firm in range(makers(market).size):
        orders = resting(market, name, firm)
        bids, asks = (orders["price"][orders["side"] == side] for side in Side if side != Side.AUCTION)
        middles.append((bids.max() + asks.min()) / 2 * market.scenario.instruments[name].tick)
    return np.array(middles)


def hold(market: abm.Market, coins: np.ndarray, entry: float = PRICE) -> None:
    """Give the firms a position in the perpetual before the run, against one spare account; nothing is learnt from it."""
    firms, other = makers(market), market.exchange.fund - 1
    market.house.credit(np.array([other], np.int32), "test", cash=1e11)
    lots = np.round(np.broadcast_to(coins, firms.size) / 0.001).astype(np.int64)
    costs = lots * round(entry / 0.1) * market.exchange.instruments[1].unit
    rows = np.append(firms.rows, np.int32(other))
    market.house.open_positions(rows, PERP, np.append(lots, -lots.sum()), np.append(costs, -costs.sum()))
    firms._state.books["lots"][1] = lots.sum()


def jump(market: abm.Market, by: float) -> None:
    """News that changes the value of bitcoin from now on."""
    for name in (SPOT, PERP):
        market._fundamentals[name][market.steps_done :] *= 1.0 + by


def rejects(market: abm.Market) -> list[Reject]:
    """Why messages of the firms are rejected, as the list fills in the run."""
    seen: list[Reject] = []
    match, rows = market.exchange.match, makers(market).rows

    def watch(tape: Records) -> Any:
        report = match(tape)
        wrong = report.outcomes["reject"][np.isin(tape["owner"], rows)]
        seen.extend(Reject(int(reason)) for reason in wrong[wrong > 0])
        return report

    market.exchange.match = watch  # type: ignore[method-assign]
    return seen


# ------------------------------------------------------------------ depth and spread


@pytest.mark.parametrize("seed", [1, 2])
def test_depth_in_the_calm_follows_the_curve_in_both_books(seed: int) -> None:
    calm = market(seed=seed)
    calm.run_for("3s")
    for name, terms in BOTH.items():
        for bps in (10.0, 30.0, 100.0):
            wanted = terms["depth_usd"] * (bps / 100.0) ** BookTerms(depth_usd=1.0).depth_exponent
            # Ten firms with ten levels each: the curve is a staircase.
            assert depth_usd(calm, name, bps) == pytest.approx(wanted, rel=0.15)


@pytest.mark.parametrize("rule", ["glft", "avellaneda_stoikov"])
def test_the_closest_of_ten_firms_makes_the_spread(rule: str) -> None:
    calm = market({name: {**terms, "rule": rule} for name, terms in BOTH.items()})
    calm.run_for("3s")
    terms = makers(calm).config.books[PERP]
    sigma_bps = terms.calm_volatility * math.sqrt(60 / YEAR) / BPS
    least, greatest = terms.half_spread
    closest = 2 * least * sigma_bps, 2 * least * (greatest / least) ** 0.1 * sigma_bps
    for name in BOTH:
        tick_bps = calm.scenario.instruments[name].tick / PRICE / BPS
        spread = calm.view()[name].spread_bps
        assert spread is not None
        assert closest[0] - tick_bps <= spread <= closest[1] + 2 * tick_bps


@pytest.mark.parametrize("rule", ["glft", "avellaneda_stoikov"])
def test_calibration_inverts_the_quoting_rule(rule: Any) -> None:
    half, lean, volatility, horizon, orders = np.array([0.3, 4.0, 40.0]), 42.0, 5.5, 3600.0, 1.0
    gamma, decay = calibrate(rule, half, lean, volatility, horizon, orders)
    for inventory in (0.0, UNITS):
        if rule == "glft":
            quotes = [
                asymptotic_distances(inventory, g, volatility, orders, k) for g, k in zip(gamma, decay, strict=True)
            ]
            bid, ask = np.transpose(quotes)
            found, centre = (bid + ask) / 2, (ask - bid) / 2
        else:
            found = np.array([optimal_spread(g, volatility, horizon, k) / 2 for g, k in zip(gamma, decay, strict=True)])
            centre = np.array([reservation_price(0.0, inventory, g, volatility, horizon) for g in gamma])
        assert found == pytest.approx(half, rel=1e-9)
        assert centre == pytest.approx(np.full(3, -lean * inventory / UNITS), rel=1e-9)


def test_spread_and_size_follow_volatility() -> None:
    calm, rough = market(), market()
    makers(rough)._state.underlyings["fast"] *= 9.0
    for each in (calm, rough):
        each.run_for("3s")
    assert quoted_usd(rough, PERP, Side.BUY) == pytest.approx(quoted_usd(calm, PERP, Side.BUY) / math.sqrt(3), rel=0.15)
    spreads = [each.view()[SPOT].spread_bps for each in (rough, calm)]
    assert spreads[0] == pytest.approx(3.0 * (spreads[1] or 0.0), rel=0.05)


def test_a_firm_with_margin_quotes_no_more_than_it_carries() -> None:
    poor = market(noise=True, capital=[1e6] * 10)
    seen = rejects(poor)
    poor.run_for("3min")
    firms = makers(poor)
    for firm in range(firms.size):
        held = abs(firms.holdings(PERP)[firm]) * PRICE + quoted_usd(poor, PERP, Side.BUY, firm)
        assert held < 0.5 * 5.0 * 1e6
    assert not seen
    assert poor.result().audit.passed


@pytest.mark.statistical
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_depth_and_spread_hold_through_a_calm_hour(seed: int) -> None:
    """Means over the hour; the spread is up to three times that of untouched quotes, since firms look each second or two."""
    calm = market(noise=True, volatility=0.42, seed=seed)
    spreads, depths = [], []
    for _ in range(179):
        calm.run_for("20s")
        spreads.append([calm.view()[name].spread_bps or math.nan for name in BOTH])
        depths.append([[depth_usd(calm, name, bps) for bps in (10.0, 100.0)] for name in BOTH])
    terms = makers(calm).config.books[PERP]
    closest = 2 * terms.half_spread[0] * terms.calm_volatility * math.sqrt(60 / YEAR) / BPS
    assert (np.nanmedian(spreads, axis=0) < 3 * closest).all()
    for found, given in zip(np.mean(depths, axis=0), BOTH.values(), strict=True):
        assert found == pytest.approx(given["depth_usd"] * np.array([0.1, 1.0]) ** terms.depth_exponent, rel=0.2)


# ------------------------------------------------------------------ inventory


def test_what_is_held_in_one_book_leans_the_quotes_in_the_other() -> None:
    calm, long = market(), market()
    most = makers(long)._state.quotes["most"]
    hold(long, most[:, 1] / 2)
    for each in (calm, long):
        each.run_for("3s")
    part = most[0, 1] / 2 / most[0].sum()
    shift = makers(long).config.lean * 0.42 * math.sqrt(60 / YEAR) * PRICE * part
    for name in BOTH:
        assert centres(calm, name) - centres(long, name) == pytest.approx(np.full(10, shift), rel=0.01)
        assert quoted_usd(long, name, Side.BUY) < 0.8 * quoted_usd(calm, name, Side.BUY)
        assert quoted_usd(long, name, Side.SELL) == pytest.approx(quoted_usd(calm, name, Side.SELL), rel=0.01)
    long.run_for("10min")
    assert makers(long)._state.quotes["fair"] == pytest.approx(np.full((10, 2), PRICE), rel=2e-5)  # no drift by leaning


def test_a_full_inventory_stops_the_side_that_adds_to_it_in_all_books_of_the_underlying() -> None:
    full = market(THREE)
    hold(full, makers(full)._state.quotes["most"][:, 1] * 1.15)
    full.run_for("3s")
    for name in BOTH:
        assert quoted_usd(full, name, Side.BUY) == 0.0
        assert quoted_usd(full, name, Side.SELL) > 0.0
    assert quoted_usd(full, ETHER, Side.BUY) > 0.0


def test_value_at_risk_limits_what_a_firm_quotes_and_is_shared_by_its_underlyings() -> None:
    share = 1e-4
    tight, busy = market(THREE, value_at_risk=share), market(THREE, value_at_risk=share)
    hourly = 0.42 * math.sqrt(3600 / YEAR)
    limit = share * 450e6 / (NINETY_NINE * hourly)
    hold(busy, np.full(10, limit / 2 / PRICE))
    for each in (tight, busy):
        each.run_for("3s")
    assert quoted_usd(tight, PERP, Side.BUY, 0) == pytest.approx(limit, rel=0.01)
    assert quoted_usd(busy, PERP, Side.BUY, 0) == pytest.approx(limit / 2, rel=0.01)
    assert quoted_usd(busy, ETHER, Side.BUY, 0) <= limit / 2


def test_value_at_risk_is_that_of_hours_and_not_of_a_rough_minute() -> None:
    share = 1e-4
    rough = market(value_at_risk=share)
    rough.run_for("1min")
    jump(rough, -0.005)
    rough.run_for("2min")
    state = makers(rough)._state
    of_late, lasting = (float(state.underlyings[name][0]) for name in ("sigma", "lasting"))
    assert of_late > 2 * lasting > 2 * float(state.underlyings["calm"][0])
    assert state.desks["limit"][0, 0] == pytest.approx(
        share * 450e6 / (NINETY_NINE * lasting * math.sqrt(60)), rel=0.01
    )


def test_trades_in_one_book_shift_the_quotes_of_the_other() -> None:
    both = market()
    both.run_for("3s")
    before = {name: both.view()[name].mid for name in BOTH}
    buyer = abm.Trader(both, "buyer", cash=100e6)
    both.house.set_terms(buyer.rows, PERP, 5)
    buyer.buy(PERP, 200.0)
    both.run_for("4s")
    bought = buyer.holdings(PERP)[0] * PRICE
    assert bought > 10e6
    terms, cross = makers(both).config.books[PERP], makers(both).config.cross
    learnt = terms.impact_bps * bought / 1e6
    # The quotes lean against the sale too, and follow the mids back.
    for name, part in ((SPOT, cross), (PERP, 1.0)):
        assert both.view()[name].mid / before[name] - 1 == pytest.approx(part * learnt * BPS, rel=0.2)


def test_flow_that_was_expected_of_a_book_teaches_nothing() -> None:
    taught = {}
    for weight in (0.0, 1.0):
        room = market({SPOT: BOTH[SPOT], PERP: BOTH[PERP] | {"expects": [weight, 0.0, 0.0]}})
        room.run_for("3s")
        buyer, total = abm.Trader(room, "buyer", cash=100e6), np.zeros(2)
        room.house.set_terms(buyer.rows, PERP, 5)
        for _ in range(120):
            buyer.buy(PERP, 1.0)
            buyer.buy(SPOT, 1.0)
            room.run_for("1s")
            total += makers(room)._state.books["flow"]
        taught[weight] = total
    assert (taught[0.0] < 0).all()
    # Steady flow F: F - w m with m' = (F - m) ln 2 / h, of which 2^(-t/h) is left after t with w = 1.
    half_life, span = 60.0, 120.0
    left = half_life / math.log(2.0) * (1.0 - 0.5 ** (span / half_life)) / span
    assert taught[1.0][1] == pytest.approx(left * taught[0.0][1], rel=0.05)
    assert taught[1.0][0] == pytest.approx(taught[0.0][0], rel=0.05)


# ------------------------------------------------------------------ withdrawal and return


def test_an_ordinary_move_leaves_most_of_the_depth() -> None:
    calm = market()
    calm.run_for("2min")
    full = {name: depth_usd(calm, name, 100.0) for name in BOTH}
    jump(calm, -0.003)  # five volatilities of a minute
    for _ in range(36):
        calm.run_for("5s")
        for name in BOTH:
            assert calm.view()[name].bid is not None
            assert depth_usd(calm, name, 100.0) > 0.4 * full[name]
    assert makers(calm).away.sum() <= 3
    assert calm.view()[PERP].mid == pytest.approx(PRICE * 0.997, rel=2e-4)


def test_those_with_an_obligation_stay_through_a_jump_and_the_others_return() -> None:
    rough = market()
    firms = makers(rough)
    rough.run_for("2min")
    full = depth_usd(rough, PERP, 100.0)
    jump(rough, -0.01)  # seventeen
    rough.run_for("40s")
    assert firms.away.sum() >= 5
    assert not firms.away[firms._state.firms["stays"]].any()
    assert 0 < depth_usd(rough, PERP, 100.0) < 0.15 * full
    rough.run_for("3min")
    assert not firms.away.any()
    returned = depth_usd(rough, PERP, 100.0)
    assert 0.05 * full < returned < 0.4 * full
    rough.run_for("10min")
    assert depth_usd(rough, PERP, 100.0) > 1.5 * returned


def test_a_violent_move_makes_all_step_back() -> None:
    crash = market()
    crash.run_for("2min")
    jump(crash, -0.02)
    crash.run_for("6s")
    assert makers(crash).away.all()
    assert crash.view()[SPOT].bid is None
    assert crash.view()[PERP].bid is None
    crash.run_for("5min")
    assert not makers(crash).away.any()
    assert depth_usd(crash, PERP, 100.0) > 0
    assert crash.view()[PERP].mid == pytest.approx(PRICE * 0.98, rel=5e-4)


def test_a_gap_between_the_books_of_an_underlying_alarms_the_firms() -> None:
    apart = market(reaction=[0, 0], stays=0)
    apart.run_for("3s")
    makers(apart)._state.books["premium"][1] = -0.006  # what is usual is no longer what is seen
    apart.run_for("3s")
    state = makers(apart)._state
    nervous = state.firms["gap_at"] < state.underlyings["gap"]
    assert 0 < nervous.sum() < 10
    assert np.array_equal(makers(apart).away[:, 0], nervous)


class Lone(abm.Trader):
    """Quotes spot 4.5 % below the price of the start while no firm does."""

    def act(self, view: View) -> None:
        if view.seconds > 60 and view[SPOT].bid is None:
            self.buy(SPOT, 100.0, 0.955 * PRICE - 5.0)
            self.sell(SPOT, 100.0, 0.955 * PRICE + 5.0)


def test_a_book_that_all_have_left_has_no_price_and_so_no_gap_to_another() -> None:
    left = market()
    Lone(left, cash=1e9, coins=1_000.0)
    left.run_for("2min")
    jump(left, -0.03)
    left.run_for("10s")
    assert makers(left).away.all()
    spot, perp = left.view()[SPOT], left.view()[PERP]
    assert perp.bid is None
    assert perp.mid > 1.014 * spot.mid  # the last that was known
    underlying = makers(left)._state.underlyings[0]
    assert underlying["gap"] == 0.0
    assert underlying["price"] == pytest.approx(spot.mid)


# ------------------------------------------------------------------ one capital


def test_a_loss_in_one_book_thins_all_others() -> None:
    even, hurt = market(THREE), market(THREE)
    # Bought 7.5 % above the market, a tenth of the capital loses half of the day's limit.
    hold(hurt, np.where(np.arange(10) == 0, 45e6 / PRICE, 0.0), entry=PRICE * 1.075)
    for each in (even, hurt):
        each.run_for("3s")
    assert quoted_usd(hurt, ETHER, Side.SELL, 0) == pytest.approx(0.5 * quoted_usd(even, ETHER, Side.SELL, 0), rel=0.02)
    assert quoted_usd(hurt, SPOT, Side.SELL, 0) == pytest.approx(0.5 * quoted_usd(even, SPOT, Side.SELL, 0), rel=0.02)
    assert quoted_usd(hurt, ETHER, Side.SELL, 1) == quoted_usd(even, ETHER, Side.SELL, 1)


def test_the_loss_limit_is_that_of_the_firm_and_makes_it_step_back_everywhere() -> None:
    hurt = market(THREE, stays=0)
    hold(hurt, np.where(np.arange(10) == 0, 45e6 / PRICE, 0.0), entry=PRICE * 1.16)
    hurt.run_for("3s")
    firms = makers(hurt)
    assert firms.away[0].all()
    assert not firms.away[1:].any()
    for name in THREE:
        assert len(resting(hurt, name, 0)) == 0
        assert len(resting(hurt, name, 1)) > 0
    hurt.run_for("125s")
    assert not firms.away.any()
    assert 0 < quoted_usd(hurt, ETHER, Side.SELL, 0) < 0.5 * quoted_usd(hurt, ETHER, Side.SELL, 1)


def test_losses_are_counted_anew_each_day() -> None:
    late = market(start="2026-02-04T23:59Z")
    hold(late, np.where(np.arange(10) == 0, 45e6 / PRICE, 0.0), entry=PRICE * 1.075)
    late.run_for("50s")
    before = quoted_usd(late, SPOT, Side.SELL, 0)
    late.run_for("80s")
    assert quoted_usd(late, SPOT, Side.SELL, 0) == pytest.approx(2 * before, rel=0.05)


# ------------------------------------------------------------------ the run, and the configuration


def test_the_firms_are_never_refused_and_the_same_seed_gives_the_same_run() -> None:
    hashes = []
    for seed in (1, 1, 2):
        busy = market(noise=True, volatility=0.42, seed=seed)
        seen = rejects(busy)
        busy.run_for("4min")
        assert not seen
        result = busy.result()
        assert result.audit.passed, result.audit.faults
        hashes.append(result.summary["event_log_hash"])
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_book_that_does_not_trade_is_left_alone() -> None:
    halted = {**INSTRUMENTS[ETHER], "opening": "halted"}
    shut = abm.Market(
        abm.load(
            "first-hour",
            instruments={**INSTRUMENTS, ETHER: halted},
            traders={**dict.fromkeys(abm.load("first-hour").traders), "market_makers": {"books": THREE}},
        )
    )
    seen = rejects(shut)
    shut.run_for("5s")
    assert not seen
    assert len(resting(shut, ETHER)) == 0
    assert len(resting(shut, SPOT)) > 0


def test_there_may_be_no_firms() -> None:
    empty = market(accounts=0, capital=[])
    empty.run_for("5s")
    assert empty.view()[SPOT].bid is None


def test_the_first_book_is_the_instrument_and_one_laid_over_with_nothing_is_left_out() -> None:
    config = MarketMakersConfig(books={SPOT: None, PERP: {"depth_usd": 1e6}})
    assert (config.instrument, list(config.books)) == (PERP, [PERP])
    assert MarketMakersConfig.model_validate(config.model_dump()) == config
    assert MarketMakersConfig().instrument == SPOT


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"accounts": 3}, "give one for each firm"),
        ({"instrument": PERP}, "books says what it trades"),
        ({"books": {SPOT: None}}, "at least 1 item"),
        ({"stay_sigmas": 5.0}, "raise stay_sigmas"),
        ({"look": (2.0, 1.0)}, "the smaller first"),
        ({"lean": 10.0, "books": {SPOT: {"depth_usd": 1e6, "half_spread": (0.001, 0.1)}}}, "above lean / 2000"),
    ],
)
def test_wrong_terms_are_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        MarketMakersConfig(**wrong)


@pytest.mark.parametrize(
    ("books", "says"),
    [
        ({"btc-sopt": {"depth_usd": 1e6}}, "not traded here"),
        ({**BOTH, PERP: {"depth_usd": 1e6, "calm_volatility": 0.5}}, "one calm_volatility"),
        ({SPOT: {"depth_usd": 1e6, "committed": 1.0}, ETHER: {"depth_usd": 1e6, "committed": 1.0}}, None),
    ],
)
def test_books_that_do_not_fit_the_market_are_refused(books: dict[str, Any], says: str | None) -> None:
    if says is None:  # all of the capital in coins is just possible
        assert makers(market(books)).cash == pytest.approx(0.0, abs=100.0)
        return
    with pytest.raises(ValueError, match=says):
        market(books)

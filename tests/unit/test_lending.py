"""A pool lends, liquidates and loses by the terms of MECHANICS 6 for ETH: LTV 80 %, threshold 83 %, bonus 5 %, close factor 50 %, 100 % under .95."""

import re
from typing import Any

import numpy as np
import pytest

from abm.clearing import Ledger
from abm.clearing.bids import Bids
from abm.clearing.lending import LendingPool, Pool
from abm.clearing.oracle import Oracle
from abm.exchange.exchange import Exchange
from abm.exchange.instrument import FeeTier, Instrument
from abm.exchange.messages import MESSAGE, Kind, Reason, Side, TimeInForce
from tests.reference.accounts import PlainAccounts, PlainLedger

ETH = Instrument(name="eth-spot", tick=0.01, lot=0.001, max_price=20_000, reference_price=2000.0)
TERMS = Pool(collateral="eth-spot", rate=0.0, gas=0.0, deviation=0.0)
USD, COIN = 1_000_000, 1_000  # money units, lots
BLOCK = 12 * 10**9
BORROWER, LIQUIDATOR, SUPPLIER, RICH = 0, 1, 2, 3


class Town:
    """A pool with a supplier, a borrower with 10 ETH, and a liquidator."""

    def __init__(self, terms: Pool = TERMS, exchange: Any = None, price: float = 2000.0, accounts: int = 6) -> None:
        self.exchange: Any = exchange or PlainAccounts([ETH], accounts)
        self.ledger: Any = Ledger(exchange) if isinstance(exchange, Exchange) else PlainLedger(self.exchange)
        everyone = np.arange(accounts, dtype=np.int32)
        self.ledger.credit(everyone, "opening", coins=10.0, instrument="eth-spot")
        self.ledger.credit(everyone[[LIQUIDATOR, SUPPLIER, RICH]], "opening", cash=[50_000, 100_000, 90_000])
        self.pool = LendingPool(self.exchange, self.ledger, terms, price)
        self.pool.supply(SUPPLIER, 100_000)
        self.at = 0

    def borrow(self, cash: float = 16_000.0) -> None:
        self.pool.deposit(BORROWER, 10.0)
        self.pool.borrow(BORROWER, cash)

    def block(self, mid: float, liquidators: Any = LIQUIDATOR, bids: Bids | None = None, blocks: int = 1) -> Any:
        self.at += blocks * BLOCK
        return self.pool.block(self.at, mid, liquidators, bids)

    def fall(self, price: float, liquidators: Any = LIQUIDATOR, bids: Bids | None = None) -> Any:
        """The oracle takes the price in one block, liquidators act in the next."""
        assert len(self.block(price, ()).seizures) == 0
        return self.block(price, liquidators, bids).seizures

    def check(self) -> None:
        pool, ledger = self.pool.audit(), self.ledger.audit()
        assert pool.faults == () and pool.residue == 0 and pool.passed
        assert ledger.faults == () and ledger.residue == 0


@pytest.fixture
def town() -> Town:
    return Town()


# ---------------------------------------------------------------------- health


def test_health_and_liquidation_price_by_hand(town: Town) -> None:
    town.borrow()
    assert town.pool.health(BORROWER).tolist() == [1.0375]  # 20 000 x .83 / 16 000
    assert town.pool.liquidation_price(BORROWER)[0] == pytest.approx(16_000 / 8.3)
    assert town.pool.health(SUPPLIER).tolist() == [np.inf]
    assert np.isnan(town.pool.liquidation_price(SUPPLIER)[0])
    assert town.exchange.accounts.cash[BORROWER] == 16_000 * USD
    assert town.exchange.accounts.position[BORROWER, 0] == 0
    assert town.pool.cash == 84_000 * USD and town.pool.lent == 16_000 * USD
    town.check()


def test_loan_to_value_is_a_limit_to_the_unit(town: Town) -> None:
    town.pool.deposit(BORROWER, 10.0)
    with pytest.raises(ValueError, match=r"pool: account 0 would owe more than 0\.8"):
        town.pool.borrow(BORROWER, 16_000.000001)
    town.pool.borrow(BORROWER, 16_000)
    with pytest.raises(ValueError, match="account 0 would have a health below 1"):
        town.pool.withdraw(BORROWER, 0.362)  # 9.638 x 2000 x .83 = 15 999.08
    town.pool.withdraw(BORROWER, 0.361)
    assert town.pool.health(BORROWER)[0] >= 1
    town.check()


def test_health_of_exactly_one_is_sound() -> None:
    town = Town()
    town.borrow(8_300.0)
    assert len(town.fall(1000.0)) == 0  # 10 x 1000 x .83 = 8300
    assert town.pool.health(BORROWER).tolist() == [1.0]
    assert len(town.fall(999.99)) == 1


# ---------------------------------------------------------------------- liquidation


def test_half_is_repaid_where_health_is_at_least_95_hundredths(town: Town) -> None:
    town.borrow()
    (one,) = town.fall(1900.0)
    assert one["health"] == pytest.approx(0.985625)
    assert one["repaid"] == 8_000 * USD
    assert one["seized"] == 4_421  # 8000 x 1.05 / 1900 = 4.42105
    assert one["gain"] == 4_421 * 1_900_000 - 8_000 * USD
    assert (one["bad_debt"], one["price"], one["block"], one["time"]) == (0, 1_900_000, 2, 2 * BLOCK)
    assert (one["borrower"], one["liquidator"]) == (BORROWER, LIQUIDATOR)
    assert town.pool.debt(BORROWER).tolist() == [8_000 * USD]
    assert town.pool.collateral(BORROWER).tolist() == [5_579]
    assert town.pool.health(BORROWER)[0] == pytest.approx(5.579 * 1900 * 0.83 / 8000)
    accounts = town.exchange.accounts
    assert accounts.cash[LIQUIDATOR] == 42_000 * USD and accounts.position[LIQUIDATOR, 0] == 14_421
    town.check()


def test_all_is_repaid_under_95_hundredths(town: Town) -> None:
    town.borrow()
    (one,) = town.fall(1800.0)  # health .93375
    assert (one["repaid"], one["seized"]) == (16_000 * USD, 9_333)  # 16 800 / 1800
    assert town.pool.debt(BORROWER).tolist() == [0] and town.pool.collateral(BORROWER).tolist() == [667]
    town.pool.withdraw(BORROWER, 0.667)
    town.check()


def test_exactly_95_hundredths_is_half() -> None:
    town = Town()
    town.borrow(8_300.0)
    (one,) = town.fall(950.0)
    assert one["health"] == 0.95 and one["repaid"] == 4_150 * USD


def test_bad_debt_is_a_recorded_default_with_its_payers(town: Town) -> None:
    town.borrow()
    town.pool.contribute(RICH, 500)
    (one,) = town.fall(1600.0)  # collateral of 16 000 buys off 16 000 / 1.05
    assert one["seized"] == 10_000 and one["repaid"] == 15_238_095_239
    assert one["bad_debt"] == 16_000 * USD - 15_238_095_239
    assert one["from_reserve"] == 500 * USD and one["from_suppliers"] == one["bad_debt"] - 500 * USD
    assert town.pool.reserve == 0 and town.pool.lent == 0
    assert town.pool.debt(BORROWER).tolist() == [0]
    assert town.pool.claim(SUPPLIER).tolist() == [100_000 * USD - int(one["from_suppliers"])]
    town.check()


def test_suppliers_lose_in_proportion(town: Town) -> None:
    town.borrow()
    town.pool.supply(RICH, 50_000)
    (one,) = town.fall(1600.0)
    lost = int(one["from_suppliers"])
    claims = town.pool.claim([SUPPLIER, RICH])
    assert 0 <= 150_000 * USD - lost - claims.sum() <= 2
    assert claims[0] == pytest.approx(2 * claims[1], abs=3)
    assert town.pool.redeem([SUPPLIER, RICH]).tolist() == claims.tolist()
    town.check()


def test_liquidators_act_in_the_block_after_the_oracle_and_borrowers_may_come_first(town: Town) -> None:
    town.borrow()
    assert len(town.block(1900.0).seizures) == 0  # the oracle moves at the end of this block
    assert town.pool.oracle.price == 1_900_000
    town.pool.repay(BORROWER, 1_000)
    assert town.pool.health(BORROWER)[0] > 1
    assert len(town.block(1900.0).seizures) == 0
    town.check()


def test_nothing_happens_between_blocks(town: Town) -> None:
    town.borrow()
    assert len(town.pool.block(BLOCK - 1, 1000.0, LIQUIDATOR).seizures) == 0
    assert town.pool.oracle.price == 2_000_000
    town.pool.block(BLOCK, 1000.0)
    assert town.pool.oracle.price == 1_000_000
    with pytest.raises(ValueError, match="block 0 is before block 1"):
        town.pool.block(BLOCK - 1, 1000.0)


def test_blocks_that_were_missed_see_the_market_of_the_call_before(town: Town) -> None:
    town.borrow()
    assert len(town.block(1600.0, blocks=5).seizures) == 0  # only the fifth saw 1600
    assert len(town.block(2000.0, blocks=5).seizures) == 1  # and its first follower acted on it


def test_repeated_halves_until_health_is_restored() -> None:
    town = Town(TERMS.model_copy(update={"close_factor": 0.05, "full_below": 0.0}))
    town.borrow()
    seizures = town.fall(1900.0)
    seizures = np.concatenate([seizures, town.block(1900.0, blocks=20).seizures])
    assert len(seizures) > 2
    assert (np.diff(seizures["health"]) > 0).all() and (seizures["health"] < 1).all()
    assert (np.diff(seizures["block"]) == 1).all()
    assert town.pool.health(BORROWER)[0] >= 1
    town.check()


# ---------------------------------------------------------------------- where liquidators act


def test_liquidators_stay_away_where_the_bonus_does_not_beat_slippage(town: Town) -> None:
    town.borrow()
    cost = 1_900_000 / 1.05 / ETH.unit  # ticks: 180 952.38
    below, above = Bids(np.array([180_952]), np.array([10**6])), Bids(np.array([180_955]), np.array([10**6]))
    assert below.price[0] < cost < above.price[0]
    assert len(town.fall(1900.0, bids=below)) == 0
    assert len(town.block(1900.0, bids=above).seizures) == 1
    town.check()


def test_they_take_only_as_many_lots_as_are_bid_for_above_cost(town: Town) -> None:
    town.borrow()
    bids = Bids(np.array([190_000, 181_000, 100_000]), np.array([1_000, 500, 10**6]))
    (one,) = town.fall(1900.0, bids=bids)
    assert one["seized"] == 1_500
    assert one["repaid"] == -(-1_500 * 1_900_000 * 100 // 105)
    town.check()


def test_what_one_sells_is_gone_for_the_next() -> None:
    town = Town()
    town.pool.deposit([0, 4], 10.0)
    town.pool.borrow([0, 4], [16_000, 15_990])
    bids = Bids(np.array([190_000]), np.array([6_000]))
    records = town.fall(1900.0, bids=bids)
    assert records["borrower"].tolist() == [0, 4]  # the worst health first
    assert records["seized"].tolist() == [4_421, 1_579]
    town.check()


def test_gas_keeps_them_from_small_loans() -> None:
    for gas, acts in ((399.0, True), (400.0, False)):  # the bonus is 5 % of 8000, less a fraction of a lot
        town = Town(TERMS.model_copy(update={"gas": gas}))
        town.borrow()
        records = town.fall(1900.0)
        assert len(records) == acts


def test_fees_of_the_venue_count() -> None:
    coin = ETH.model_copy(update={"fees": (FeeTier(taker=0.049),)})
    town = Town(exchange=PlainAccounts([coin], 6))
    town.borrow()
    assert len(town.fall(1900.0)) == 0  # 1.05 x .951 < 1
    town.check()


def test_they_pay_from_their_own_cash_and_the_richest_comes_first(town: Town) -> None:
    town.borrow()
    town.exchange.accounts.cash_reserved[RICH] = 89_000 * USD
    (one,) = town.fall(1900.0, [LIQUIDATOR, RICH])
    assert one["liquidator"] == LIQUIDATOR
    town = Town()
    town.borrow()
    town.exchange.accounts.cash_reserved[LIQUIDATOR] = 49_000 * USD
    (one,) = town.fall(1900.0)
    assert one["repaid"] == 1_000 * USD
    town.exchange.accounts.cash_reserved[LIQUIDATOR] = 0
    town.check()


def test_what_one_repaid_is_gone_for_the_next(town: Town) -> None:
    town.pool.deposit([0, 4], 10.0)
    town.pool.borrow([0, 4], [16_000, 15_990])
    town.exchange.accounts.cash_reserved[LIQUIDATOR] = 40_000 * USD
    assert town.fall(1900.0)["repaid"].tolist() == [8_000 * USD, 2_000 * USD]
    town.exchange.accounts.cash_reserved[LIQUIDATOR] = 0
    town.check()


def test_without_cash_nothing_is_looked_at_beyond_the_first(town: Town) -> None:
    town.pool.deposit([0, 4, 5], 10.0)
    town.pool.borrow([0, 4, 5], 16_000)
    town.exchange.accounts.cash_reserved[LIQUIDATOR] = 50_000 * USD
    assert len(town.fall(1900.0)) == 0 and town.pool.visited == 1


def test_nobody_liquidates_with_a_loan_of_its_own(town: Town) -> None:
    town.borrow()
    with pytest.raises(ValueError, match="account 0 cannot liquidate"):
        town.block(1900.0, BORROWER)


def test_an_oracle_behind_the_market_lets_a_loan_rot() -> None:
    # The oracle stands still within its deviation; at the market the collateral no longer pays for the debt and the bonus
    town = Town(TERMS.model_copy(update={"deviation": 0.06, "heartbeat": 1e6}))
    town.borrow(15_990.0)
    town.fall(1920.0)
    assert town.pool.oracle.price == 2_000_000
    town.fall(1870.0)
    assert town.pool.oracle.price == 1_870_000


def test_orders_that_sell_what_was_seized(town: Town) -> None:
    town.borrow()
    seizures = town.fall(1900.0)
    (order,) = town.pool.seized_sales(seizures, town.at)
    assert order["kind"] == Kind.LIMIT and order["tif"] == TimeInForce.IOC and order["side"] == Side.SELL
    assert (order["owner"], order["quantity"], order["reason"]) == (LIQUIDATOR, 4_421, Reason.LIQUIDATION)
    assert order["price"] == 180_953  # 1900 / 1.05, rounded up to a tick
    assert order["order"] > 0


# ---------------------------------------------------------------------- oracle and interest


def test_the_oracle_moves_beyond_its_deviation_or_with_its_heartbeat() -> None:
    oracle = Oracle(200_000, 0.005, 3600)
    assert not oracle.update(10, 199_000) and oracle.price == 200_000  # exactly .5 %
    assert oracle.update(20, 198_999) and oracle.price == 198_999
    assert not oracle.update(3619, 199_000)
    assert oracle.update(3620, 199_000) and oracle.moved == 3620
    assert not oracle.update(10**6, 0)  # a market without a price


def test_interest_accrues_to_suppliers_and_reserve() -> None:
    town = Town(TERMS.model_copy(update={"rate": 0.365, "reserve_factor": 0.25, "block": 86_400.0}))
    town.borrow(10_000.0)
    town.pool.block(86_400 * 10**9, 2000.0)
    assert town.pool.debt(BORROWER).tolist() == [10_010 * USD]
    assert town.pool.reserve == 2_500_000
    assert town.pool.claim(SUPPLIER).tolist() == [100_007_500_000]
    town.pool.block(2 * 86_400 * 10**9, 2000.0)
    assert town.pool.debt(BORROWER).tolist() == [10_020_010_000]  # compounded
    town.check()


def test_rounding_is_never_to_the_cost_of_others() -> None:
    town = Town(TERMS.model_copy(update={"rate": 0.37}))
    town.pool.supply(RICH, 1_000)
    town.borrow(10_000.0)
    town.block(2000.0, blocks=12_345)
    for _ in range(50):
        lent, claim = town.pool.lent, town.pool.claim(RICH)[0]
        town.pool.borrow(BORROWER, 1e-6)
        assert town.pool.lent >= lent + 1
        town.pool.redeem(SUPPLIER, 1e-6)
        town.pool.supply(SUPPLIER, 1e-6)
        town.pool.repay(BORROWER, 1e-6)
        assert town.pool.lent >= lent and town.pool.claim(RICH)[0] >= claim
    claim = town.pool.claim(RICH)[0]
    for _ in range(1_000):
        town.pool.redeem(SUPPLIER, 1e-6)
    assert town.pool.claim(RICH)[0] >= claim
    town.check()


def test_interest_makes_due_but_does_not_reorder() -> None:
    town = Town(TERMS.model_copy(update={"rate": 1.0, "block": 86_400.0}))
    town.pool.deposit([0, 4], 10.0)
    town.pool.borrow([4], 15_999)
    town.pool.borrow([0], 15_998)
    records = [town.pool.block(day * 86_400 * 10**9, 2000.0, LIQUIDATOR).seizures for day in range(1, 30)]
    due = np.concatenate(records)
    assert due["borrower"][:2].tolist() == [4, 0]
    town.check()


# ---------------------------------------------------------------------- deleveraging


def test_a_borrower_deleverages_to_its_target_before_it_is_liquidated(town: Town) -> None:
    town.borrow(13_000.0)
    town.pool.set_rule(BORROWER, trigger=1.15, target=1.3)
    accounts, ledger = town.exchange.accounts, town.ledger
    ledger.debit(np.array([0], np.int32), "spent", cash=12_000)
    assert len(town.block(1800.0).deleveraged) == 0  # acts in the block after: health 1.1492
    (act,) = town.block(1800.0).deleveraged
    assert act["repaid"] == 1_000 * USD
    # x = (H D - c p t) / (p (H - t)): (1.3 x 12 000 - 14 940) / (1800 x .47) = .78014, within 10 - 1.02 x 12 000 / (1800 x .83)
    assert act["lots"] == 781
    assert accounts.position[BORROWER, 0] == 781
    assert len(town.block(1800.0).deleveraged) == 0  # it waits for the sale
    (order,) = town.pool.deleveraging_sales(np.array([act]), town.at)
    assert (order["owner"], order["quantity"], order["reason"]) == (BORROWER, 781, Reason.DELEVERAGING)
    # sold at the oracle's price
    ledger.debit(np.array([0], np.int32), "sale", coins=0.781, instrument="eth-spot")
    ledger.credit(np.array([0], np.int32), "sale", cash=0.781 * 1800)
    (act,) = town.block(1800.0).deleveraged
    assert town.pool.health(BORROWER)[0] == pytest.approx(1.3, abs=1e-4)
    assert town.pool.health(BORROWER)[0] >= 1.3
    assert len(town.block(1800.0).deleveraged) == 0
    town.check()


def test_deleveraging_keeps_to_pace_and_floor() -> None:
    town = Town()
    town.borrow(15_000.0)
    town.ledger.debit(np.array([0], np.int32), "spent", cash=15_000)
    town.pool.set_rule(BORROWER, trigger=1.1, target=1.5, pace=720.0)  # .1 a block
    town.block(1900.0, ())
    acts = town.block(1900.0, (), blocks=30).deleveraged
    assert acts["lots"].tolist() == [100, 100, 98]  # 9.702 x 1900 x .83 is the floor of 1.02 x 15 000
    assert town.pool.health(BORROWER)[0] >= 1.02
    town.check()


def test_a_new_rule_takes_the_place_of_the_old_at_once(town: Town) -> None:
    town.borrow(15_000.0)
    town.ledger.debit(np.array([0], np.int32), "spent", cash=15_000)
    town.pool.set_rule(BORROWER, trigger=1.2, target=2.0, pace=720.0)
    assert len(town.block(2000.0, blocks=2).deleveraged) == 2
    town.pool.set_rule(BORROWER, trigger=1.01, target=2.0)
    assert len(town.block(2000.0, blocks=2).deleveraged) == 0
    town.check()


def test_a_rule_must_make_sense(town: Town) -> None:
    for trigger, target, floor in ((0.9, 1.2, 1.0), (1.2, 1.1, 1.0), (1.1, 1.2, 0.9), (1.1, np.nan, 1.0)):
        with pytest.raises(ValueError, match="account 4 needs 1 <= trigger <= target"):
            town.pool.set_rule([0, 4], [0.0, trigger], [0.0, target], floor=floor)
    town.borrow()
    town.pool.set_rule(BORROWER, 1.5, 2.0)
    town.pool.set_rule(BORROWER, 0.0, 0.0)
    assert len(town.block(2000.0, blocks=3).deleveraged) == 0


# ---------------------------------------------------------------------- verbs refuse


def test_verbs_name_the_account_and_do_nothing(town: Town) -> None:
    town.borrow(10_000.0)
    pool = town.pool
    before = town.exchange.accounts.cash.tolist(), town.exchange.accounts.position.tolist()
    for call, words in (
        (lambda: pool.supply([SUPPLIER, 4], 1.0), "account 2 has not so much free"),
        (lambda: pool.redeem(SUPPLIER, 100_001), "account 2 has not so much in the pool"),
        (lambda: pool.redeem(SUPPLIER, 95_000), "account 2: the pool has 90000000000 money units"),
        (lambda: pool.deposit([RICH, 4], [1.0, 10.001]), "account 4 has not so much free"),
        (lambda: pool.withdraw(BORROWER, 10.001), "account 0 has not so much collateral"),
        (lambda: pool.borrow([RICH], 1.0), "account 3 would owe more"),
        (lambda: pool.deposit([RICH, RICH], 1.0), "account 3 stands there twice"),
        (lambda: pool.deposit(77, 1.0), "no account 77"),
        (lambda: pool.deposit(-1, 1.0), "no account -1"),
        (lambda: pool.deposit(RICH, float("nan")), "account 3: an amount must lie"),
        (lambda: pool.deposit([RICH, 4], [1.0, -1.0]), "account 4: an amount must lie"),
        (lambda: pool.deposit([RICH, 4], [1.0, 1.0, 1.0]), "3 amounts for 2 accounts"),
        (lambda: pool.deposit([0.5], 1.0), "accounts are whole numbers"),
    ):
        with pytest.raises(ValueError, match=words):
            call()
        assert (town.exchange.accounts.cash.tolist(), town.exchange.accounts.position.tolist()) == before
        town.check()


def test_repaying_takes_no_more_than_is_owed(town: Town) -> None:
    town.borrow(10_000.0)
    town.ledger.credit(np.array([0], np.int32), "gift", cash=5_000)
    assert town.pool.repay(BORROWER, 2_500.5).tolist() == [2_500_500_000]
    assert town.pool.repay(BORROWER, 1e9).tolist() == [7_499_500_000]
    assert town.pool.repay(BORROWER).tolist() == [0]
    assert town.exchange.accounts.cash[BORROWER] == 5_000 * USD
    town.check()


def test_sums_beyond_what_a_float_counts_exactly_are_kept_to_the_unit() -> None:
    town = Town()
    town.exchange.accounts.cash[:] = 0
    town.ledger = PlainLedger(town.exchange)
    town.exchange.accounts.position[:] = 0
    odd = 8_616_150_193_812_131
    assert round(odd / USD * USD) != odd  # so many units do not survive a float of currency
    town.exchange.accounts.cash[SUPPLIER] = odd
    pool = LendingPool(town.exchange, town.ledger, TERMS, 2000.0)
    pool._moves.take(np.array([SUPPLIER], np.int32), "supply", units=odd)
    assert town.exchange.accounts.cash[SUPPLIER] == 0
    pool._moves.give(np.array([SUPPLIER], np.int32), "supply", units=odd)
    assert town.exchange.accounts.cash[SUPPLIER] == odd
    with pytest.raises(ValueError, match="account 2"):
        pool._moves.take(np.array([SUPPLIER], np.int32), "supply", units=odd + 1)
    assert town.exchange.accounts.cash[SUPPLIER] == odd


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        ({"loan_to_value": 0.85}, "loan_to_value must not be above"),
        ({"bonus": 0.21}, "must be below 1"),
        ({"blok": 12}, "Extra inputs"),
    ],
)
def test_terms_must_make_sense(terms: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Pool(collateral="eth-spot", **terms)


def test_collateral_must_be_spot_and_have_a_price() -> None:
    with pytest.raises(ValueError, match="collateral must be spot"):
        Town(exchange=PlainAccounts([ETH.model_copy(update={"kind": "perpetual"})], 6))
    with pytest.raises(ValueError, match="at least one money unit"):
        Town(price=0.0)


# ---------------------------------------------------------------------- order and cost


def crowd(order: np.ndarray, n: int, capital: float = 3e6) -> tuple[Town, np.ndarray]:
    """A pool in which account `order[i]` has the i-th loan; the three accounts after them are liquidator, supplier and another."""
    rng = np.random.default_rng(7)
    town = Town.__new__(Town)
    town.exchange, town.at = PlainAccounts([ETH], n + 3), 0
    town.ledger = PlainLedger(town.exchange)
    coins, share = rng.integers(1, 50, n) + rng.integers(1, 1000, n) / 1000, 0.3 + 0.5 * rng.random(n)
    town.ledger.credit(order.astype(np.int32), "opening", coins=coins, instrument="eth-spot")
    town.ledger.credit(np.array([n, n + 1], np.int32), "opening", cash=[capital, 1e12 - 1])
    town.pool = LendingPool(town.exchange, town.ledger, TERMS.model_copy(update={"rate": 0.05, "gas": 30.0}), 2000.0)
    town.pool.supply(n + 1, 1e12 - 1)
    town.pool.deposit(order, coins)
    town.pool.borrow(order, np.floor(coins * 2000 * share))
    return town, coins


def test_numbering_of_accounts_does_not_matter() -> None:
    n, rng = 300, np.random.default_rng(3)
    ends = []
    for order in (np.arange(n), rng.permutation(n), np.arange(n)[::-1]):
        town, _ = crowd(order, n, 6e6)
        back = np.argsort(order)
        records = []
        for price in (1900.0, 1700.0, 1200.0, 1100.0, 1400.0):
            bids = Bids(np.arange(int(price * 100), 1, -1_000), np.full(int(price) // 10, 50_000))
            town.block(price, n, bids)
            seizures = town.block(price, n, bids).seizures
            records += [(back[s["borrower"]], *s.item()[:10]) for s in seizures]
        accounts = town.exchange.accounts
        assert len(records) > 50 and any(r[7] for r in records)
        ends.append(
            (records, town.pool.debt(order).tolist(), town.pool.collateral(order).tolist(), accounts.cash[n:].tolist())
        )
        town.check()
    assert ends[0] == ends[1] == ends[2]


def test_a_block_looks_only_at_what_is_due() -> None:
    n = 100_000
    town, _ = crowd(np.arange(n), n, 1e10)
    town.block(1999.0, n)
    town.block(1999.0, n, blocks=50)
    assert town.pool.visited == 0
    prices = town.pool.liquidation_price(np.arange(n))
    price = float(np.sort(prices)[-200])
    town.block(price, n)
    seizures = town.block(price, n).seizures
    assert 0 < len(seizures) <= town.pool.visited <= 200
    assert town.pool.visited == np.count_nonzero(prices > town.pool.oracle.price / COIN)
    town.check()


def test_the_order_of_liquidation_does_not_grow_with_time(town: Town) -> None:
    town.borrow(1_000.0)
    for _ in range(5_000):
        town.pool.withdraw(BORROWER, 0.001)
    assert len(town.pool._by_health._heap) < 1_100


def test_nothing_is_looked_at_where_liquidators_cannot_act() -> None:
    n = 1_000
    town, _ = crowd(np.arange(n), n)
    assert len(town.fall(1000.0, n, Bids(np.array([10]), np.array([1])))) == 0
    assert town.pool.visited <= 1


# ---------------------------------------------------------------------- audit


@pytest.mark.parametrize(
    ("tamper", "words"),
    [
        (lambda t: setattr(t.pool, "cash", t.pool.cash + 1), r"cash: .* \(\+1\)"),
        (lambda t: np.add.at(t.pool._lots, 0, -1), "collateral: 9999 lots are not the 10000"),
        (lambda t: np.add.at(t.pool._shares, 0, 5), "debts: .* shares"),
        (
            lambda t: (np.add.at(t.pool._shares, 0, 5), setattr(t.pool, "_all_shares", t.pool._all_shares + 5)),
            "debts: ",
        ),
        (lambda t: np.add.at(t.pool._parts, 2, -5), "parts: "),
        (
            lambda t: (np.add.at(t.pool._lots, 0, -10_000), np.add.at(t.pool._lots, 4, 10_000)),
            "account 0: owes without",
        ),
        (lambda t: setattr(t.pool, "reserve", -1), "reserve: -1"),
    ],
)
def test_what_is_changed_behind_its_back_is_found(town: Town, tamper: Any, words: str) -> None:
    town.borrow()
    town.check()
    tamper(town)
    audit = town.pool.audit()
    assert not audit.passed
    assert any(re.match(words, fault) for fault in audit.faults), audit.faults


# ---------------------------------------------------------------------- with the real exchange


def test_a_liquidation_sold_into_the_book() -> None:
    exchange = Exchange([ETH], accounts=6, ledger=True)
    town = Town(exchange=exchange)
    town.borrow()
    bids = np.zeros(3, MESSAGE)
    bids["kind"], bids["owner"], bids["side"], bids["tif"] = Kind.LIMIT, RICH, Side.BUY, TimeInForce.GTC
    bids["price"], bids["quantity"], bids["order"] = [190_000, 181_000, 150_000], [2_000, 1_000, 5_000], [1, 2, 3]
    exchange.match(bids)
    seizures = town.fall(1900.0, bids=Bids.of(exchange, "eth-spot"))
    assert seizures["seized"].tolist() == [3_000]
    orders = town.pool.seized_sales(seizures, town.at)
    report = exchange.match(orders)
    assert report.trades["quantity"].tolist() == [2_000, 1_000]
    assert (report.trades["taker_reason"] == Reason.LIQUIDATION).all()
    profit = exchange.accounts.cash[LIQUIDATOR] - 50_000 * USD
    assert profit == 2_000 * 1_900_000 + 1_000 * 1_810_000 - int(seizures["repaid"][0]) > 0
    assert exchange.accounts.position[LIQUIDATOR, 0] == 10_000
    town.check()


def test_a_deleveraging_sold_into_the_book() -> None:
    exchange = Exchange([ETH], accounts=6, ledger=True)
    town = Town(exchange=exchange)
    town.borrow(14_000.0)
    town.ledger.debit(np.array([0], np.int32), "spent", cash=14_000)
    town.pool.set_rule(BORROWER, trigger=1.15, target=1.25)
    bid = np.zeros(1, MESSAGE)
    bid["kind"], bid["owner"], bid["side"], bid["price"], bid["quantity"] = Kind.LIMIT, RICH, Side.BUY, 190_000, 9_000
    bid["order"] = 1
    exchange.match(bid)
    sold = 0
    for _ in range(12):
        acts = town.block(1900.0).deleveraged
        if len(acts):
            sold += int(exchange.match(town.pool.deleveraging_sales(acts, town.at)).trades["quantity"].sum())
    assert sold > 0 and town.pool.health(BORROWER)[0] >= 1.25
    assert exchange.accounts.position[BORROWER, 0] == 0
    assert town.pool.health(BORROWER)[0] < 1.26
    town.check()

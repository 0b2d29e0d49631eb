"""A hub fails: who is frozen, who gets what, and that every unit of it has two sides."""

from typing import Any

import numpy as np
import pytest

from abm.clearing import Ledger
from abm.clearing.hub import CreditHub
from abm.exchange.exchange import Exchange
from abm.exchange.gateway import Batch, Gateway
from abm.exchange.instrument import Instrument
from abm.exchange.messages import MESSAGE, Kind, Reason, Reject, Side, TimeInForce
from tests.reference.accounts import PlainAccounts, PlainLedger

BTC = Instrument(name="btc-spot", tick=0.01, lot=0.001, max_price=250_000, reference_price=60_000.0)
USD = 1_000_000
HOUR = 3_600 * 10**9
HUB, FUND, LENDER, ANN, BOB, CAROL, BUYER = range(7)


class Town:
    """A hub that lent half of what it owes to a fund, which bought coins with it."""

    def __init__(
        self, exchange: Any = None, cash: dict[int, float] | None = None, coins: dict[int, float] | None = None
    ) -> None:
        self.exchange: Any = exchange or PlainAccounts([BTC], 7)
        self.ledger: Any = Ledger(exchange) if isinstance(exchange, Exchange) else PlainLedger(self.exchange)
        cash = {ANN: 600_000, BOB: 400_000, CAROL: 50_000} if cash is None else cash
        for row, amount in cash.items():
            self.ledger.credit(np.array([row], np.int32), "opening", cash=amount)
        for row, amount in (coins or {}).items():
            self.ledger.credit(np.array([row], np.int32), "opening", coins=amount, instrument="btc-spot")
        self.hub = CreditHub(self.exchange, self.ledger, "hub", HUB, custody=[ANN, CAROL])

    def spend(self, row: int, cash: float) -> None:
        self.ledger.debit(np.array([row], np.int32), "spent", cash=cash)

    def check(self, *hubs: CreditHub) -> None:
        for hub in (self.hub, *hubs):
            audit = hub.audit()
            assert audit.faults == () and audit.residue == 0 and audit.passed
        ledger = self.ledger.audit()
        assert ledger.faults == () and ledger.residue == 0

    def cash(self, *rows: int) -> list[int]:
        return [int(self.exchange.accounts.cash[row]) for row in rows]


@pytest.fixture
def town() -> Town:
    town = Town()
    town.hub.deposit([ANN, BOB], [500_000, 400_000])
    town.hub.lend(FUND, 450_000)
    return town


def test_books_of_a_sound_hub(town: Town) -> None:
    hub = town.hub
    assert hub.claims[[ANN, BOB]].tolist() == [500_000 * USD, 400_000 * USD] and hub.loans[FUND] == 450_000 * USD
    assert town.cash(HUB, FUND, ANN, BOB) == [450_000 * USD, 450_000 * USD, 100_000 * USD, 0]
    hub.withdraw(ANN, 400_000)
    hub.repay(FUND, 1e9)  # takes what is owed
    assert hub.loans.sum() == 0 and hub.claims.sum() == 500_000 * USD
    town.check()


def test_verbs_name_the_account_and_do_nothing(town: Town) -> None:
    hub = town.hub
    for call, words in (
        (lambda: hub.withdraw([ANN, BOB], [1, 400_001]), "account 4 has no such claim"),
        (lambda: hub.withdraw([BOB, ANN], [400_000, 50_001]), "account 3 cannot be paid"),
        (lambda: hub.lend([CAROL, FUND], [450_000, 1]), "account 1 cannot be lent"),
        (lambda: hub.deposit(HUB, 1), "account 0 is the hub's own"),
        (lambda: hub.lend(HUB, 1), "account 0 is the hub's own"),
        (lambda: hub.deposit(BOB, 1), "account 4 has not so much free"),
        (lambda: hub.deposit(BOB, -1), "account 4: an amount"),
    ):
        with pytest.raises(ValueError, match=words):
            call()
        town.check()
    assert hub.claims.sum() == 900_000 * USD and hub.loans.sum() == 450_000 * USD


def test_a_collapse_cuts_claims_by_what_is_left(town: Town) -> None:
    town.spend(FUND, 270_000)  # of 450 000 the fund has 180 000
    resolution = town.hub.fail(0)
    # custody: Ann's 100 000 and Carol's 50 000 are claims like others now: 1 050 000 against 450 000 + 150 000 + 180 000
    records = resolution.settle(HOUR)
    rate = 780_000 / 1_050_000
    assert town.cash(FUND, HUB)[0] == 0 and 0 <= town.cash(HUB)[0] <= 3
    paid = [int(600_000 * USD * rate), int(400_000 * USD * rate), int(50_000 * USD * rate)]
    assert np.abs(np.array(town.cash(ANN, BOB, CAROL)) - paid).max() <= 1
    assert (records["due"] == records["paid"] + records["lost"]).all()
    default = records[records["is_loan"]]
    assert (default["debtor"].tolist(), default["lost"].tolist()) == ([FUND], [270_000 * USD])
    assert town.hub.claims.sum() == 0 and town.hub.loans.sum() == 0 and town.hub.state == "closed"
    row = resolution.table().loc["hub"]
    assert (row["mode"], row["wave"], row["creditors"]) == ("collapse", 0, 3)
    assert (row["claims"], row["loans"], row["defaulted"]) == (1_050_000, 450_000, 270_000)
    assert row["recovery"] == pytest.approx(rate) and row["paid"] + row["lost"] == pytest.approx(1_050_000)
    town.check()
    assert len(resolution.settle(2 * HOUR)) == 0 and len(resolution.sales(0, {"btc-spot": 1.0})) == 0


def test_a_hub_with_enough_pays_all(town: Town) -> None:
    resolution = town.hub.fail(0)
    resolution.settle(1)
    assert town.cash(ANN, BOB, CAROL, HUB, FUND) == [600_000 * USD, 400_000 * USD, 50_000 * USD, 0, 0]
    assert resolution.table().loc["hub", "recovery"] == 1.0
    town.check()


def test_withdrawals_stop_and_custody_is_frozen_until_it_is_over(town: Town) -> None:
    resolution = town.hub.fail(0)
    assert np.flatnonzero(resolution.frozen).tolist() == [ANN, CAROL]
    for verb in (town.hub.withdraw, town.hub.deposit, town.hub.lend):
        with pytest.raises(ValueError, match="hub: account 3: the hub is frozen"):
            verb(ANN, 1.0)
    town.hub.repay(FUND, 10.0)
    with pytest.raises(ValueError, match="is frozen already"):
        town.hub.fail(0)
    messages = np.zeros(6, MESSAGE)
    messages["owner"] = [ANN, ANN, BOB, CAROL, -1, 3_000_000]
    messages["kind"] = [Kind.LIMIT, Kind.CANCEL, Kind.MARKET, Kind.STOP, Kind.LIMIT, Kind.LIMIT]
    assert resolution.refused(messages).tolist() == [True, False, False, True, False, False]
    cancel = resolution.cancellations(5)
    assert cancel["owner"].tolist() == [ANN, CAROL] and (cancel["kind"] == Kind.MASS_CANCEL).all()
    resolution.settle(1)
    assert not resolution.frozen.any()


def test_an_orderly_end_pays_in_full_while_assets_last(town: Town) -> None:
    town.spend(FUND, 270_000)
    resolution = town.hub.fail(0, "orderly", duration=4 * 3_600)
    assert not resolution.frozen.any() and town.hub.state == "winding down"
    with pytest.raises(ValueError, match="the hub is winding down"):
        town.hub.lend(BOB, 1)
    records = resolution.settle(HOUR)
    assert (records["lost"] == 0).all()
    assert town.hub.claims[[ANN, BOB]].tolist() == [375_000 * USD, 300_000 * USD]  # a quarter, in full
    assert town.hub.loans[FUND] == 337_500 * USD
    town.hub.withdraw(BOB, 100_000)  # in full, while there is cash
    resolution.settle(2 * HOUR)
    assert town.hub.claims[[ANN, BOB]].tolist() == [250_000 * USD, 200_000 * USD]
    resolution.settle(3 * HOUR)
    last = resolution.settle(5 * HOUR)
    assert resolution.over and town.hub.state == "closed"
    # 900 000 of claims against 450 000 + 180 000; custody is not touched
    row = resolution.table().loc["hub"]
    assert row["paid"] == pytest.approx(630_000) and row["lost"] == pytest.approx(270_000)
    assert last["lost"].sum() == 540_000 * USD  # the fund's default, and what it costs the creditors
    assert town.cash(CAROL) == [50_000 * USD]
    town.check()


def test_time_goes_by_without_harm(town: Town) -> None:
    resolution = town.hub.fail(10 * HOUR, "orderly", duration=3_600)
    assert len(resolution.settle(9 * HOUR)) == 0
    resolution.settle(11 * HOUR)
    assert town.hub.claims.sum() == 0
    town.check()


@pytest.mark.parametrize(("mode", "duration"), [("collapse", 5.0), ("orderly", 0.0), ("soft", 0.0)])
def test_a_mode_needs_its_duration(town: Town, mode: Any, duration: float) -> None:
    with pytest.raises(ValueError, match="needs a duration"):
        town.hub.fail(0, mode, duration=duration)
    assert town.hub.state == "open"


def test_another_hub_falls_with_it_and_one_that_can_pay_does_not() -> None:
    town = Town(cash={ANN: 0, BOB: 900_000, CAROL: 300_000, BUYER: 500_000})
    lender = CreditHub(town.exchange, town.ledger, "lender", LENDER)
    sound = CreditHub(town.exchange, town.ledger, "sound", FUND)
    sound.deposit(BUYER, 500_000)
    lender.deposit(BOB, 900_000)
    town.hub.deposit(CAROL, 300_000)
    town.hub.lend([LENDER, FUND], [200_000, 50_000])
    town.spend(LENDER, 1_000_000)
    assert town.cash(LENDER, FUND, HUB) == [100_000 * USD, 550_000 * USD, 50_000 * USD]
    resolution = town.hub.fail(0, others=[lender, sound])
    resolution.settle(1)
    assert resolution.waves == [("hub",), ("lender",)]
    # the lender owes 900 000 + 200 000 and has 100 000: 1/11; the hub has 50 000 + 50 000 + 200 000 / 11
    assert town.cash(BOB)[0] == -(-900_000 * USD // 11)  # shared out to the unit: the odd one goes to the last
    assert town.cash(CAROL)[0] == pytest.approx((100_000 + 200_000 / 11) * USD, abs=3)
    assert sound.state == "open" and sound.claims[BUYER] == 500_000 * USD and town.cash(FUND) == [500_000 * USD]
    table = resolution.table()
    assert table["wave"].to_dict() == {"hub": 0, "lender": 1}
    assert table.loc["lender", "recovery"] == pytest.approx(1 / 11)
    town.check(lender, sound)


@pytest.mark.parametrize("spent", [0, 50])
def test_hubs_that_owe_each_other(spent: float) -> None:
    town = Town(cash={BOB: 100, CAROL: 100})
    lender = CreditHub(town.exchange, town.ledger, "lender", LENDER)
    town.hub.deposit(CAROL, 100)
    lender.deposit(BOB, 100)
    town.hub.lend(LENDER, 60)
    lender.lend(HUB, 90)
    town.spend(HUB, 125)  # the hub has 100 - 60 + 90 - 125 = 5 and owes 100 + 90
    town.spend(LENDER, spent)  # the lender has 100 + 60 - 90 = 70 less that, and owes 60 and to Bob 100
    resolution = town.hub.fail(0, others=[lender])
    resolution.settle(1)
    if not spent:  # it pays its 60, and gets 90/190 of the hub's 65
        assert resolution.waves == [("hub",)] and lender.state == "open"
        assert town.cash(CAROL)[0] == pytest.approx(65 * 100 / 190 * USD, abs=3)
        assert town.cash(LENDER)[0] == pytest.approx((10 + 65 * 90 / 190) * USD, abs=3)
        assert lender.claims[BOB] == 100 * USD and lender.loans.sum() == 0
        assert resolution.records["lost"][resolution.records["is_loan"]].sum() == pytest.approx(
            125 * 90 / 190 * USD, abs=3
        )
    else:  # p = 5 + q 60/160, q = 20 + p 90/190
        p = (5 + 20 * 0.375) / (1 - 0.375 * 9 / 19)
        q = 20 + p * 9 / 19
        assert resolution.waves == [("hub",), ("lender",)]
        assert town.cash(CAROL)[0] == pytest.approx(p * 100 / 190 * USD, abs=3)
        assert town.cash(BOB)[0] == pytest.approx(q * 100 / 160 * USD, abs=3)
    town.check(lender)


def test_what_a_failed_hub_has_at_another_comes_back() -> None:
    town = Town(cash={BOB: 100, CAROL: 100})
    lender = CreditHub(town.exchange, town.ledger, "lender", LENDER)
    lender.deposit(BOB, 100)
    town.hub.deposit(CAROL, 100)
    lender.deposit(HUB, 80)
    town.spend(HUB, 20)
    town.hub.fail(0, "orderly", duration=100.0, others=[lender]).settle(50 * 10**9)
    assert lender.claims[HUB] == 40 * USD and town.hub.claims[CAROL] == 60 * USD and town.cash(CAROL) == [40 * USD]
    town.check(lender)


def test_an_orderly_end_sells_by_and_by_and_debtors_sell_what_they_miss() -> None:
    town = Town(coins={HUB: 4.0, FUND: 6.0})
    town.hub.deposit(BOB, 400_000)
    town.hub.lend(FUND, 300_000)
    town.spend(FUND, 280_000)  # 20 000 left
    for mode, duration, lots in (("orderly", 4 * 3_600.0, [1_100, 1_000]), ("collapse", 0.0, [5_600, 4_000])):
        town.hub.state = "open"
        resolution = town.hub.fail(0, mode, duration=duration)  # type: ignore[arg-type]
        orders = resolution.sales(HOUR, {"btc-spot": 62_500.0}, discount=0.2)  # at no less than 50 000
        assert orders["owner"].tolist() == [FUND, HUB]
        assert orders["quantity"].tolist() == lots  # a quarter of 300 000, or all, less 20 000
        assert (orders["price"] == 5_000_000).all() and (orders["kind"] == Kind.LIMIT).all()
        assert (orders["tif"] == TimeInForce.IOC).all() and (orders["side"] == Side.SELL).all()
    anywhere = resolution.sales(HOUR, {"btc-spot": 62_500.0}, discount=1.0)
    assert (anywhere["kind"] == Kind.MARKET).all() and anywhere["quantity"].tolist() == [4_480, 4_000]


def test_house_accounts_are_not_frozen() -> None:
    town = Town()
    lender = CreditHub(town.exchange, town.ledger, "lender", LENDER)
    hub = CreditHub(town.exchange, town.ledger, "other", HUB, custody=[LENDER, BOB])
    assert np.flatnonzero(hub.fail(0, others=[lender]).frozen).tolist() == [BOB]


def test_two_hubs_need_two_accounts(town: Town) -> None:
    twin = CreditHub(town.exchange, town.ledger, "twin", HUB)
    with pytest.raises(ValueError, match="one house account"):
        town.hub.fail(0, others=[twin])
    with pytest.raises(ValueError, match="account 0 is the hub's own"):
        CreditHub(town.exchange, town.ledger, "own", HUB, custody=[HUB])


def test_numbering_of_accounts_does_not_matter() -> None:
    rng, ends = np.random.default_rng(1), []
    for order in (np.arange(40), rng.permutation(40)):
        exchange: Any = PlainAccounts([BTC], 40)
        ledger: Any = PlainLedger(exchange)
        amounts = np.random.default_rng(2).integers(1, 10**9, 40) / USD
        ledger.credit(order.astype(np.int32), "opening", cash=amounts)
        hub = CreditHub(exchange, ledger, "hub", int(order[0]))
        hub.deposit(order[1:], amounts[1:])
        hub.lend(order[1:20], 100.0)
        ledger.debit(order[1:15].astype(np.int32), "spent", cash=np.linspace(50, 100, 14))
        hub.fail(0).settle(1)
        ends.append(exchange.accounts.cash[order].tolist())
    assert ends[0] == ends[1]


# ---------------------------------------------------------------------- with the real exchange


def bids(exchange: Exchange, owner: int, levels: list[tuple[float, float]]) -> None:
    rows = np.zeros(len(levels), MESSAGE)
    rows["kind"], rows["side"], rows["owner"], rows["tif"] = Kind.LIMIT, Side.BUY, owner, TimeInForce.GTC
    rows["time"] = max(exchange.time, 0)
    rows["price"], rows["quantity"] = [round(p * 100) for p, _ in levels], [round(q * 1000) for _, q in levels]
    rows["order"] = exchange.take_ids(len(levels)) + np.arange(len(levels))
    exchange.match(rows)


def real_town() -> Town:
    """The hub lent 450 000 to a fund that has 6 coins and no cash, and has 4 coins itself; bids are thin, and come back by the hour."""
    exchange = Exchange([BTC], accounts=7, ledger=True)
    cash = {ANN: 600_000, BOB: 400_000, CAROL: 50_000, BUYER: 2_000_000}
    town = Town(exchange, cash=cash, coins={FUND: 6.0, HUB: 4.0})
    town.hub.deposit([ANN, BOB], [500_000, 400_000])
    town.hub.lend(FUND, 450_000)
    town.spend(FUND, 450_000)
    town.spend(HUB, 300_000)  # cash 150 000
    return town


def test_collapse_against_orderly_end() -> None:
    book = [(60_000.0, 1.0), (55_000.0, 2.0), (40_000.0, 20.0)]
    tables = []
    for mode, duration in (("collapse", 0.0), ("orderly", 10 * 3_600.0)):
        town = real_town()
        resolution = town.hub.fail(0, mode, duration=duration)  # type: ignore[arg-type]
        town.exchange.match(resolution.cancellations(0)) if mode == "collapse" else None
        for hour in range(1, 11):
            bids(town.exchange, BUYER, [(p, q) for p, q in book if hour == 1 or p > 50_000])
            orders = resolution.sales(hour * HOUR, {"btc-spot": 60_000.0}, discount=0.4)
            report = town.exchange.match(orders)
            assert (report.trades["taker_reason"] == Reason.DELEVERAGING).all()
            resolution.settle(hour * HOUR)
        assert resolution.over
        tables.append(resolution.table().loc["hub"])
        town.check()
    collapse, orderly = tables
    assert (collapse["mode"], orderly["mode"]) == ("collapse", "orderly")
    assert collapse["recovery"] < orderly["recovery"] <= 1
    assert collapse["defaulted"] > orderly["defaulted"]


def test_frozen_accounts_are_turned_away_at_the_gateway_and_their_orders_end() -> None:
    town = real_town()
    bids(town.exchange, ANN, [(50_000.0, 1.0)])
    assert town.exchange.accounts.cash_reserved[ANN] > 0
    resolution = town.hub.fail(0)
    gateway = Gateway(town.exchange, frozen=resolution.refused)
    order = np.zeros(2, MESSAGE)
    order["kind"], order["owner"], order["price"], order["quantity"] = Kind.LIMIT, [ANN, BUYER], 5_000_000, 1
    order["order"] = town.exchange.take_ids(2) + np.arange(2)
    tape = gateway.arrange([Batch(resolution.cancellations(0)), Batch(order)], HOUR)
    outcomes = town.exchange.match(tape).outcomes
    assert sorted(outcomes["reject"])[-2:] == [Reject.NONE, Reject.FROZEN]
    assert town.exchange.accounts.cash_reserved[ANN] == 0 and town.exchange.accounts.cash_reserved[BUYER] > 0
    resolution.settle(HOUR)
    assert town.cash(ANN)[0] < 600_000 * USD
    town.check()

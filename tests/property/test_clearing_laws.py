"""Laws that every clearing house obeys whatever is sent to it. They look only at what an exchange shows from outside.

Each law takes `make(instruments, accounts=, ledger=)`: the twin or the engine. The last part says that the random histories
reach all that clearing can do.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from abm.clearing.rules import initial_rate
from abm.exchange.description import NS, PPM
from abm.exchange.messages import ANONYMOUS, Flag, Forced, Phase, Records, Reject, Side, Status, What
from tests.property.test_clearing_twin import ClearedEngine
from tests.property.test_twin_laws import ORDERS, Answer, clock, resting, send
from tests.reference.clearing import Terms, notional, part, read_terms, value
from tests.reference.exchange import ReferenceExchange
from tests.reference.tapes import Call, MarginedHistory, margined_histories, random_margined_history

Make = Callable[..., Any]
EXCHANGES = [pytest.param(ReferenceExchange, id="twin"), pytest.param(ClearedEngine, id="engine")]

every_exchange = pytest.mark.parametrize("make", EXCHANGES)
often = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def any_history() -> st.SearchStrategy[MarginedHistory]:
    """Small histories, which shrink, and busy ones, which do not."""
    busy = st.builds(lambda seed: random_margined_history(seed, 120), st.integers(0, 2**32 - 1))
    return margined_histories() | busy


class Books:
    """An exchange as an accountant sees it: what accounts hold, and the terms that calls have set."""

    def __init__(self, history: MarginedHistory, make: Make) -> None:
        self.instruments = history.instruments
        self.exchange = history.open(make)
        self.fund = history.accounts
        self.accounts = range(history.accounts)
        size = history.accounts + 1, len(self.instruments)
        self.initial = np.full(size, PPM)
        self.isolated = np.zeros(size, bool)
        self.brackets = [read_terms(item.margin.rows) if item.margin else [] for item in self.instruments]
        self.entered = sum(history.cash)
        self.look()
        self.issued = self.position.sum(axis=0)

    def look(self) -> None:
        exchange = self.exchange
        for name in ("cash", "cash_reserved", "position", "position_reserved", "basis", "margin"):
            setattr(self, name, np.array(getattr(exchange, name), np.int64))
        view = exchange.view()
        self.mark, self.phase = list(map(int, view.mark)), list(map(int, view.phase))

    def call(self, call: Call) -> None:
        if not call.make(self.exchange):
            return
        rows, name = call.arguments.get("rows"), call.arguments.get("instrument")
        i = next((i for i, item in enumerate(self.instruments) if item.name == name), -1)
        if call.name == "set_terms":
            leverages = np.broadcast_to(call.arguments["leverage"], len(rows))
            self.initial[rows, i] = [initial_rate(float(leverage)) for leverage in leverages]
            self.isolated[rows, i] = call.arguments["isolated"]
        elif call.name == "set_brackets":
            self.brackets[i] = read_terms(call.arguments["brackets"])
        elif call.name in ("credit", "debit"):
            sign = 1 if call.name == "credit" else -1
            self.entered += sign * len(rows) * round(call.arguments["cash"] * 1e6)

    def crossed(self, owner: int) -> list[int]:
        return [
            i
            for i, instrument in enumerate(self.instruments)
            if instrument.margin and self.position[owner, i] and not self.isolated[owner, i]
        ]

    def contribution(self, owner: int, i: int, mark: int) -> int:
        worth = value(self.instruments[i], mark, int(self.position[owner, i]))
        return worth if self.instruments[i].kind == "spot" else worth - int(self.basis[owner, i])

    def maintenance(self, owner: int, i: int, mark: int) -> int:
        size = notional(self.instruments[i], mark, abs(int(self.position[owner, i])))
        bracket: Terms = next((row for row in self.brackets[i] if row.holds(size)), self.brackets[i][-1])
        return max(0, part(size, bracket.rate) - bracket.deduction)

    def is_due(self, owner: int, i: int, marks: list[int]) -> bool:
        """Whether a position, or the account that stands behind it, has no more than its maintenance margin."""
        if self.isolated[owner, i]:
            equity = int(self.margin[owner, i]) + self.contribution(owner, i, marks[i])
            return equity <= self.maintenance(owner, i, marks[i])
        together = self.crossed(owner)
        equity = int(self.cash[owner]) + sum(self.contribution(owner, k, marks[k]) for k in together)
        return equity <= sum(self.maintenance(owner, k, marks[k]) for k in together)


def play(books: Books, history: MarginedHistory) -> Iterator[tuple[Any, Answer]]:
    """Send one message at a time, before it a CLOCK that fires its timers; yield each with its answer.

    While an answer is looked at, `books` are those before it; `look` renews them.
    """
    for calls, message in history.slices(1):
        for call in calls:
            books.call(call)
        books.look()
        for tape in (clock(message["time"][0]), message) if len(message) else ():
            yield tape[0], send(books.exchange, tape)
            books.look()


def money_and_positions_are_conserved(make: Make, history: MarginedHistory) -> None:
    """What entered is in cash, in posted margin, in fees, in the residue of funding, or is profit that is not yet realised."""
    books = Books(history, make)
    spot = np.array([instrument.kind == "spot" for instrument in history.instruments])

    def check() -> None:
        books.look()
        held = books.cash.sum() + books.margin.sum() - books.basis[:, ~spot].sum()
        assert held + books.exchange.fees + books.exchange.residue == books.entered
        assert (books.position.sum(axis=0) == np.where(spot, books.issued, 0)).all()
        assert (books.margin[~books.isolated] == 0).all()
        assert (books.margin[books.position == 0] == 0).all()
        assert (books.basis[(books.position == 0) & ~spot] == 0).all()

    for calls, message in history.slices(1):
        for call in calls:
            books.call(call)
            check()
        send(books.exchange, message)
        check()


def nobody_owes_cash_without_a_crossed_position(make: Make, history: MarginedHistory) -> None:
    books = Books(history, make)
    for _ in play(books, history):
        books.look()
        for owner in books.accounts:
            assert books.cash[owner] >= 0 or books.crossed(owner)


def nobody_sound_is_liquidated(make: Make, history: MarginedHistory) -> int:
    """Return how many liquidations could be judged from outside: of those who did nothing else in the same message."""
    books, judged = Books(history, make), 0
    for _, answer in play(books, history):
        busy: set[int] = set()
        marks_after = list(map(int, books.exchange.view().mark))
        for record in answer.liquidations:
            owner, number, i = int(record["account"]), int(record["number"]), int(record["instrument"])
            first = record["what"] == Forced.LIQUIDATED
            others = answer.trades[answer.trades["taker"] != -number]
            is_idle = (
                owner not in busy and not ((others["maker_owner"] == owner) | (others["taker_owner"] == owner)).any()
            )
            marks = [books.mark[k] if k != i else int(record["mark"]) for k in range(len(books.mark))]
            alone = books.isolated[owner, i]
            together = alone or all(marks_after[k] == marks[k] for k in books.crossed(owner) if k != i)
            busy |= {owner, int(record["counterparty"])}
            if first:
                assert owner != books.fund
                if is_idle and together:
                    assert books.position[owner, i] != 0
                    assert (record["side"] == Side.SELL) == (books.position[owner, i] > 0)
                    assert books.is_due(owner, i, marks)
                    judged += 1
    return judged


def nobody_due_is_left(make: Make, history: MarginedHistory) -> None:
    """Where trading is continuous, but for positions of which the first stage is over and the pause is not."""
    books = Books(history, make)
    paused_until: dict[tuple[int, int], int] = {}
    for message, answer in play(books, history):
        books.look()
        for record in answer.liquidations[answer.liquidations["what"] == Forced.LIQUIDATED]:
            rules = books.instruments[record["instrument"]].margin.liquidation
            if rules.style == "staged":
                key = int(record["account"]), int(record["instrument"])
                paused_until[key] = int(record["time"]) + round(rules.pause * NS)
        for owner in books.accounts:
            for i, instrument in enumerate(books.instruments):
                open_here = instrument.margin and books.position[owner, i] and books.phase[i] == Phase.CONTINUOUS
                together = (
                    [i] if books.isolated[owner, i] else books.crossed(owner)
                )  # a crossed account pauses as a whole
                if open_here and all(paused_until.get((owner, k), 0) <= message["time"] for k in together):
                    assert not books.is_due(owner, i, books.mark), (owner, instrument.name)


def needed(books: Books, flags: dict[int, int]) -> tuple[Any, Any]:
    """Cash that the resting orders of each account need, and coins by instrument."""
    cash, coins = np.zeros(books.fund + 1, np.int64), np.zeros_like(books.position)
    for i, instrument in enumerate(books.instruments):
        sums = np.zeros((books.fund + 1, 2), np.int64)
        for side in (Side.BUY, Side.SELL):
            for order in resting(books.exchange, i, side):
                if order.owner == ANONYMOUS:
                    continue
                size = notional(instrument, order.price, order.lots)
                if instrument.margin:
                    counts = not flags[order.order] & Flag.REDUCE_ONLY
                    sums[order.owner, side] += counts * part(size, int(books.initial[order.owner, i]))
                elif side == Side.SELL:
                    coins[order.owner, i] += order.lots
                else:
                    tier = min(int(books.exchange.tier[order.owner]), len(instrument.fees) - 1)
                    cash[order.owner] += size + part(size, max(0, round(instrument.fees[tier].maker * PPM)))
        if instrument.margin:
            for owner in range(books.fund + 1):
                lots = books.position[owner, i]
                closing = 2 * part(abs(int(books.basis[owner, i])), int(books.initial[owner, i]))
                cash[owner] += max(0, sums[owner, 0] - closing * (lots < 0), sums[owner, 1] - closing * (lots > 0))
    return cash, coins


def reserved_is_what_open_orders_need(make: Make, history: MarginedHistory) -> None:
    books = Books(history, make)
    flags: dict[int, int] = {}
    plain = [i for i, instrument in enumerate(books.instruments) if not instrument.margin]
    for message, answer in play(books, history):
        books.look()
        if message["kind"] in ORDERS and answer.outcomes["status"][0] != Status.REJECTED:
            flags[int(message["order"])] = int(message["flags"])
        cash, coins = needed(books, flags)
        np.testing.assert_array_equal(books.cash_reserved, cash)
        np.testing.assert_array_equal(books.position_reserved[:, plain], coins[:, plain])


def renumbering_accounts_renumbers_the_records(make: Make, history: MarginedHistory) -> None:
    new = np.random.default_rng(len(history.tape)).permutation(history.accounts).tolist()
    numbers = np.array([*new, history.accounts, ANONYMOUS])  # the fund, and the last for -1
    one, other = Books(history, make), Books(history.renumbered(new), make)
    for (calls, message), (renamed, sent) in zip(history.slices(1), history.renumbered(new).slices(1), strict=True):
        for call, again in zip(calls, renamed, strict=True):
            one.call(call)
            other.call(again)
        expected, found = send(one.exchange, message), send(other.exchange, sent)
        for name, fields in OWNERS.items():
            rows = getattr(expected, name).copy()
            for field in fields:
                rows[field] = numbers[rows[field]]
            assert ordered(rows).tolist() == ordered(getattr(found, name)).tolist()
    one.look()
    other.look()
    for name in ("cash", "position", "basis", "margin"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name)[numbers[:-1]])


OWNERS = {
    "trades": ("maker_owner", "taker_owner"),
    "outcomes": (),
    "events": ("owner",),
    "liquidations": ("account", "counterparty"),
}


def ordered(rows: Records) -> Records:
    """Records as they are, but defaults of an expiry, which stand in the order of accounts, by amount."""
    if "amount" not in (rows.dtype.names or ()):
        return rows
    of_expiry = (rows["what"] == Forced.DEFAULTED) & (rows["number"] == 0)
    return np.concatenate([np.sort(rows[of_expiry], order=["amount", "account"]), rows[~of_expiry]])


def records_tell_what_happened(make: Make, history: MarginedHistory) -> None:
    """Numbers rise by one, orders keep to the bankruptcy price, their trades add up to the record, parents come before."""
    books, last = Books(history, make), 0
    for _, answer in play(books, history):
        records, trades = answer.liquidations, answer.trades
        for record in records:
            number, what = int(record["number"]), record["what"]
            assert record["amount"] >= 0 and record["quantity"] >= 0 and record["parent"] <= max(0, number - 1)
            if what == Forced.LIQUIDATED:
                assert number == last + 1
                last = number
                own = trades[trades["taker"] == -number]
                assert record["quantity"] == own["quantity"].sum()
                assert record["price"] == (own["price"][-1] if len(own) else 0)
                beyond = (
                    own["price"] < record["limit"] if record["side"] == Side.SELL else own["price"] > record["limit"]
                )
                assert not beyond.any()
            elif what == Forced.DEFAULTED:
                assert record["amount"] > 0 and record["quantity"] == 0 and record["counterparty"] == books.fund
            else:
                assert number == last and record["price"] == record["limit"] and record["quantity"] > 0
                assert record["counterparty"] == books.fund or what == Forced.DELEVERAGED
        assert (-trades["taker"][trades["taker"] < 0] <= last).all()


def a_tape_may_be_sent_in_parts(make: Make, history: MarginedHistory) -> None:
    def answers(size: int) -> list[Answer]:
        exchange, found = history.open(make), []
        for calls, tape in history.slices(size):
            for call in calls:
                call.make(exchange)
            found.append(send(exchange, tape))
        return found

    whole, parts = answers(10**9), answers(1)
    for name in Answer._fields:
        rows = [[row for answer in found for row in getattr(answer, name).tolist()] for found in (whole, parts)]
        assert rows[0] == rows[1]


LAWS = (
    money_and_positions_are_conserved,
    nobody_owes_cash_without_a_crossed_position,
    nobody_sound_is_liquidated,
    nobody_due_is_left,
    reserved_is_what_open_orders_need,
    renumbering_accounts_renumbers_the_records,
    records_tell_what_happened,
    a_tape_may_be_sent_in_parts,
)
every_law = pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)


@every_exchange
@every_law
@often
@given(history=any_history())
def test_law_holds(make: Make, law: Callable[[Make, MarginedHistory], Any], history: MarginedHistory) -> None:
    law(make, history)


@every_exchange
@every_law
def test_law_holds_where_rare_things_happen(
    make: Make, law: Callable[[Make, MarginedHistory], Any], rare: list[int]
) -> None:
    for seed in rare:
        law(make, random_margined_history(seed, 300))


@every_exchange
def test_the_liquidated_can_be_judged(make: Make) -> None:
    """Most of them: else the law that they were due would be empty."""
    assert sum(nobody_sound_is_liquidated(make, random_margined_history(seed, 150)) for seed in range(25)) > 20


# ------------------------------------------------------------------------------------- what random histories reach

RARE = (
    ("forced", Forced.DEFAULTED),
    ("due_at_once", 2),
    ("due_at_once", 3),
    ("parent", True),
    ("deleveraged_fund",),
    ("liquidation_stopped",),
    ("nobody_left",),
    ("paused_beside",),
    ("halted_beside",),
    ("posted_less",),
    ("queue_left",),
    ("reduced_elsewhere",),
    ("shortfall_from_margin",),
    ("socialised", True),
    ("water", "rounding"),
    ("interest",),
    ("liquidation", "crossed", "spot"),
)


def happened(seen: Counter[Any], happening: tuple[Any, ...]) -> int:
    return seen[happening if len(happening) > 1 else happening[0]]


@pytest.fixture(scope="module")
def each() -> list[Counter[Any]]:
    """What happened on each of a few hundred histories, and how often."""
    every = []
    for seed in range(300):
        found: Counter[Any] = Counter()
        history = random_margined_history(seed, 300)
        exchange = history.open(ReferenceExchange)
        for calls, tape in history.slices(10**9):
            for call in calls:
                found["call", call.name, call.make(exchange)] += 1
            _, outcomes, events, liquidations = exchange.match(tape)
            found.update(("reject", reject) for reject in outcomes["reject"].tolist())
            found.update(("event", what) for what in events["what"].tolist())
            found.update(("record", what) for what in liquidations["what"].tolist())
        found.update(exchange.noted)
        every.append(found)
    return every


@pytest.fixture(scope="module")
def seen(each: list[Counter[Any]]) -> Counter[Any]:
    return sum(each, Counter())


@pytest.fixture(scope="module")
def rare(each: list[Counter[Any]]) -> list[int]:
    """Seeds of histories: two for each rare happening."""
    seeds = {
        seed
        for happening in RARE
        for seed in [seed for seed, found in enumerate(each) if happened(found, happening)][:2]
    }
    return sorted(seeds)


@pytest.mark.parametrize("what", list(Forced))
def test_every_record_occurs(seen: Counter[Any], what: Forced) -> None:
    assert seen["record", what] > 0


def test_histories_are_busy(seen: Counter[Any]) -> None:
    assert seen["record", Forced.LIQUIDATED] > 1000
    assert seen["record", Forced.TAKEN_OVER] > 300
    assert seen["record", Forced.DELEVERAGED] > 500


@pytest.mark.parametrize(
    "happening", [("reject", Reject.POSITION_LIMIT), ("event", What.LIQUIDATION_CANCELLED)], ids=str
)
def test_what_plain_tapes_do_not_reach_occurs(seen: Counter[Any], happening: tuple[Any, ...]) -> None:
    assert seen[happening] > 0


@pytest.mark.parametrize("allowed", [True, False])
@pytest.mark.parametrize("name", ["set_terms", "add_margin", "debit"])
def test_calls_are_allowed_and_refused(seen: Counter[Any], name: str, allowed: bool) -> None:
    assert seen["call", name, allowed] > 0


@pytest.mark.parametrize(
    "name",
    ["credit", "pay_funding", "settle_variation", "expire", "set_brackets", "charge_interest", "socialise_losses"],
)
def test_every_call_is_made(seen: Counter[Any], name: str) -> None:
    assert seen["call", name, True] > 0


@pytest.mark.parametrize("kind", ["perpetual", "inverse", "future", "spot"])
@pytest.mark.parametrize("mode", ["isolated", "crossed"])
def test_every_sort_of_position_is_liquidated(seen: Counter[Any], mode: str, kind: str) -> None:
    assert (seen["liquidation", mode, kind] > 0) == ((mode, kind) != ("isolated", "spot"))


@pytest.mark.parametrize("filled", ["whole", "part"])
@pytest.mark.parametrize("style", ["full", "ladder", "staged"])
def test_every_style_finds_deep_and_thin_books(seen: Counter[Any], style: str, filled: str) -> None:
    assert seen["style", style, filled] > 0


@pytest.mark.parametrize(
    "happening",
    [
        ("due_at_once", 2),
        ("due_at_once", 3),
        ("ladder", True),
        ("ladder", False),
        ("part_of_isolated",),
        ("fee_capped",),
        ("liquidation_stopped",),
        ("liquidation_banded",),
        ("sound_with_lots_left",),
        ("transfer_gained",),
        ("reduced_elsewhere",),
        ("paused",),
        ("paused_beside",),
        ("halted_beside",),
        ("resumed", True),
        ("resumed", False),
        ("deleverage", "rank"),
        ("deleverage", "water"),
        ("deleveraged_fund",),
        ("nobody_left",),
        ("queue", "stands"),
        ("queue", "mark near"),
        ("queue", "mark moved"),
        ("queue", "used up"),
        ("queue", "of another"),
        ("queue_left",),
        ("water", "rounding"),
        ("parent", True),
        ("parent_further_back",),
        ("shortfall_from_margin",),
        ("posted_less",),
        ("position_limit", "beyond"),
        ("position_limit", "leverage"),
        ("raised_margin",),
        ("mark", 0),
        ("mark", 1),
        ("mark", 2),
        ("no_index",),
        ("clipped",),
        ("interest",),
        ("socialised", True),
        ("socialised", False),
    ],
    ids=str,
)
def test_finer_points_occur(seen: Counter[Any], happening: tuple[Any, ...]) -> None:
    assert happened(seen, happening) > 0

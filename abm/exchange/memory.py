"""The state of the exchange as records: what is kept for each order, level, book, rule, account, position, and how it grows.

Slots, pages, positions and timers count from 1, so that 0 means none; record 0 of `orders` and `own` takes writes that nobody reads, which spares
the kernels a branch. Everything is sized by what is there or has been touched, never by the range of prices: the arrays over the
range (`blocks`, `upper`) are zero pages that the operating system hands out when first written.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from abm.clearing.rules import Bracket, Margin, Mark, initial_rate
from abm.exchange.compilation import Component, accessor, inlined
from abm.exchange.description import MONEY_UNITS, NS, PPM
from abm.exchange.instrument import Breaker, Instrument, MarketWideBreaker, PriceBand, VolatilityAuction
from abm.exchange.messages import EVENT, LIQUIDATION, MESSAGE, OUTCOME, SHIFT, TRADE, Kind, Phase, Records

i1, i2, i4, i8 = np.uint8, np.int16, np.int32, np.int64
u2, u4, u8 = np.uint16, np.uint32, np.uint64
f8 = np.float64

# Bits of ORDER.flags
SELL, HIDDEN, ICEBERG, REDUCE, PEG, WAITING, OUT, TERMS = 1, 2, 4, 8, 16, 32, 64, 128
SPECIAL = HIDDEN | ICEBERG | REDUCE | PEG

# Queues of an instrument: the two sides of its book, then stops that wait (buy, sell) for the last price, then for the mark, then
# positions (long, short) by the tick at which to look whether they must be liquidated
QUEUES = 8
LONGS, SHORTS = 6, 7

# What orders of a book need: nothing, all of it in cash or coins, margin
NOTHING, IN_FULL, ON_MARGIN = 0, 1, 2

# Bits of HOLDING.flags
ISOLATED, LISTED, PAUSED, STAGED = 1, 2, 4, 8

SAMPLES = 30  # of the basis

NEVER = np.iinfo(np.int64).max
DONE = -1

CREATING = (Kind.LIMIT, Kind.MARKET, Kind.STOP, Kind.STOP_LIMIT, Kind.TRAILING_STOP, Kind.PEGGED)

# Kinds of timer
EXPIRE, REOPEN_CALL, REOPEN_CONTINUOUS, RESUME = 0, 1, 2, 3

# Kinds of rule
BAND, BREAKER, VOLATILITY, MARKET_WIDE = 0, 1, 2, 3
TENTHS = 11

ORDER = np.dtype(
    [
        ("quantity", i8),  # lots shown (or hidden) and not yet traded
        ("order", i4),
        ("next", u4),
        ("prev", u4),
        ("price", i4),  # of the level it rests at; of a stop that waits, its trigger
        ("owner", i4),
        ("instrument", i2),
        ("flags", i1),
        ("reason", i1),
    ],
    align=True,
)

TERM = np.dtype(
    [
        ("tif", i1),  # first, as this is all that many an order's end has to look at
        ("kind", i1),
        ("flags", i1),  # as sent
        ("self_trade", i1),
        ("list", i1),  # 0 none, 1 dependents, 2 activation
        ("reserve", i8),  # lots of an iceberg not shown
        ("display", i8),
        ("expiry", i8),
        ("arrival", i8),  # number of the order among those with terms
        ("parts", i8),  # most times the reserve can still be shown
        ("list_next", u4),
        ("list_prev", u4),
        ("limit", i4),  # of a stop limit or peg
        ("distance", i4),  # of a trailing stop or peg
        ("extreme", i4),  # best reference a trailing stop has seen; 0 = none yet
    ],
    align=True,
)

ID = np.dtype([("slot", i4), ("before", i4)])  # the order before it of the same owner: see `oldest_of`
BLOCK = np.dtype([("word", u8), ("page", u4)], align=True)
WORD = np.dtype([("bits", u8)])
LEVEL = np.dtype([("quantity", i8), ("head", u4), ("tail", u4), ("hidden", u4), ("count", u4)], align=True)
QUEUE = np.dtype(
    [
        ("block0", i8),
        ("up1", i8),
        ("up2", i8),
        ("up3", i8),
        ("best", i4),
        ("none", i4),
        ("n_ticks", i4),
        ("words3", i4),
        ("high", i1),
    ],
    align=True,
)
BOOK = np.dtype(
    [
        ("unit", i8),
        ("max_lots", i8),
        ("day_end", i8),
        ("open_interest", i8),  # lots, both sides counted
        ("dearest", i8),  # highest fee of any tier, parts per million
        ("up_to", i8),  # of the first margin bracket, with its rates
        ("initial", i8),
        ("maintenance", i8),
        ("n_ticks", i4),
        ("last", i4),
        ("mark", i4),
        ("reference", i4),
        ("attention", i4),  # dependents + stops that wait: 0 = nothing but what rules do can follow an entry
        ("pegs", i4),
        ("trailing", i4),
        ("token", i4),  # counts changes of phase; a timer with an older one is void
        ("first_rule", i4),
        ("hit", i4),  # rule whose collar stopped an order, to be acted on; -1 none
        ("peg_buy", i4),
        ("peg_sell", i4),
        ("list_first", u4),
        ("list_last", u4),
        ("active_first", u4),
        ("active_last", u4),
        ("seen_bid", i4),  # best prices and last trade when the mark was last made
        ("seen_ask", i4),
        ("seen_last", i4),
        ("first_feed", i4),  # instruments whose index this one belongs to
        ("n_feeds", i4),
        ("money", i1),  # NOTHING, IN_FULL, ON_MARGIN
        ("inverse", i1),
        ("watch", i1),  # its quotes make a mark
        ("spot", i1),
        ("pro_rata", i1),
        ("phase", i1),
        ("watched", i1),
        ("fallen", i1),  # a market-wide rule has to be acted on
        ("new_last", i1),
        ("new_mark", i1),
        ("unsettled", i1),
    ],
    align=True,
)
TIMER = np.dtype(
    [("time", i8), ("sequence", i8), ("argument", i4), ("token", i4), ("call", i8), ("kind", i1)], align=True
)
RULE = np.dtype(
    [
        ("width", i8),  # parts per million
        ("tenth", i8),  # ns; 0 = static reference
        ("halt", i8),
        ("call", i8),
        ("now", i8),  # number of the tenth that collects
        ("past_sum", i8),  # latest finished tenth with trades
        ("past_count", i8),
        ("next", i4),
        ("lowest", i4),
        ("highest", i4),
        ("group0", i4),
        ("group_size", i4),
        ("kind", i1),
        ("fired", i1),  # 1 to be acted on, 2 acted on
        ("stale", i1),
    ],
    align=True,
)
TENTH = np.dtype([("sum", i8), ("count", i8)])
GROUP = np.dtype([("instrument", i4)])
ACCOUNT = np.dtype(
    [
        ("cash", i8),
        ("reserved", i8),
        ("headroom", i8),  # money its crossed positions may lose before they must be indexed anew
        ("session", i8),  # realised profit less fees since the session began
        ("last", i4),  # id of its latest order
        ("held", i4),  # 1 + the first instrument with margin that it ever held
        ("cross", i4),  # crossed positions that are open
        ("paused", u4),  # its crossed position that is paused, and the account with it
        ("tier", i1),
        ("pad", i1, 15),  # to a cache line
    ]
)
HOLDING = np.dtype(
    [
        ("position", i8),
        ("basis", i8),  # money paid for it, signed as the position: what is open at average entry
        (
            "offset",
            i8,
        ),  # twice its initial margin: what orders that close it and open as much on the other side need not reserve
        ("headroom", i8),  # money an isolated position may lose before it must be indexed anew
        ("bids", i8),  # initial margins of resting orders
        ("asks", i8),
        ("reserved", i8),  # lots of plain spot, money of what is margined
        ("initial", u4),  # parts per million; 0 = all, as no leverage was set
        ("next_held", u2),  # 1 + the next instrument of its account
        ("flags", i1),
        ("pad1", i1),
        # second cache line: what only trades touch
        ("margin", i8),  # posted, isolated
        ("since", i8),
        ("realised", i8),
        ("fees", i8),
        ("funding", i8),
        ("next", u4),  # in the index
        ("prev", u4),
        ("key", i4),  # its tick there; 0 = not in it
        ("pad2", i1, 12),
    ]
)
PAIR = np.dtype([("account", ACCOUNT), ("holding", HOLDING)])
"""An account with its position beside it, where there is but one instrument: who is drawn at random then costs one place in memory, not two."""

MARGIN = np.dtype(
    [
        ("first_bracket", i8),
        ("n_brackets", i8),
        ("first_venue", i8),  # index instruments
        ("n_venues", i8),
        ("fee", i8),  # of a liquidation, parts per million
        ("stage", i8),
        ("staged_above", i8),  # money
        ("pause", i8),  # ns
        ("interval", i8),  # of funding, ns
        ("next_funding", i8),
        ("slice", i8),  # ns between two samples of the basis; 0 = none
        ("slice_now", i8),
        ("n_samples", i8),  # ever taken
        ("redraw", i8),  # parts per million of the mark
        ("clip", f8),
        ("rate", f8),  # of funding
        ("index", f8),  # ticks; 0 = none yet
        ("basis", f8),  # ticks, own mid less index
        ("mean_basis", f8),
        ("premium_sum", f8),  # of the samples since the last payment, weighted by their numbers
        ("premium_weight", f8),
        ("impact", f8),  # notional at which the premium is read, in currency
        ("premium_count", i8),
        ("made", i1),  # how the mark is made: 0 by the operator, 1 own mid, 2 index
        ("style", i1),
        ("deficit", i1),
        ("takes_over", i1),
    ],
    align=True,
)
BRACKET = np.dtype([("up_to", i8), ("rate", i8), ("cum", i8), ("initial", i8)])
VENUE = np.dtype([("instrument", i8), ("weight", f8), ("ratio", f8)])
SAMPLE = np.dtype([("basis", f8)])
MOVE = np.dtype([("instrument", i4), ("mark", i4), ("mover", i4)])
SCORE = np.dtype([("score", f8), ("since", i8), ("account", i8)])
FEE = np.dtype([("maker", i8), ("taker", i8)])
QUOTE = np.dtype([("twice_mid", i8)])  # best bid and best ask together when a shift was last noted; 0 never

TABLES = {
    "orders": ORDER,
    "terms": TERM,
    "ids": ID,
    "blocks": BLOCK,
    "upper": WORD,
    "levels": LEVEL,
    "queues": QUEUE,
    "books": BOOK,
    "timers": TIMER,
    "rules": RULE,
    "tenths": TENTH,
    "groups": GROUP,
    "accounts": ACCOUNT,
    "holdings": HOLDING,
    "fees": FEE,
    "margins": MARGIN,
    "brackets": BRACKET,
    "venues": VENUE,
    "samples": SAMPLE,
    "feeds": GROUP,
    "moves": MOVE,
    "scores": SCORE,
    "quotes": QUOTE,
    "shifts": SHIFT,
}
OUTPUTS = {"trades": TRADE, "events": EVENT, "liquidations": LIQUIDATION}
MANY = 4096  # records from which on an output is handed over and not copied
_NONE = {name: np.empty(0, dtype) for name, dtype in OUTPUTS.items()}
_RAW = {name: np.dtype((np.void, dtype.itemsize)) for name, dtype in OUTPUTS.items()}
STYLES, DEFICITS = ("full", "ladder", "staged"), ("rank", "water", "socialise")
LADDER, IN_STAGES = STYLES.index("ladder"), STYLES.index("staged")
WATER, SOCIALISE = DEFICITS.index("water"), DEFICITS.index("socialise")

# Instrument, kind, side, time in force, flags, self-trade mode and reason of a message as one word
_OFFSETS: Any = MESSAGE.fields
HEAD = np.dtype(
    {"names": ["word"], "formats": [u8], "offsets": [_OFFSETS["instrument"][1]], "itemsize": MESSAGE.itemsize}
)
PLAIN_LIMIT = np.uint64(
    0x00FFFFFFFEFF0000
)  # its bits but those of instrument, side and reason: 0 = a limit order with no property


class Addresses(NamedTuple):
    """The tables that the hot loop touches, copied out of the `ENGINE` record: what is in registers need not be read again."""

    orders: int
    accounts: int
    account_step: int
    ids: int
    blocks: int
    upper: int
    levels: int


COMPONENTS: dict[str, Component] = {}
COMPONENT_NAMES = (
    "cross",
    "meet",
    "share_level",
    "enter_order",
    "note_trade",
    "bound_of",
    "set_phase",
    "uncross",
    "follow",
    "settle_down",
    "fire_timers",
    "change_order",
    "other_message",
    "new_order",
    "usual_order",
    "process",
    "fill",
    "index_account",
    "index_isolated",
    "hold_margin",
    "close_margin",
    "margin_refusal",
    "requote",
    "next_due",
    "liquidate",
    "transfer",
)
MARGIN_COMPONENTS = (
    "fill",
    "index_account",
    "index_isolated",
    "hold_margin",
    "close_margin",
    "margin_refusal",
    "requote",
    "next_due",
    "liquidate",
    "transfer",
)
"""Called only where an instrument has margin, and compiled only then."""

ENGINE = np.dtype(
    [(name, i8) for name in (*TABLES, *OUTPUTS, *COMPONENT_NAMES)]
    + [
        ("time", i8),
        ("n_trades", i8),
        ("n_events", i8),
        ("sequence", i8),  # not beside the time: two words written apart and read as one would stall the processor
        ("free", i8),  # first of the slots given back; chained by ORDER.next
        ("fresh", i8),  # first slot never used
        ("next_page", i8),
        ("potential", i8),  # most fills the orders in the exchange can take part in as makers
        ("arrivals", i8),
        ("moving", i8),  # orders that may change their level by themselves
        ("n_timers", i8),
        ("timer_sequence", i8),
        ("next_timer", i8),
        ("fee_income", i8),
        ("n_instruments", i8),
        ("n_accounts", i8),
        ("account_step", i8),  # bytes from one account to the next
        ("holding_step", i8),
        ("n_ids", i8),
        ("n_owners", i8),  # accounts, or owners seen so far where there are none
        ("highest_id", i8),  # of the orders that were made
        ("tiers", i8),
        ("ledger", i8),
        ("unsettled", i8),  # 1 + the instrument whose entry has still to be followed up; -1 several
        ("trade_room", i8),
        ("event_room", i8),
        ("page_room", i8),
        ("timer_room", i8),
        ("binding", i8),  # rule of the latest collar asked for
        ("decremented", i8),  # lots that self-trade prevention took off the latest entry
        ("margined", i8),  # whether any instrument is
        ("fund", i8),  # the insurance fund's account; -1 none
        ("residue", i8),  # of funding
        ("stamp", i8),  # of the latest position opened
        ("rank_instrument", i8),  # the queue of those to be deleveraged: whose it is
        ("rank_side", i8),
        ("rank_mark", i8),
        ("rank_size", i8),
        ("n_liquidations", i8),
        ("liquidation_room", i8),
        ("score_room", i8),
        ("n_moves", i8),
        ("move_room", i8),
        ("wanted", i8),  # records that a transfer needs at once
        ("forced", i8),  # liquidations so far
        ("current", i8),  # the one in progress
        ("free_of_fee", i8),  # account that pays no fee, as it is being liquidated; -1 none
        ("saving", i8),  # account that is liquidated in part; -1 none
        ("transferring", i8),  # position to be transferred; 0 none
        ("transfer_price", i8),
        ("transfer_parent", i8),
        ("transfer_cash", i8),  # of its account before
        ("entered", i8),  # instrument that the message or timer concerns
        ("following", i8),  # 1 + the instrument whose entry is being followed up; 0 none
        ("index_pages", i8),  # pages that the index of positions may still need
        ("filled", i8),  # answers of the latest entry
        ("status", i8),
        ("reject", i8),
        ("noting", i8),  # whether shifts of mids are noted
        ("n_shifts", i8),
        ("shift_room", i8),
        ("expected", i8),  # messages of the tape
    ]
)

_PLACE = {name: place for place, name in enumerate(ENGINE.names or ())}

order_at = accessor(ORDER)
term_at = accessor(TERM)
id_at = accessor(ID)
block_at = accessor(BLOCK)
word_at = accessor(WORD)
level_at = accessor(LEVEL)
queue_at = accessor(QUEUE)
book_at = accessor(BOOK)
timer_at = accessor(TIMER)
rule_at = accessor(RULE)
tenth_at = accessor(TENTH)
group_at = accessor(GROUP)
_account_record = accessor(ACCOUNT)
_holding_record = accessor(HOLDING)
fee_at = accessor(FEE)
trade_at = accessor(TRADE)
event_at = accessor(EVENT)
message_at = accessor(MESSAGE)
head_at = accessor(HEAD)
outcome_at = accessor(OUTCOME)
margin_at = accessor(MARGIN)
bracket_at = accessor(BRACKET)
venue_at = accessor(VENUE)
sample_at = accessor(SAMPLE)
feed_at = accessor(GROUP)
move_at = accessor(MOVE)
quote_at = accessor(QUOTE)
shift_at = accessor(SHIFT)
score_at = accessor(SCORE)
liquidation_at = accessor(LIQUIDATION)


@inlined
def account_at(a: Any, owner: int) -> Any:
    """The record of an account. `a` is whatever has the addresses of the tables, as in `levels`."""
    return _account_record(a.accounts + np.int64(owner) * a.account_step, 0)


@inlined
def holding_at(e: Any, slot: int) -> Any:
    """The record of a position: those of instrument `i` begin behind slot `i * e.n_accounts`."""
    return _holding_record(e.holdings + np.int64(slot) * e.holding_step, 0)


def component(function: Callable[..., Any]) -> Any:
    """Make `function` a component of the exchange: see `Component`. Its name must be in the list above."""
    records = {
        "e": ENGINE,
        "book": BOOK,
        "queue": QUEUE,
        "message": MESSAGE,
        "outcome": OUTCOME,
        "order": ORDER,
        "row": TRADE,
    }
    made = COMPONENTS[function.__name__] = Component(function, records)
    offsets: Any = ENGINE.fields
    return made.caller(offsets[function.__name__][1])


def aligned(size: int, dtype: np.dtype[np.void]) -> Records:
    """Zeroed records that start on a pair of cache lines. What is never written takes no memory."""
    raw = np.zeros(size * dtype.itemsize + 128, np.uint8)
    start = -raw.ctypes.data % 128
    return raw[start : start + size * dtype.itemsize].view(dtype)


def _holders(arrays: list[Records], place: int) -> int:
    return sys.getrefcount(arrays[place])


_NOBODY = _holders([np.empty(0, TRADE)], 0)  # but a list like theirs


class Lent:
    """Arrays of one layout that went out with reports, to be written again once nobody holds them or a part of them.

    Their pages are there. Those of a new array are cleared by the operating system as they are first written, which takes as long as a
    twentieth of the pass that fills them.
    """

    def __init__(self, dtype: np.dtype[np.void]) -> None:
        self._dtype = dtype
        self._arrays: list[Records] = []

    def take(self, size: int) -> Records:
        """An array of at least `size` records, whatever they hold."""
        for place in range(len(self._arrays)):
            if len(self._arrays[place]) >= size and _holders(self._arrays, place) == _NOBODY:
                return self._arrays.pop(place)
        return np.empty(size, self._dtype)

    def lend(self, array: Records) -> None:
        """Remember an array that goes out: two at most, as a caller holds the last report while the next one is made."""
        self._arrays = [*self._arrays[-1:], array]


_LENT = {name: Lent(dtype) for name, dtype in {**OUTPUTS, "outcomes": OUTCOME}.items()}
"""Of all exchanges of the process, since one is often made when another has done its work."""


class Memory:
    """Owns the arrays behind one exchange and the `ENGINE` record that tells the kernels where they are."""

    def __init__(self, instruments: Sequence[Instrument], accounts: int, ledger: bool) -> None:
        self.engine: Records = np.zeros(1, ENGINE)
        self._words = self.engine.view(np.int64)
        self.tables: dict[str, Records] = {}
        self._messages = 0
        margined = ledger and any(instrument.margin for instrument in instruments)
        engine = self.engine[0]
        engine["n_instruments"] = len(instruments)
        engine["n_accounts"] = accounts + margined
        engine["ledger"] = ledger
        engine["margined"] = margined
        engine["fund"] = accounts if margined else -1
        engine["free_of_fee"] = engine["saving"] = engine["rank_instrument"] = -1
        engine["fresh"] = engine["next_page"] = 1
        engine["next_timer"] = NEVER
        for name, part in COMPONENTS.items():
            if margined or name not in MARGIN_COMPONENTS:
                engine[name] = part.address
        engine["time"] = np.iinfo(np.int64).min
        self._lay_out_books(instruments, ledger)
        self._put("quotes", np.zeros(len(instruments), QUOTE))["twice_mid"] = 2 * self.tables["books"][
            "reference"
        ].astype(np.int64)
        self._lay_out_rules(instruments)
        self._lay_out_margins(instruments, ledger)
        engine["index_pages"] = sum(
            2 * (instrument.n_ticks // 64 + 1) for instrument in instruments if ledger and instrument.margin
        )
        tiers = max(len(instrument.fees) for instrument in instruments)
        engine["tiers"] = tiers
        fees = self._put("fees", np.zeros(len(instruments) * tiers, FEE))
        for i, instrument in enumerate(instruments):
            for tier in range(tiers):
                fee = instrument.fees[min(tier, len(instrument.fees) - 1)]
                fees[i * tiers + tier] = (round(fee.maker * PPM), round(fee.taker * PPM))
        engine["n_owners"] = accounts + margined or 16
        self._lay_out_accounts(len(instruments), accounts + margined)
        for name, size in (
            ("orders", 1024),
            ("terms", 1024),
            ("ids", 4096),
            ("levels", 64 * 64),
            ("timers", 64),
            ("moves", 64),
            ("scores", 0),
            ("shifts", 0),
        ):
            self._put(name, np.zeros(size, TABLES[name]))
        for name, dtype in OUTPUTS.items():
            self._put(name, np.empty(1024, dtype))
        engine["n_ids"] = len(self.tables["ids"])

    def __getitem__(self, name: str) -> int:
        """A number of the `ENGINE` record; a structured array would take ten times as long to say it."""
        return self._words.item(_PLACE[name])

    def __setitem__(self, name: str, value: int) -> None:
        self._words[_PLACE[name]] = value

    def _put(self, name: str, array: Records) -> Records:
        self.tables[name] = array
        self[name] = array.ctypes.data
        return array

    def _lay_out_accounts(self, instruments: int, accounts: int) -> None:
        """Lay positions out instrument by instrument, so that what nobody holds takes no memory; those of the only one beside their accounts."""
        if instruments == 1 and accounts > 0:
            pairs = aligned(1 + accounts, PAIR)
            rows, positions = pairs["account"][1:], pairs["holding"]
        else:
            rows, positions = aligned(accounts or 16, ACCOUNT), aligned(1 + accounts * instruments, HOLDING)
        self._put("accounts", rows)
        self._put("holdings", positions)
        self["account_step"], self["holding_step"] = rows.strides[0], positions.strides[0]

    def _lay_out_books(self, instruments: Sequence[Instrument], ledger: bool) -> None:
        books = self._put("books", np.zeros(len(instruments), BOOK))
        queues = self._put("queues", np.zeros(len(instruments) * QUEUES, QUEUE))
        blocks = words = 0
        for i, instrument in enumerate(instruments):
            book: Any = books[i]
            book["unit"] = instrument.unit
            book["max_lots"] = instrument.max_order_lots
            book["day_end"] = NEVER
            book["n_ticks"] = instrument.n_ticks
            book["reference"] = instrument.ticks(instrument.reference_price) if instrument.reference_price else 0
            book["first_rule"] = book["hit"] = -1
            book["spot"] = instrument.kind == "spot"
            book["inverse"] = instrument.kind == "inverse"
            if ledger:
                book["money"] = ON_MARGIN if instrument.margin else IN_FULL if instrument.kind == "spot" else NOTHING
            if book["money"] == ON_MARGIN:
                book["mark"] = book["reference"]
            book["pro_rata"] = instrument.matching == "pro_rata"
            book["phase"] = Phase[instrument.opening.upper()]
            # one tick more than there are prices: in a call market orders stand at 0 and n_ticks, before every limit
            size = [-(-(instrument.n_ticks + 1) // 64**level) for level in range(1, 5)]
            for q in range(QUEUES):
                high = q in (0, 3, 5, LONGS)
                none = 0 if high else instrument.n_ticks
                up1, up2, up3 = words, words + size[1], words + size[1] + size[2]
                queues[i * QUEUES + q] = (blocks, up1, up2, up3, none, none, instrument.n_ticks, size[3], high)
                blocks += size[0]
                words += sum(size[1:])
        self._put("blocks", np.zeros(blocks, BLOCK))
        self._put("upper", np.zeros(words, WORD))

    def _lay_out_rules(self, instruments: Sequence[Instrument]) -> None:
        names = [instrument.name for instrument in instruments]
        rows = [(i, rule) for i, instrument in enumerate(instruments) for rule in instrument.rules]
        rules = self._put("rules", np.zeros(len(rows), RULE))
        self._put("tenths", np.zeros(len(rows) * TENTHS, TENTH))
        groups: list[int] = []
        for r, (i, rule) in enumerate(rows):
            row: Any = rules[r]
            row["next"] = r + 1 if r + 1 < len(rows) and rows[r + 1][0] == i else -1
            row["stale"] = 1
            if isinstance(rule, MarketWideBreaker):
                unknown = [name for name in rule.instruments if name not in names]
                if unknown:
                    raise ValueError(
                        f"{names[i]}: rules: market_wide_breaker names unknown instruments {unknown}; known: {names}"
                    )
                row["kind"], row["width"] = MARKET_WIDE, round(rule.fall * PPM)
                first = instruments[i].ticks(instruments[i].reference_price or 0)
                row["lowest"] = first * (PPM - int(row["width"])) // PPM
                row["group0"], row["group_size"] = len(groups), len(rule.instruments)
                groups += [names.index(name) for name in rule.instruments]
            else:
                row["width"], row["tenth"] = round(rule.width * PPM), round(rule.window * NS) // 10
                row["kind"] = {PriceBand: BAND, Breaker: BREAKER, VolatilityAuction: VOLATILITY}[type(rule)]
            row["halt"] = round(getattr(rule, "halt", 0.0) * NS)
            row["call"] = round(getattr(rule, "call", 0.0) * NS)
            book: Any = self.tables["books"][i]
            if book["first_rule"] < 0:
                book["first_rule"] = r
            book["watched"] = 1
        table = self._put("groups", np.zeros(len(groups), GROUP))
        table["instrument"] = groups

    def _lay_out_margins(self, instruments: Sequence[Instrument], ledger: bool) -> None:
        names = [instrument.name for instrument in instruments]
        rows = self._put("margins", np.zeros(len(instruments), MARGIN))
        venues: list[tuple[int, float, float]] = []
        feeds: list[list[int]] = [[] for _ in instruments]
        self._put("samples", np.zeros(len(instruments) * SAMPLES, SAMPLE))
        self._put("brackets", np.zeros(0, BRACKET))
        for i, instrument in enumerate(instruments):
            if instrument.margin is None or not ledger:
                continue
            self._describe(rows[i], instrument.margin)
            self.tables["books"][i]["dearest"] = round(max(max(fee.maker, fee.taker) for fee in instrument.fees) * PPM)
            self.set_brackets(i, instrument.margin.rows)
            self.tables["books"][i]["watch"] = instrument.margin.mark != "operator"
            mark = instrument.margin.mark if isinstance(instrument.margin.mark, Mark) else Mark()
            unknown = [name for name in mark.index if name not in names or name == instrument.name]
            if unknown:
                raise ValueError(
                    f"{names[i]}: margin.mark.index names {unknown}, which are not other instruments here; known: {names}"
                )
            rows[i]["first_venue"], rows[i]["n_venues"] = len(venues), len(mark.index)
            for number in sorted(names.index(name) for name in mark.index):
                venues.append((number, mark.index[names[number]], instruments[number].tick / instrument.tick))
                feeds[number].append(i)
        self._put("venues", np.array(venues, VENUE))
        table = self._put("feeds", np.zeros(sum(map(len, feeds)), GROUP))
        table["instrument"] = [i for fed in feeds for i in fed]
        start = 0
        for i, fed in enumerate(feeds):
            book: Any = self.tables["books"][i]
            book["first_feed"], book["n_feeds"] = start, len(fed)
            book["watch"] |= len(fed) > 0
            start += len(fed)

    @staticmethod
    def _describe(row: Any, margin: Margin) -> None:
        """Write the terms of a margin into its record, in integers where the pass counts in them."""
        rules, mark = margin.liquidation, margin.mark
        row["fee"], row["stage"] = round(rules.fee * PPM), round(rules.stage * PPM)
        row["staged_above"], row["pause"] = round(rules.staged_above * MONEY_UNITS), round(rules.pause * NS)
        row["redraw"], row["takes_over"] = round(rules.redraw * PPM), rules.takes_over
        row["style"], row["deficit"] = STYLES.index(rules.style), DEFICITS.index(rules.deficit)
        row["clip"] = mark.clip if isinstance(mark, Mark) else 0.0
        row["slice_now"] = -1
        if isinstance(mark, Mark):
            row["made"] = 2 if mark.index else 1
            row["slice"] = max(1, round(mark.window * NS) // SAMPLES)
        if margin.funding:
            row["interval"] = row["next_funding"] = round(margin.funding.interval * NS)
            row["impact"] = margin.funding.impact * margin.leverage

    def set_brackets(self, i: int, brackets: Sequence[Bracket]) -> None:
        """Give an instrument other brackets; those it had stay in the table, unused."""
        old, row = self.tables["brackets"], self.tables["margins"][i]
        rows = np.zeros(len(brackets), BRACKET)
        cum = 0
        for k, bracket in enumerate(brackets):
            rate = round(bracket.maintenance * PPM)
            if k > 0:
                up_to = int(rows[k - 1]["up_to"])
                cum += up_to * (rate - int(rows[k - 1]["rate"])) // PPM
            end = np.iinfo(np.int64).max if bracket.up_to is None else round(bracket.up_to * MONEY_UNITS)
            rows[k] = (end, rate, cum, initial_rate(bracket.leverage))
        row["first_bracket"], row["n_brackets"] = len(old), len(rows)
        book: Any = self.tables["books"][i]
        book["up_to"], book["initial"], book["maintenance"] = rows[0]["up_to"], rows[0]["initial"], rows[0]["rate"]
        self._put("brackets", np.concatenate([old, rows]))

    def grow(self, name: str, size: int, used: int) -> None:
        """Make table `name` hold at least `size` records, keeping the first `used`; grows by a factor, so that this is cheap in the long run.

        What is not used is never touched, so that a single large order id costs addresses and no memory. Ids are never given back: their table
        grows by more, so that the copy of a large one, when it is there twice, seldom comes.
        """
        old = self.tables[name]
        if len(old) < size:
            new = aligned(max(size, (8 if name == "ids" else 2) * len(old)), old.dtype)
            new[:used] = old[:used]
            self._put(name, new)

    def prepare(self, messages: int) -> None:
        """Make room for the orders that so many messages may create. For the rest the pass asks when it needs more."""
        fresh = self["fresh"]
        for name in ("orders", "terms"):
            self.grow(name, fresh + messages + 1, fresh)
        self._room("trades", "trade_room", messages // 4)  # most tapes are done in one go then
        self._messages = self["expected"] = messages
        if self["noting"]:
            self._room_for_shifts()

    def outcomes(self, count: int) -> Records:
        """An array for the outcomes of so many messages."""
        if count <= MANY:
            return np.empty(count, OUTCOME)
        array = _LENT["outcomes"].take(count)
        _LENT["outcomes"].lend(array)
        return array[:count]

    def admit(self, message: np.void, ahead: int) -> None:
        """Make room for the order id and the owner of a message if they are beyond those known, and for `ahead` more ids like it."""
        known, order = self["n_ids"], int(message["order"])
        if order >= known and message["kind"] in CREATING:
            self.grow("ids", order + 1 + ahead, known)
            self["n_ids"] = len(self.tables["ids"])
        known, owner = self["n_owners"], int(message["owner"])
        if owner >= known and self["n_accounts"] == 0:
            self.grow("accounts", owner + 1, known)
            self["n_owners"] = len(self.tables["accounts"])

    def make_room(self) -> None:
        """Make room for what the next messages may write, so that the pass need not stop soon."""
        soon, n = min(self._messages, 2**18), self["n_instruments"]
        potential = self["potential"] + soon + 64
        self._room("trades", "trade_room", 4 * potential)
        self._room("events", "event_room", 5 * potential + 8 * n)
        pages, timers = self["next_page"], self["n_timers"] + 1
        self.grow("levels", 64 * (pages + 2 * self["moving"] + 64 + self["index_pages"]), 64 * pages)
        self["page_room"] = len(self.tables["levels"]) // 64
        self.grow("timers", timers + soon + 2 * n + 16, timers)
        self["timer_room"] = len(self.tables["timers"])
        if self["noting"]:
            self._room_for_shifts()
        if self["margined"]:
            self._room("liquidations", "liquidation_room", 2 * potential + self["wanted"] + 1024)
            self.grow("moves", self["n_moves"] + 256 + n * n, self["n_moves"])
            self["move_room"] = len(self.tables["moves"])
            if self["wanted"]:
                self.grow("scores", self["n_accounts"], self["rank_size"])
                self["score_room"] = len(self.tables["scores"])

    def _room_for_shifts(self) -> None:
        used = self["n_shifts"]
        self.grow("shifts", used + self["expected"] + 2 * self["potential"] + 4 * self["n_instruments"] + 64, used)
        self["shift_room"] = len(self.tables["shifts"])

    def _room(self, name: str, limit: str, size: int) -> None:
        if len(self.tables[name]) < size:
            self._put(name, _LENT[name].take(2 * size))
        self[limit] = len(self.tables[name])

    def drain(self, name: str) -> Records:
        """What has been written to `trades` or `events` since the last time: a copy, or, where there is much, the table itself."""
        used = self[f"n_{name}"]
        if used == 0:
            return _NONE[name]
        table = self.tables[name]
        self[f"n_{name}"] = 0
        if used > MANY:
            self._put(name, _LENT[name].take(len(table)))
            _LENT[name].lend(table)
            return table[:used]
        # As bytes, since NumPy copies records field by field
        return table[:used].view(_RAW[name]).copy().view(OUTPUTS[name])

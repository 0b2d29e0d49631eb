"""The state of the exchange as records: what is kept for each order, level, book, rule, account, and how it grows.

Slots, pages and timers count from 1, so that 0 means none; record 0 of `orders` and `own` takes writes that nobody reads, which spares
the kernels a branch. Everything is sized by what is there or has been touched, never by the range of prices: the arrays over the
range (`blocks`, `upper`) are zero pages that the operating system hands out when first written.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from abm.exchange.compilation import Component, accessor
from abm.exchange.description import NS, PPM
from abm.exchange.instrument import Breaker, Instrument, MarketWideBreaker, PriceBand, VolatilityAuction
from abm.exchange.messages import EVENT, MESSAGE, OUTCOME, TRADE, Kind, Phase, Records

i1, i2, i4, i8 = np.uint8, np.int16, np.int32, np.int64
u4, u8 = np.uint32, np.uint64

# Bits of ORDER.flags
SELL, HIDDEN, ICEBERG, REDUCE, PEG, WAITING, OUT, TERMS = 1, 2, 4, 8, 16, 32, 64, 128
SPECIAL = HIDDEN | ICEBERG | REDUCE | PEG

# Queues of an instrument: the two sides of its book, then stops that wait (buy, sell) for the last price, then for the mark
QUEUES = 6

NEVER = np.iinfo(np.int64).max
DONE = -1

CREATING = (Kind.LIMIT, Kind.MARKET, Kind.STOP, Kind.STOP_LIMIT, Kind.TRAILING_STOP, Kind.PEGGED)

# Kinds of timer
EXPIRE, REOPEN_CALL, REOPEN_CONTINUOUS = 0, 1, 2

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
        ("tif", i1),
        ("kind", i1),
        ("flags", i1),  # as sent
        ("self_trade", i1),
        ("list", i1),  # 0 none, 1 dependents, 2 activation
    ],
    align=True,
)

OWN = np.dtype([("next", u4), ("prev", u4)])
OWNER = np.dtype([("first", u4), ("last", u4)])
ID = np.dtype([("slot", i4)])
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
        ("n_ticks", i4),
        ("last", i4),
        ("mark", i4),
        ("reference", i4),
        ("attention", i4),  # dependents + stops that wait + rules: 0 = nothing can follow an entry
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
ACCOUNT = np.dtype([("cash", i8), ("reserved", i8), ("tier", i1)], align=True)
HOLDING = np.dtype([("position", i8), ("reserved", i8)])
FEE = np.dtype([("maker", i8), ("taker", i8)])

TABLES = {
    "orders": ORDER,
    "terms": TERM,
    "own": OWN,
    "owners": OWNER,
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
}
OUTPUTS = {"trades": TRADE, "events": EVENT}

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
    own: int
    owners: int
    ids: int
    blocks: int
    upper: int
    levels: int


COMPONENTS: dict[str, Component] = {}
_COMPONENT_NAMES = (
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
    "process",
)

ENGINE = np.dtype(
    [(name, i8) for name in (*TABLES, *OUTPUTS, *_COMPONENT_NAMES)]
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
        ("n_ids", i8),
        ("n_owners", i8),
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
        ("filled", i8),  # answers of the latest entry
        ("status", i8),
        ("reject", i8),
    ]
)

_PLACE = {name: place for place, name in enumerate(ENGINE.names or ())}

order_at = accessor(ORDER)
term_at = accessor(TERM)
own_at = accessor(OWN)
owner_at = accessor(OWNER)
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
account_at = accessor(ACCOUNT)
holding_at = accessor(HOLDING)
fee_at = accessor(FEE)
trade_at = accessor(TRADE)
event_at = accessor(EVENT)
message_at = accessor(MESSAGE)
head_at = accessor(HEAD)
outcome_at = accessor(OUTCOME)


def component(function: Callable[..., Any]) -> Any:
    """Make `function` a component of the exchange: see `Component`. Its name must be in the list above."""
    records = {"e": ENGINE, "book": BOOK, "queue": QUEUE, "message": MESSAGE, "outcome": OUTCOME}
    made = COMPONENTS[function.__name__] = Component(function, records)
    offsets: Any = ENGINE.fields
    return made.caller(offsets[function.__name__][1])


class Memory:
    """Owns the arrays behind one exchange and the `ENGINE` record that tells the kernels where they are."""

    def __init__(self, instruments: Sequence[Instrument], accounts: int, ledger: bool) -> None:
        self.engine: Records = np.zeros(1, ENGINE)
        self._words = self.engine.view(np.int64)
        self.tables: dict[str, Records] = {}
        self._messages = 0
        engine = self.engine[0]
        engine["n_instruments"] = len(instruments)
        engine["n_accounts"] = accounts
        engine["ledger"] = ledger
        engine["fresh"] = engine["next_page"] = 1
        engine["next_timer"] = NEVER
        for name, part in COMPONENTS.items():
            engine[name] = part.address
        engine["time"] = np.iinfo(np.int64).min
        self._lay_out_books(instruments)
        self._lay_out_rules(instruments)
        tiers = max(len(instrument.fees) for instrument in instruments)
        engine["tiers"] = tiers
        fees = self._put("fees", np.zeros(len(instruments) * tiers, FEE))
        for i, instrument in enumerate(instruments):
            for tier in range(tiers):
                fee = instrument.fees[min(tier, len(instrument.fees) - 1)]
                fees[i * tiers + tier] = (round(fee.maker * PPM), round(fee.taker * PPM))
        self._put("accounts", np.zeros(max(accounts, 1), ACCOUNT))
        self._put("holdings", np.zeros(max(accounts, 1) * len(instruments), HOLDING))
        self._put("owners", np.zeros(max(accounts, 16), OWNER))
        engine["n_owners"] = accounts or 16
        for name, size in (
            ("orders", 1024),
            ("terms", 1024),
            ("own", 1024),
            ("ids", 4096),
            ("levels", 64 * 64),
            ("timers", 64),
        ):
            self._put(name, np.zeros(size, TABLES[name]))
        for name, dtype in OUTPUTS.items():
            self._put(name, np.empty(1024, dtype))
        engine["n_ids"] = len(self.tables["ids"])

    def __getitem__(self, name: str) -> int:
        """A number of the `ENGINE` record; a structured array would take ten times as long to say it."""
        return int(self._words[_PLACE[name]])

    def __setitem__(self, name: str, value: int) -> None:
        self._words[_PLACE[name]] = value

    def _put(self, name: str, array: Records) -> Records:
        self.tables[name] = array
        self[name] = array.ctypes.data
        return array

    def _lay_out_books(self, instruments: Sequence[Instrument]) -> None:
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
            book["pro_rata"] = instrument.matching == "pro_rata"
            book["phase"] = Phase[instrument.opening.upper()]
            # one tick more than there are prices: in a call market orders stand at 0 and n_ticks, before every limit
            size = [-(-(instrument.n_ticks + 1) // 64**level) for level in range(1, 5)]
            for q in range(QUEUES):
                high = q in (0, 3, 5)
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
            book["attention"] += 1
            book["watched"] = 1
        table = self._put("groups", np.zeros(len(groups), GROUP))
        table["instrument"] = groups

    def grow(self, name: str, size: int, used: int) -> None:
        """Make table `name` hold at least `size` records, keeping the first `used`; doubles, so that growth is cheap in the long run."""
        old = self.tables[name]
        if len(old) < size:
            new = np.zeros(max(size, 2 * len(old)), old.dtype)
            new[:used] = old[:used]
            self._put(name, new)

    def prepare(self, messages: int) -> None:
        """Make room for the orders that so many messages may create."""
        fresh = self["fresh"]
        for name in ("orders", "terms", "own"):
            self.grow(name, fresh + messages + 1, fresh)
        self._messages = messages
        self.make_room()

    def admit(self, message: np.void, ahead: int) -> None:
        """Make room for the order id and the owner of a message if they are beyond those known, and for `ahead` more ids like it."""
        known, order = self["n_ids"], int(message["order"])
        if order >= known and message["kind"] in CREATING:
            self.grow("ids", order + 1 + ahead, known)
            self["n_ids"] = len(self.tables["ids"])
        known, owner = self["n_owners"], int(message["owner"])
        if owner >= known and self["n_accounts"] == 0:
            self.grow("owners", owner + 1, known)
            self["n_owners"] = len(self.tables["owners"])

    def make_room(self) -> None:
        """Make room for what the next messages may write, so that the pass need not stop soon."""
        soon, n = min(self._messages, 2**18), self["n_instruments"]
        potential = self["potential"] + soon + 64
        self._room("trades", "trade_room", 4 * potential)
        self._room("events", "event_room", 5 * potential + 8 * n)
        pages, timers = self["next_page"], self["n_timers"] + 1
        self.grow("levels", 64 * (pages + 2 * self["moving"] + 64), 64 * pages)
        self["page_room"] = len(self.tables["levels"]) // 64
        self.grow("timers", timers + soon + 2 * n + 16, timers)
        self["timer_room"] = len(self.tables["timers"])

    def _room(self, name: str, limit: str, size: int) -> None:
        if len(self.tables[name]) < size:
            self._put(name, np.empty(2 * size, OUTPUTS[name]))
        self[limit] = len(self.tables[name])

    def drain(self, name: str) -> Records:
        """What has been written to `trades` or `events` since the last time: a copy, or, where there is much, the table itself."""
        used, table = self[f"n_{name}"], self.tables[name]
        if used == 0:
            return np.empty(0, OUTPUTS[name])
        self[f"n_{name}"] = 0
        if used > 4096:
            self._put(name, np.empty(len(table), OUTPUTS[name]))
            return table[:used]
        return table[:used].copy()

"""Write the messages of a run as LOBSTER files: what changed in a book, row by row, and its levels after each.

It is told from what the run kept of its messages, trades and events (`recording.orders`), without matching anything again. What a venue publishes
of an order is told and no more: of icebergs what they show, of hidden orders their executions. In one message events that made room come first,
then the trades of its order, then what of it rests, then what followed.
"""

import bisect
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from abm.exchange.description import NS
from abm.exchange.messages import Flag
from abm.lobster.files import NO_PRICE, PRICE_UNITS, Type
from abm.record import Result

_BEFORE = ("expired", "self_trade_cancelled", "self_trade_decremented", "reduce_only_cancelled", "mass_cancelled")
_PHASES = {"continuous": 1, "call": 0, "halted": -1, "closed": -1}
_ENTERS = ("limit", "stop_limit", "replace")
_CREATE = ("limit", "market", "stop", "stop_limit", "trailing_stop", "pegged")

type _Row = tuple[int, int, int, int, int]
"""Type, order, size, price in ticks, side (0 buy, 1 sell)."""


@dataclass
class _Order:
    """An order that rests."""

    side: int
    price: int
    asked: dict[str, Any]
    """The message that it came with."""
    shown: int
    reserve: int = 0
    display: int = 0
    hidden: bool = False

    @property
    def left(self) -> int:
        return self.shown + self.reserve


def write_lobster(result: Result, folder: Path, instrument: str = "", levels: int = 10) -> tuple[Path, Path]:
    """Write message and order-book files of one instrument of a run, as `abm replay lobster` reads them.

    Times are seconds after the midnight (UTC) before the run, also beyond the first day. Sizes are lots. As in files of a venue, a message is
    there where it changes one of the levels that are written; executions of hidden orders and halts are too.

    Args:
        result: A run with `recording.orders`.
        folder: Where; it must exist.
        instrument: Its name; the first where none is given.
        levels: Levels of each side.

    Returns:
        The paths of the two files.

    Raises:
        ValueError: The run kept no messages, does not trade the instrument, or has orders there that such files cannot tell of; one line.
    """
    names = list(result.scenario["instruments"])
    chosen = instrument or names[0]
    if chosen not in names:
        raise ValueError(f"{chosen} is not traded here; there is {', '.join(names)}")
    terms = result.scenario["instruments"][chosen]
    unit = round(terms["tick"] * PRICE_UNITS, 6)
    if unit < 1 or unit != int(unit):
        raise ValueError(f"{chosen}: its tick is {terms['tick']}; LOBSTER writes whole numbers of 0.0001")
    start = pd.Timestamp(result.summary["start"])
    stem = f"{chosen}_{start:%Y-%m-%d}"
    paths = folder / f"{stem}_message_{levels}.csv", folder / f"{stem}_orderbook_{levels}.csv"
    book = _Levels(levels, int(unit))
    with paths[0].open("w", encoding="ascii") as messages, paths[1].open("w", encoding="ascii") as states:
        for time, (kind, order, size, price, side) in _rows(result, chosen, terms):
            before = book.text
            book.change(kind, side, price, size)
            if book.text == before and kind not in (Type.HIDDEN_EXECUTION, Type.HALT):
                continue
            of = 1 - 2 * side if kind != Type.HALT else -1
            told = price * int(unit) if kind != Type.HALT else price
            messages.write(f"{time // NS}.{time % NS:09d},{kind},{order},{size},{told},{of}\n")
            states.write(book.text)
    return paths


def _rows(result: Result, instrument: str, terms: dict[str, Any]) -> Iterator[tuple[int, _Row]]:
    """What changed, with the nanoseconds after midnight."""
    midnight = pd.Timestamp(result.summary["start"]).normalize()
    sent, trades, events = result.messages, result.trades, result.events
    here = (sent["instrument"] == instrument) | ~sent["kind"].isin(_CREATE)  # others go by the id of their order alone
    sent, trades, events = sent[here], *(table[table["instrument"] == instrument] for table in (trades, events))
    told = _Told(terms)
    if terms["opening"] != "continuous":
        yield (
            int((pd.Timestamp(result.summary["start"]) - midnight).value),
            (int(Type.HALT), 0, 0, _PHASES[terms["opening"]], 0),
        )
    traded, happened = _by_message(trades), _by_message(events)
    asked = {row["message"]: row for row in sent.to_dict("records")}
    times = {row["message"]: row["time"] for rows in (*traded.values(), *happened.values()) for row in rows}
    for number in sorted({*asked, *traded, *happened}):
        when = asked[number]["time"] if number in asked else times[number]
        for row in told.message(asked.get(number), traded.get(number, []), happened.get(number, [])):
            yield int((when - midnight).value), row


def _by_message(table: pd.DataFrame) -> dict[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in table.to_dict("records"):
        found[row["message"]].append(row)
    return found


class _Told:
    """The orders that rest, and the rows that tell of each change."""

    def __init__(self, terms: dict[str, Any]) -> None:
        self._tick, self._lot = terms["tick"], terms["lot"]
        self._resting: dict[int, _Order] = {}
        self._waiting: dict[int, dict[str, Any]] = {}
        self._prices: tuple[dict[int, int], dict[int, int]] = (defaultdict(int), defaultdict(int))

    def message(
        self, asked: dict[str, Any] | None, trades: list[dict[str, Any]], events: list[dict[str, Any]]
    ) -> Iterator[_Row]:
        """The rows of one message and of what it set off."""
        mine = int(asked["order"]) if asked is not None and asked["status"] != "rejected" else 0
        makes_room = [event for event in events if event["what"] in _BEFORE and event["order"] != mine]
        for event in makes_room:
            yield from self._event(event)
        own = [trade for trade in trades if trade["aggressor"] == "auction" or trade["taker_order"] == mine]
        if asked is not None and asked["kind"] == "replace" and mine:
            known = self._resting.get(mine)
            if known is None:  # of another instrument
                asked = None
            elif asked["status"] != "done":  # it enters again as it came, but for these
                asked = {
                    **known.asked,
                    **{key: asked[key] for key in ("kind", "price", "quantity", "status", "filled")},
                }
                yield from self._leave(mine)
        for trade in own:
            yield from self._trade(trade)
        if asked is not None and asked["status"] != "rejected":
            lost = sum(
                self._lots(event["quantity"]) for event in makes_room if event["what"] == "self_trade_decremented"
            )
            yield from self._asked(asked, mine, lost)
        followed = [event for event in events if event not in makes_room]
        for event in followed:
            if event["what"] != "triggered":
                yield from self._event(event)
        cancelled = {event["order"] for event in followed if event["what"] == "activation_cancelled"}
        forced = [trade for trade in trades if trade not in own]
        for trade in forced:
            yield from self._trade(trade)
        for event in followed:
            if event["what"] == "triggered" and event["order"] not in cancelled:
                filled = sum(
                    self._lots(trade["quantity"]) for trade in forced if trade["taker_order"] == event["order"]
                )
                yield from self._triggered(event, filled)

    def _asked(self, asked: dict[str, Any], order: int, lost: int) -> Iterator[_Row]:
        kind, status = asked["kind"], asked["status"]
        if kind == "pegged":
            raise ValueError(f"order {order} is pegged and moves without a message; LOBSTER files cannot tell of it")
        if kind == "cancel":
            self._waiting.pop(order, None)
            yield from self._leave(order)
        elif kind == "reduce" or (kind == "replace" and status == "done"):
            known = self._resting.get(order)
            if known is not None:
                size = self._lots(asked["quantity"])
                yield from self._lessen(order, size if kind == "reduce" else known.left - size, reserve_first=True)
        elif status == "pending":
            self._waiting[order] = asked
        elif status == "resting" and kind in _ENTERS:
            yield from self._rest(asked, order, self._lots(asked["quantity"]) - self._lots(asked["filled"]) - lost)

    def _rest(self, asked: dict[str, Any], order: int, left: int) -> Iterator[_Row]:
        flags = Flag(int(asked["flags"]))
        if Flag.REDUCE_ONLY in flags:
            raise ValueError(f"order {order} is reduce-only and rests; LOBSTER files cannot tell how much of it counts")
        side, price = int(asked["side"] == "sell"), self._ticks(asked["price"])
        if Flag.POST_SLIDE in flags:
            others = [tick for tick, lots in self._prices[1 - side].items() if lots]
            if side == 0 and others:
                price = min(price, min(others) - 1)
            elif others:
                price = max(price, max(others) + 1)
        display = self._lots(asked["display"])
        shown = min(display, left) if display else left
        rests = _Order(side, price, asked, shown, left - shown, display, Flag.HIDDEN in flags)
        self._resting[order] = rests
        self._prices[side][price] += left
        if not rests.hidden:
            yield int(Type.NEW), order, shown, price, side

    def _triggered(self, event: dict[str, Any], filled: int) -> Iterator[_Row]:
        asked = self._waiting.pop(int(event["order"]), None)
        left = self._lots(event["quantity"]) - filled
        if asked is not None and asked["kind"] == "stop_limit" and asked["tif"] not in ("ioc", "fok") and left > 0:
            yield from self._rest(asked, int(event["order"]), left)

    def _event(self, event: dict[str, Any]) -> Iterator[_Row]:
        order = int(event["order"])
        if event["what"] == "phase_changed":
            yield int(Type.HALT), 0, 0, _PHASES[event["phase"]], 0
        elif order in self._resting:
            size = self._lots(event["quantity"])
            yield from self._lessen(order, size, reserve_first=event["what"] != "self_trade_decremented")
        else:
            self._waiting.pop(order, None)

    def _trade(self, trade: dict[str, Any]) -> Iterator[_Row]:
        size, price = self._lots(trade["quantity"]), self._ticks(trade["price"])
        sides = ("maker_order", "taker_order") if trade["aggressor"] == "auction" else ("maker_order",)
        for order in (int(trade[side]) for side in sides):
            known = self._resting.get(order)
            if known is None:
                continue  # of an auction a market order, which is not in the book
            if known.hidden:
                known.shown -= size
                self._prices[known.side][known.price] -= size
                yield int(Type.HIDDEN_EXECUTION), 0, size, price, known.side
                self._gone(order)
            else:
                yield from self._executed(order, known, size)

    def _executed(self, order: int, known: _Order, size: int) -> Iterator[_Row]:
        while size > 0:  # an auction may take more than an iceberg shows
            part = min(size, known.shown)
            if part <= 0:
                raise ValueError(f"order {order} traded more than rested; the recorded messages do not go together")
            size, known.shown = size - part, known.shown - part
            self._prices[known.side][known.price] -= part
            yield int(Type.EXECUTION), order, part, known.price, known.side
            if not known.shown and known.reserve:
                known.shown = min(known.display, known.reserve)
                known.reserve -= known.shown
                yield int(Type.NEW), order, known.shown, known.price, known.side
        self._gone(order)

    def _leave(self, order: int) -> Iterator[_Row]:
        if order in self._resting:
            yield from self._lessen(order, self._resting[order].left, reserve_first=True)

    def _lessen(self, order: int, size: int, *, reserve_first: bool) -> Iterator[_Row]:
        """Take lots from an order without a trade."""
        known = self._resting[order]
        hidden_part = min(size, known.reserve) if reserve_first else 0
        known.reserve -= hidden_part
        shown = min(size - hidden_part, known.shown)
        known.shown -= shown
        self._prices[known.side][known.price] -= hidden_part + shown
        if shown and not known.hidden:
            yield int(Type.PARTIAL_CANCEL if known.shown else Type.DELETE), order, shown, known.price, known.side
        if not known.shown and known.reserve:
            known.shown = min(known.display, known.reserve)
            known.reserve -= known.shown
            yield int(Type.NEW), order, known.shown, known.price, known.side
        self._gone(order)

    def _gone(self, order: int) -> None:
        if not self._resting[order].left:
            del self._resting[order]

    def _lots(self, quantity: float) -> int:
        return round(quantity / self._lot)

    def _ticks(self, price: float) -> int:
        return round(price / self._tick)


class _Levels:
    """The best levels of each side, as they stand in a file."""

    def __init__(self, levels: int, unit: int) -> None:
        self._levels, self._unit = levels, unit
        self._size: tuple[dict[int, int], dict[int, int]] = (defaultdict(int), defaultdict(int))
        self._sorted: tuple[list[int], list[int]] = ([], [])  # bids negative, so that the best is first
        self.text = self._written()

    def change(self, kind: int, side: int, price: int, size: int) -> None:
        """Take in one row."""
        if kind in (Type.HIDDEN_EXECUTION, Type.HALT):
            return
        sizes, order, place = self._size[side], self._sorted[side], price if side else -price
        if not sizes[price]:
            bisect.insort(order, place)
        sizes[price] += size if kind == Type.NEW else -size
        at = bisect.bisect_left(order, place)
        if not sizes[price]:
            order.pop(at)
        if at < self._levels:
            self.text = self._written()

    def _written(self) -> str:
        cells: list[int] = []
        for level in range(self._levels):
            for side in (1, 0):
                order = self._sorted[side]
                price = abs(order[level]) if level < len(order) else 0
                sign = 1 if side else -1
                cells += [price * self._unit, self._size[side][price]] if price else [sign * NO_PRICE, 0]
        return ",".join(map(str, cells)) + "\n"

"""Collars around a reference price: how far the next trade may be from it, and which rule says so."""

from typing import Any

import numpy as np

from abm.exchange.compilation import compiled
from abm.exchange.description import PPM
from abm.exchange.memory import BAND, MARKET_WIDE, TENTHS, component, rule_at, tenth_at


@compiled
def _roll(e: Any, r: int, rule: Any) -> None:
    """Close the tenths of the window that are over; what is older than ten of them is forgotten, but for the latest that traded."""
    now = e.time // rule.tenth
    if now == rule.now:
        return
    current = tenth_at(e.tenths, r * TENTHS + rule.now % TENTHS)
    if current.count > 0:
        rule.past_sum, rule.past_count = current.sum, current.count
    for k in range(rule.now + 1, min(now, rule.now + TENTHS) + 1):
        tenth = tenth_at(e.tenths, r * TENTHS + k % TENTHS)
        tenth.sum, tenth.count = 0, 0
    rule.now = now
    rule.stale = 1


@compiled
def _reference(e: Any, r: int, rule: Any, book: Any) -> int:
    if rule.tenth == 0:
        return np.int64(book.reference)
    total, count = np.int64(0), np.int64(0)
    for k in range(rule.now - TENTHS + 1, rule.now):
        tenth = tenth_at(e.tenths, r * TENTHS + k % TENTHS)
        total += tenth.sum
        count += tenth.count
    if count > 0:
        return total // count
    if rule.past_count > 0:
        return np.int64(rule.past_sum // rule.past_count)
    return np.int64(book.reference)


@compiled
def refresh(e: Any, r: int, book: Any) -> Any:
    """The rule with its collar as of now."""
    rule = rule_at(e.rules, r)
    if rule.tenth != 0:
        _roll(e, r, rule)
    if rule.stale and rule.kind != MARKET_WIDE:
        reference = _reference(e, r, rule, book)
        if reference == 0:
            rule.lowest, rule.highest = 1, book.n_ticks - 1
        else:
            rule.lowest = -(-reference * (PPM - rule.width) // PPM)
            rule.highest = min(reference * (PPM + rule.width) // PPM, np.int64(book.n_ticks) - 1)
        rule.stale = 0
    return rule


@component
def bound_of(e: Any, book: Any, side: int) -> int:
    """The furthest tick a taker of `side` may trade at; `e.binding` names the rule that says so (-1 none)."""
    bound, binding = np.int64(book.n_ticks) - 1 if side == 0 else np.int64(1), np.int64(-1)
    r = np.int64(book.first_rule)
    while r >= 0:
        rule = refresh(e, r, book)
        if rule.kind != MARKET_WIDE:
            if side == 0 and rule.highest < bound:
                bound, binding = np.int64(rule.highest), r
            elif side == 1 and rule.lowest > bound:
                bound, binding = np.int64(rule.lowest), r
        r = np.int64(rule.next)
    e.binding = binding
    return bound


@compiled
def outside_band(e: Any, book: Any, side: int, price: int) -> bool:
    """Whether a price band refuses an order of `side` with this limit."""
    r = np.int64(book.first_rule)
    while r >= 0:
        rule = refresh(e, r, book)
        if rule.kind == BAND and ((side == 0 and price > rule.highest) or (side == 1 and price < rule.lowest)):
            return True
        r = np.int64(rule.next)
    return False


@component
def note_trade(e: Any, book: Any, price: int) -> int:
    """Note a trade for the rules of its instrument. Answers 0."""
    r = np.int64(book.first_rule)
    while r >= 0:
        rule = refresh(e, r, book)
        if rule.tenth != 0:
            tenth = tenth_at(e.tenths, r * TENTHS + rule.now % TENTHS)
            tenth.sum += price
            tenth.count += 1
        if rule.kind == MARKET_WIDE and not rule.fired and price <= rule.lowest:
            rule.fired = 1
            book.fallen = 1
        r = np.int64(rule.next)
    return 0


@compiled
def set_reference(e: Any, book: Any, price: int) -> None:
    """Give the instrument a new static reference."""
    book.reference = price
    r = np.int64(book.first_rule)
    while r >= 0:
        rule = rule_at(e.rules, r)
        rule.stale = 1
        r = np.int64(rule.next)


@compiled
def set_close(e: Any, book: Any, price: int) -> None:
    """Give the instrument a new close, from which its market-wide breakers count; they can fire again."""
    r = np.int64(book.first_rule)
    while r >= 0:
        rule = rule_at(e.rules, r)
        if rule.kind == MARKET_WIDE:
            rule.lowest = np.int64(price) * (PPM - rule.width) // PPM
            rule.fired = 0
        r = np.int64(rule.next)

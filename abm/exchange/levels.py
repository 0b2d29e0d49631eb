"""Price levels: queues of orders by tick, and a bitmap over ticks that finds the next level that holds an order.

Each instrument has six such structures (`memory.QUEUES`): bids, asks, and stops that wait for their trigger. Below a queue's 64-tick
blocks lie three coarser bitmaps, so that a search touches at most eight words however far away the next level is.
Within a level displayed orders stand before hidden ones.

The first parameter, `a`, is whatever has the addresses of the tables: the engine record, or the `Addresses` that the hot loop keeps.
"""

from typing import Any

import numpy as np

from abm.exchange.compilation import compiled, highest_bit, inlined, lowest_bit
from abm.exchange.memory import HIDDEN, block_at, level_at, order_at, word_at

ONE = np.uint64(1)
FULL = np.uint64(0xFFFFFFFFFFFFFFFF)


@inlined
def bit(position: int) -> Any:
    """Word with the bit `position mod 64` set."""
    return ONE << np.uint64(position & 63)


@inlined
def above(position: int) -> Any:
    """Word with all bits above `position mod 64` set."""
    return (FULL << np.uint64(position & 63)) << ONE


@inlined
def below(position: int) -> Any:
    """Word with all bits below `position mod 64` set."""
    return bit(position) - ONE


@inlined
def level_of(a: Any, queue: Any, tick: int) -> Any:
    """The level at `tick`, whose page must exist."""
    return level_at(a.levels, (np.int64(block_at(a.blocks, queue.block0 + (tick >> 6)).page) << 6) + (tick & 63))


@compiled
def mark_block(a: Any, queue: Any, block: int) -> None:
    """Mark a block that has just got its first level in the coarser bitmaps."""
    first = word_at(a.upper, queue.up1 + (block >> 6))
    second = word_at(a.upper, queue.up2 + (block >> 12))
    third = word_at(a.upper, queue.up3 + (block >> 18))
    first.bits = first.bits | bit(block)
    second.bits = second.bits | bit(block >> 6)
    third.bits = third.bits | bit(block >> 12)


@compiled
def _unmark(a: Any, queue: Any, block: int) -> None:
    word = word_at(a.upper, queue.up1 + (block >> 6))
    word.bits = word.bits & ~bit(block)
    if word.bits == 0:
        word = word_at(a.upper, queue.up2 + (block >> 12))
        word.bits = word.bits & ~bit(block >> 6)
        if word.bits == 0:
            word = word_at(a.upper, queue.up3 + (block >> 18))
            word.bits = word.bits & ~bit(block >> 12)


@compiled
def _far_above(a: Any, queue: Any, block: int) -> int:
    up1, up2, up3 = queue.up1, queue.up2, queue.up3
    word = word_at(a.upper, up1 + (block >> 6)).bits & above(block)
    if word == 0:
        node = block >> 6
        word = word_at(a.upper, up2 + (node >> 6)).bits & above(node)
        if word == 0:
            node = node >> 6
            top = node >> 6
            word = word_at(a.upper, up3 + top).bits & above(node)
            while word == 0:
                top += 1
                if top >= queue.words3:
                    return np.int64(queue.none)
                word = word_at(a.upper, up3 + top).bits
            node = (top << 6) + lowest_bit(word)
            word = word_at(a.upper, up2 + node).bits
            node = (node << 6) + lowest_bit(word)
        else:
            node = ((node >> 6) << 6) + lowest_bit(word)
        word = word_at(a.upper, up1 + node).bits
        block = (node << 6) + lowest_bit(word)
    else:
        block = ((block >> 6) << 6) + lowest_bit(word)
    return (block << 6) + lowest_bit(block_at(a.blocks, queue.block0 + block).word)


@compiled
def _far_below(a: Any, queue: Any, block: int) -> int:
    up1, up2, up3 = queue.up1, queue.up2, queue.up3
    word = word_at(a.upper, up1 + (block >> 6)).bits & below(block)
    if word == 0:
        node = block >> 6
        word = word_at(a.upper, up2 + (node >> 6)).bits & below(node)
        if word == 0:
            node = node >> 6
            top = node >> 6
            word = word_at(a.upper, up3 + top).bits & below(node)
            while word == 0:
                top -= 1
                if top < 0:
                    return np.int64(queue.none)
                word = word_at(a.upper, up3 + top).bits
            node = (top << 6) + highest_bit(word)
            word = word_at(a.upper, up2 + node).bits
            node = (node << 6) + highest_bit(word)
        else:
            node = ((node >> 6) << 6) + highest_bit(word)
        word = word_at(a.upper, up1 + node).bits
        block = (node << 6) + highest_bit(word)
    else:
        block = ((block >> 6) << 6) + highest_bit(word)
    return (block << 6) + highest_bit(block_at(a.blocks, queue.block0 + block).word)


@inlined
def next_above(a: Any, queue: Any, tick: int) -> int:
    """Lowest tick above `tick` that holds an order, or the queue's `none`."""
    block = np.int64(tick) >> 6
    word = block_at(a.blocks, queue.block0 + block).word & above(tick)
    if word != 0:
        return (block << 6) + lowest_bit(word)
    return _far_above(a, queue, block)


@inlined
def next_below(a: Any, queue: Any, tick: int) -> int:
    """Highest tick below `tick` that holds an order, or the queue's `none`."""
    block = np.int64(tick) >> 6
    word = block_at(a.blocks, queue.block0 + block).word & below(tick)
    if word != 0:
        return (block << 6) + highest_bit(word)
    return _far_below(a, queue, block)


@inlined
def next_level(a: Any, queue: Any, tick: int) -> int:
    """The nearest tick behind `tick`, away from the best, that holds an order, or the queue's `none`."""
    if queue.high:
        return next_below(a, queue, tick)
    return next_above(a, queue, tick)


@inlined
def _opened(a: Any, e: Any, queue: Any, slot: int, tick: int) -> Any:
    """The level at `tick`, of which the order in `slot` is the first where it had none."""
    block = block_at(a.blocks, queue.block0 + (tick >> 6))
    if block.page == 0:
        block.page = e.next_page
        e.next_page += 1
    level = level_at(a.levels, (np.int64(block.page) << 6) + (tick & 63))
    if level.head == 0:
        if block.word == 0:
            mark_block(a, queue, tick >> 6)
        block.word = block.word | bit(tick)
        if queue.high:
            if tick > queue.best:
                queue.best = tick
        elif tick < queue.best:
            queue.best = tick
        level.head = slot
    return level


@inlined
def append(a: Any, e: Any, queue: Any, slot: int, order: Any, tick: int) -> None:
    """Put an order at the back of its level: a displayed one before those that are hidden."""
    level = _opened(a, e, queue, slot, tick)
    if (order.flags & HIDDEN) == 0:
        level.quantity += order.quantity
        level.count += 1
        if level.hidden != 0:
            _insert_before_hidden(a, level, slot, order)
            return
    elif level.hidden == 0:
        level.hidden = slot
    _put_last(a, level, slot, order)


@inlined
def append_plain(a: Any, e: Any, queue: Any, slot: int, order: Any, tick: int, lots: int) -> None:
    """`append` for an order of `lots` known to be displayed."""
    level = _opened(a, e, queue, slot, tick)
    level.quantity += lots
    level.count += 1
    if level.hidden != 0:
        _insert_before_hidden(a, level, slot, order)
    else:
        _put_last(a, level, slot, order)


@inlined
def _put_last(a: Any, level: Any, slot: int, order: Any) -> None:
    last = level.tail
    order.prev, order.next = last, 0
    order_at(a.orders, last).next = slot  # record 0 takes it where the level was empty
    level.tail = slot


@compiled
def _insert_before_hidden(a: Any, level: Any, slot: int, order: Any) -> None:
    hidden = order_at(a.orders, level.hidden)
    order.next = level.hidden
    order.prev = hidden.prev
    if hidden.prev != 0:
        order_at(a.orders, hidden.prev).next = slot
    else:
        level.head = slot
    hidden.prev = slot


@inlined
def close_level(a: Any, queue: Any, tick: int) -> None:
    """Take a level that has just become empty off the bitmap, and find the new best if it was the best."""
    block = block_at(a.blocks, queue.block0 + (tick >> 6))
    block.word = block.word & ~bit(tick)
    if tick == queue.best:
        queue.best = next_level(a, queue, tick)
    if block.word == 0:
        _unmark(a, queue, tick >> 6)


@inlined
def unlink(a: Any, level: Any, order: Any) -> None:
    """Take an order out of the chain of its level. Without branches: which neighbours it has is as good as random."""
    following, before, head, tail = order.next, order.prev, level.head, level.tail
    order_at(a.orders, before).next = following  # record 0 takes what has no neighbour
    order_at(a.orders, following).prev = before
    level.head = following if before == 0 else head
    level.tail = before if following == 0 else tail


@inlined
def detach(a: Any, queue: Any, slot: int, order: Any) -> None:
    """Take an order out of its level."""
    tick = np.int64(order.price)
    level = level_of(a, queue, tick)
    if (order.flags & HIDDEN) == 0:
        level.quantity -= order.quantity
        level.count -= 1
    elif level.hidden == slot:
        level.hidden = order.next
    unlink(a, level, order)
    if level.head == 0:
        close_level(a, queue, tick)


@inlined
def detach_plain(a: Any, queue: Any, order: Any) -> None:
    """`detach` for an order known to be displayed."""
    tick = np.int64(order.price)
    level = level_of(a, queue, tick)
    level.quantity -= order.quantity
    level.count -= 1
    unlink(a, level, order)
    if level.head == 0:
        close_level(a, queue, tick)

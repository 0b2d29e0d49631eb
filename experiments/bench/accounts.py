"""Exchanges with many open accounts for `abm bench clearing`, and what they are given to do."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from abm.clearing import ClearingHouse
from abm.clearing.rules import Bracket, Liquidation, Margin, Mark
from abm.exchange import MESSAGE, Exchange, FeeTier, Instrument, Kind, Side, TimeInForce
from abm.exchange.description import MONEY_UNITS
from abm.exchange.messages import Records
from experiments.bench.tape import FIRST_MID, LENGTH, N_TICKS, Tape

MAKERS = 20
"""Market makers stand before all other accounts, and send half of the orders."""

NAME = "bench"
POSITION = 1_000_000
LEVERAGES = (2, 3, 5, 10, 20)
BATCH = 20_000
WEALTH = 1e9

LOTS, LEVERAGE, MAINTENANCE = 10, 5.0, 0.1
"""Of the positions in the dense band: far enough from bankruptcy for the book to fill them."""

BAND = 20
"""The band spans a twentieth of the price."""


class World(NamedTuple):
    """An exchange with open accounts, and its clearing house."""

    exchange: Exchange
    house: ClearingHouse


def owned(tape: Tape, accounts: int) -> Records:
    """The messages of a tape, half of the orders from the market makers and half from all other accounts alike.

    Who cancels is who sent the order.
    """
    rng = np.random.default_rng(2)
    makers, others = rng.integers(0, MAKERS, LENGTH + 1), rng.integers(MAKERS, MAKERS + accounts, LENGTH + 1)
    owners = np.where(rng.random(LENGTH + 1) < 0.5, makers, others)
    messages = tape.messages()
    messages["owner"] = owners[messages["order"]]
    return messages


def opened(accounts: int, first_id: int = LENGTH + 1) -> World:
    """An exchange in which every other account is long and every other short, at leverages from 2 to 20, half isolated and half crossed.

    They bought and sold at the first mid of the tape; nobody's liquidation price is within 3 % of it.
    """
    exchange = Exchange(
        [_perpetual(FIRST_MID, 20, 0.01, fees=(FeeTier(maker=0.0002, taker=0.0005),))],
        accounts=MAKERS + accounts,
        ledger=True,
    )
    house = ClearingHouse(exchange)
    rng = np.random.default_rng(3)
    everyone = _rows(MAKERS, accounts)
    leverage = rng.choice(np.array(LEVERAGES, float), accounts)
    notional = POSITION * FIRST_MID * exchange.instruments[0].unit / MONEY_UNITS
    house.credit(_rows(0, MAKERS), "opening", cash=WEALTH)
    house.credit(everyone, "opening", cash=notional / leverage + 10_000)
    house.set_terms(everyone, NAME, leverage, rng.random(accounts) < 0.5)
    for start in range(0, accounts, BATCH):  # a few at a time: an exchange keeps the room its longest tape needed
        owners = everyone[start : start + BATCH]
        orders = _orders(first_id + start, owner=owners, side=(owners - MAKERS) % 2, price=FIRST_MID, quantity=POSITION)
        exchange.match(orders)
    return World(exchange, house)


def crowded(longs: int, a_tick: int, style: str) -> tuple[World, Records]:
    """An exchange with `longs` positions in a band of liquidation prices, `a_tick` at each, and sales that bring the price through all of it.

    Half are isolated and half crossed. Each sale takes one tick of the book, and the liquidations as much again where all is sold at once.
    """
    fall = longs // a_tick
    first = BAND * fall
    exchange = Exchange(
        [_perpetual(round(1.2 * first), LEVERAGE, MAINTENANCE, style)], accounts=MAKERS + longs, ledger=True
    )
    house = ClearingHouse(exchange)
    everyone = _rows(MAKERS, longs)
    levels = first - 1 - np.random.default_rng(4).integers(0, fall, longs)
    entry = np.ceil(levels * (1 - MAINTENANCE) / (1 - 1 / LEVERAGE) + 0.1).astype(np.int64)
    margin = -np.floor(-entry * LOTS * exchange.instruments[0].unit / LEVERAGE) / MONEY_UNITS
    house.credit(_rows(0, MAKERS), "opening", cash=WEALTH)
    house.credit(everyone, "opening", cash=margin)
    house.set_terms(everyone, NAME, LEVERAGE, everyone % 2 == 0)
    for start in range(0, longs, BATCH):
        part = slice(start, start + BATCH)
        owners = np.repeat(everyone[part], 2)
        orders = _orders(1 + 2 * start, owner=owners, price=np.repeat(entry[part], 2), quantity=LOTS)
        orders["owner"][0::2], orders["side"][0::2] = 0, Side.SELL
        exchange.match(orders)

    depth = LOTS * a_tick
    bids = first - 1 - np.arange(2 * fall + 200)
    book = _orders(2 * longs + 1, owner=np.full(len(bids) + 1, 0), price=np.append(bids, first + 1), quantity=depth)
    book["side"][-1] = Side.SELL
    exchange.match(book)
    sales = _orders(2 * longs + 1 + len(book), owner=np.full(fall + 50, 1), side=Side.SELL, quantity=depth)
    sales["kind"], sales["tif"] = Kind.MARKET, TimeInForce.IOC
    return World(exchange, house), sales


def _perpetual(
    reference: float, leverage: float, maintenance: float, style: Any = "full", fees: tuple[FeeTier, ...] = (FeeTier(),)
) -> Instrument:
    return Instrument(
        name=NAME,
        kind="perpetual",
        tick=1.0,
        lot=1e-5,
        max_price=max(float(N_TICKS), 2.0 * reference),
        reference_price=reference,
        fees=fees,
        margin=Margin(
            brackets=(Bracket(leverage=leverage, maintenance=maintenance),),
            mark=Mark(),
            liquidation=Liquidation(style=style),
        ),
    )


def _rows(first: int, count: int) -> npt.NDArray[np.int32]:
    return np.arange(first, first + count, dtype=np.int32)


def _orders(first_id: int, owner: Any, **fields: Any) -> Records:
    orders = np.zeros(len(owner), MESSAGE)
    orders["order"], orders["owner"] = first_id + np.arange(len(owner)), owner
    for name, values in fields.items():
        orders[name] = values
    return orders

"""Read LOBSTER message and order-book files, and say in one line where a damaged one is damaged."""

import gzip
import zlib
from collections.abc import Callable
from decimal import Decimal
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Lots = npt.NDArray[np.int64]

NO_PRICE = 9_999_999_999
"""What a LOBSTER book writes, with either sign, for the price of a level that is not there."""

PRICE_UNITS = 10_000
"""LOBSTER prices are whole ten-thousandths of a dollar."""

MAX_TICKS = 2**30 - 2
"""More than an instrument of the exchange can have."""

NS = 1_000_000_000


class Type(IntEnum):
    """What a LOBSTER message reports."""

    NEW = 1
    PARTIAL_CANCEL = 2
    DELETE = 3
    EXECUTION = 4
    HIDDEN_EXECUTION = 5
    CROSS = 6
    HALT = 7


ROW = np.dtype(
    [
        ("seconds", np.float64),
        ("type", np.int64),
        ("order", np.int64),
        ("size", np.int64),
        ("price", np.int64),
        ("direction", np.int64),
    ]
)
COLUMNS = ROW.names or ()
BOOK_COLUMNS = ("ask price", "ask size", "bid price", "bid size")


class DamagedFile(ValueError):
    """A file that cannot be replayed: its name, the row counted from 1 where there is one, and the reason."""

    def __init__(self, path: Path, row: int | None, reason: str) -> None:
        self.path, self.row, self.reason = path, row, reason
        super().__init__(f"{path}: {'' if row is None else f'row {row}: '}{reason}")


class Messages:
    """A checked message file.

    Attributes:
        time_ns: Nanoseconds after midnight; never falls.
        type: `Type` of each message.
        order: Order id of the file; 0 where there is none.
        size: Shares.
        price: Ticks for visible orders (types 1 to 4); -1, 0, 1 of a halt; 0 otherwise.
        side: Side of the resting order, 0 buy, 1 sell.
    """

    def __init__(self, path: Path, tick: Decimal) -> None:
        lines = _lines(path)
        table = _table(path, lines, ROW, len(COLUMNS), _message_fault)
        step = _step(tick)
        of = table["type"]
        known = (of >= Type.NEW) & (of <= Type.HALT)
        visible = (of >= Type.NEW) & (of <= Type.EXECUTION)
        traded = of <= Type.HIDDEN_EXECUTION
        price = table["price"]
        earlier = np.concatenate((table["seconds"][:1], table["seconds"][:-1]))
        _refuse(
            path,
            (
                ~np.isfinite(table["seconds"]) | (table["seconds"] < 0),
                lambda i: f"time {table['seconds'][i]} is not a time of day",
            ),
            (
                table["seconds"] < earlier,
                lambda i: f"time {table['seconds'][i]} is before {earlier[i]} of the row above",
            ),
            (~known, lambda i: f"unknown type {of[i]}; LOBSTER has 1 to 7"),
            (table["size"] < 0, lambda i: f"negative size {table['size'][i]}"),
            (visible & (table["size"] == 0), lambda i: "size 0 of a visible order"),
            (visible & (table["order"] <= 0), lambda i: f"order id {table['order'][i]} is not positive"),
            (
                traded & (np.abs(table["direction"]) != 1),
                lambda i: f"direction {table['direction'][i]} is neither 1 nor -1",
            ),
            (known & traded & (price <= 0), lambda i: f"price {price[i]} is not positive"),
            (visible & (price >= MAX_TICKS * step), lambda i: f"price {price[i]} is out of range"),
            (
                visible & (price % step != 0),
                lambda i: f"price {price[i]} is not on the tick of {tick}; choose the tick of the file",
            ),
            ((of == Type.HALT) & (np.abs(price) > 1), lambda i: f"price {price[i]} of a halt is none of -1, 0, 1"),
        )
        self.time_ns: Lots = np.rint(table["seconds"] * NS).astype(np.int64)
        self.type: Lots = of.copy()
        self.order: Lots = table["order"].copy()
        self.size: Lots = table["size"].copy()
        self.price: Lots = np.where(visible, price // step, np.where(of == Type.HALT, price, 0))
        self.side: Lots = np.where(table["direction"] == 1, 0, 1)

    def __len__(self) -> int:
        return len(self.time_ns)


class Book:
    """A checked order-book file: the state after each message.

    Attributes:
        levels: Levels of each side.
        price: Ticks, shape (2, rows, levels), buy side first, best level first; 0 where there is no level.
        size: Shares, same shape.
    """

    def __init__(self, path: Path, tick: Decimal) -> None:
        lines = _lines(path)
        columns = lines[0].count(",") + 1
        if columns % 4:
            raise DamagedFile(path, 1, f"{columns} columns; a book has four for each level")
        table = _table(path, lines, np.dtype(np.int64), columns, _book_fault)
        step = _step(tick)
        self.levels = columns // 4
        shape = table.reshape(len(lines), self.levels, 4).transpose(2, 0, 1)
        price, size = np.ascontiguousarray(shape[[2, 0]]), np.ascontiguousarray(shape[[3, 1]])
        none = np.abs(price) == NO_PRICE

        def at(mask: Mask) -> Mask:
            return np.any(mask, axis=(0, 2))

        def worst_first(side: int) -> Mask:
            here, out = price[side] if side else -price[side], none[side]
            return np.any((here[:, 1:] <= here[:, :-1]) & ~out[:, 1:] & ~out[:, :-1], axis=1)

        _refuse(
            path,
            (at(size < 0), lambda i: f"negative size {size[:, i][size[:, i] < 0][0]}"),
            (at(none & (size != 0)), lambda i: "a level without a price has a size"),
            (at(~none & (size == 0)), lambda i: "a level with a price has size 0"),
            (at(~none & (price <= 0)), lambda i: "a price is not positive"),
            (at(~none & (price >= MAX_TICKS * step)), lambda i: "a price is out of range"),
            (
                at(~none & (price % step != 0)),
                lambda i: f"a price is not on the tick of {tick}; choose the tick of the file",
            ),
            (at(none[..., :-1] & ~none[..., 1:]), lambda i: "a level is missing between two others"),
            (worst_first(0), lambda i: "bid levels are not in falling order"),
            (worst_first(1), lambda i: "ask levels are not in rising order"),
        )
        self.price: Lots = np.where(none, 0, price // step)
        self.size: Lots = size

    def __len__(self) -> int:
        return int(self.price.shape[1])


def read_pair(messages: Path, book: Path, tick: Decimal) -> tuple[Messages, Book]:
    """Read the two files of one download.

    Args:
        messages: The message file, csv or csv.gz.
        book: The order-book file of the same rows.
        tick: Tick in dollars.

    Raises:
        DamagedFile: One of them cannot be replayed, or they are not of the same rows.
        ValueError: The tick is finer than a LOBSTER price.
    """
    sent, states = Messages(messages, tick), Book(book, tick)
    if len(sent) != len(states):
        row = min(len(sent), len(states)) + 1
        raise DamagedFile(
            book, row, f"{len(states)} rows, but {messages} has {len(sent)}; take both files of one download"
        )
    return sent, states


def _step(tick: Decimal) -> int:
    step = tick * PRICE_UNITS
    if step != int(step) or step < 1:
        raise ValueError(f"tick {tick} must be a whole number of 0.0001; LOBSTER writes prices so")
    return int(step)


def _lines(path: Path) -> list[str]:
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        lines = content.decode("ascii").splitlines()
    except gzip.BadGzipFile:
        raise DamagedFile(path, None, "not a gzip file") from None
    except (EOFError, zlib.error):
        raise DamagedFile(path, None, "the gzip file is cut short or damaged; fetch it again") from None
    except UnicodeDecodeError:
        raise DamagedFile(path, None, "not a text file (a gzip file must end in .gz)") from None
    except OSError as error:
        raise DamagedFile(path, None, (error.strerror or str(error)).lower()) from None
    if not lines:
        raise DamagedFile(path, None, "the file is empty")
    return lines


def _table(
    path: Path, lines: list[str], dtype: np.dtype[Any], columns: int, fault: Callable[[list[str]], str | None]
) -> npt.NDArray[Any]:
    """All rows as numbers, or the first row that is not."""
    if all(line.count(",") == columns - 1 for line in lines):
        try:
            return np.loadtxt(lines, dtype=dtype, delimiter=",", comments=None, ndmin=1 if dtype.names else 2)
        except ValueError:
            pass
    for row, line in enumerate(lines, 1):
        fields = line.split(",")
        if len(fields) != columns:
            count = len(fields) if line else 0
            cut = "; the file is cut short, fetch it again" if row == len(lines) and count < columns else ""
            raise DamagedFile(path, row, f"{count} column{'' if count == 1 else 's'} instead of {columns}{cut}")
        reason = fault(fields)
        if reason:
            raise DamagedFile(path, row, reason)
    raise DamagedFile(path, None, "not a table of numbers")


def _message_fault(fields: list[str]) -> str | None:
    try:
        float(fields[0])
    except ValueError:
        return f"time {fields[0]!r} is not a number"
    return _not_whole(list(zip(COLUMNS[1:], fields[1:], strict=True)))


def _book_fault(fields: list[str]) -> str | None:
    return _not_whole([(f"{BOOK_COLUMNS[i % 4]} {i // 4 + 1}", field) for i, field in enumerate(fields)])


def _not_whole(fields: list[tuple[str, str]]) -> str | None:
    for name, field in fields:
        digits = field.strip().removeprefix("-")
        if not digits.isdigit() or abs(int(digits)) >= 2**62:
            return f"{name} {field!r} is not a whole number"
    return None


def _refuse(path: Path, *faults: tuple[Mask, Callable[[int], str]]) -> None:
    """Raise for the first row that has a fault."""
    rows = [(int(np.argmax(mask)), reason) for mask, reason in faults if mask.any()]
    if rows:
        row, reason = min(rows, key=lambda fault: fault[0])
        raise DamagedFile(path, row + 1, reason(row))

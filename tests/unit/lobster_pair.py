"""Small pairs of LOBSTER files, row by row."""

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

from typer.testing import CliRunner, Result

from abm.lobster.files import Book, Messages
from experiments.replay import app
from experiments.replay.lobster import LobsterReport, replay_lobster

BUY, SELL = 1, -1
NEW, PARTIAL, DELETE, EXECUTION, HIDDEN, CROSS, HALT = range(1, 8)
TICK = Decimal("0.01")

Level = tuple[int, int]


class Pair:
    """A message and a book file in the making: prices in ticks, a state as (bids, asks), best first; a row each `every` seconds."""

    def __init__(self, folder: Path, levels: int, every: float = 0.001) -> None:
        self.messages, self.book = folder / "message.csv", folder / "book.csv"
        self.levels, self.every = levels, every
        self.message_rows: list[str] = []
        self.book_rows: list[str] = []

    def add(
        self, kind: int, order: int, size: int, price: int, direction: int, bids: Sequence[Level], asks: Sequence[Level]
    ) -> None:
        ticks = price if kind == HALT else price * 100
        self.message_rows.append(
            f"{34200 + len(self.message_rows) * self.every:.9f},{kind},{order},{size},{ticks},{direction}"
        )
        fields: list[int] = []
        for level in range(self.levels):
            ask, ask_size = asks[level] if level < len(asks) else (99_999_999.99, 0)
            bid, bid_size = bids[level] if level < len(bids) else (-99_999_999.99, 0)
            fields += [round(ask * 100), ask_size, round(bid * 100), bid_size]
        self.book_rows.append(",".join(map(str, fields)))

    def write(self) -> "Pair":
        self.messages.write_text("".join(f"{row}\n" for row in self.message_rows))
        self.book.write_text("".join(f"{row}\n" for row in self.book_rows))
        return self

    def replay(self, levels: int | None = None) -> LobsterReport:
        self.write()
        book = Book(self.book, TICK)
        return replay_lobster(Messages(self.messages, TICK), book, levels or book.levels, TICK)

    def command(self, *options: str) -> Result:
        return CliRunner().invoke(app, ["lobster", str(self.messages), "--book", str(self.book), *options])

"""Each message of a run with what became of it, and each event: kept where `recording.orders` asks for it."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from abm.exchange.instrument import Instrument
from abm.exchange.messages import (
    EVENT,
    MESSAGE,
    OUTCOME,
    Kind,
    Phase,
    Reason,
    Records,
    Reject,
    Status,
    TimeInForce,
    What,
)
from abm.spool import Spool

type Labels = Callable[[npt.NDArray[Any], Sequence[str]], Any]

_ANSWERED = np.dtype([("message", np.int64), ("asked", MESSAGE), ("answer", OUTCOME)])
_SIDES = ("buy", "sell")


class OrderLog:
    """The messages and events of a run, in the order in which they were processed."""

    def __init__(self, instruments: Sequence[Instrument]) -> None:
        """Begin with nothing."""
        self._instruments = instruments
        self._messages, self._events = Spool(_ANSWERED), Spool(EVENT)

    def add(self, first: int, tape: Records, outcomes: Records, events: Records) -> None:
        """Keep what one pass brought.

        Args:
            first: Sequence number of the first message of the tape.
            tape: `MESSAGE` records.
            outcomes: One `OUTCOME` for each.
            events: `EVENT` records.
        """
        rows = np.zeros(len(tape), _ANSWERED)
        rows["message"], rows["asked"], rows["answer"] = first + np.arange(len(tape)), tape, outcomes
        self._messages.add(rows[tape["kind"] != Kind.CLOCK])
        if len(events):
            self._events.add(events.copy())

    def messages(
        self, utc: Callable[[npt.NDArray[np.int64]], Any], names: Callable[..., Any]
    ) -> Iterator[pd.DataFrame]:
        """Messages as tables, piece by piece; see `Result.messages`.

        Args:
            utc: Turns nanoseconds since the start into moments.
            names: Turns accounts into names of traders.
        """
        for block in self._messages.blocks():
            asked, answer = block["asked"], block["answer"]
            yield pd.DataFrame(
                {
                    "message": block["message"],
                    "time": utc(asked["time"]),
                    "instrument": self._named(asked["instrument"]),
                    "kind": _labels(asked["kind"], Kind),
                    "side": _codes(asked["side"], _SIDES),
                    "price": np.round(asked["price"] * self._of(asked["instrument"], "tick"), 9),
                    "quantity": np.round(asked["quantity"] * self._of(asked["instrument"], "lot"), 9),
                    "display": np.round(asked["display"] * self._of(asked["instrument"], "lot"), 9),
                    "tif": _labels(asked["tif"], TimeInForce),
                    "flags": asked["flags"],
                    "order": asked["order"],
                    "trader": names(asked["owner"]),
                    "account": asked["owner"],
                    "reason": _labels(asked["reason"], Reason),
                    "status": _labels(answer["status"], Status),
                    "reject": _labels(answer["reject"], Reject),
                    "filled": np.round(answer["filled"] * self._of(asked["instrument"], "lot"), 9),
                }
            )

    def events(self, utc: Callable[[npt.NDArray[np.int64]], Any]) -> Iterator[pd.DataFrame]:
        """Events as tables, piece by piece; see `Result.events`."""
        for block in self._events.blocks():
            phase = np.where(block["what"] == What.PHASE_CHANGED, block["detail"].astype(np.int64), -1)
            yield pd.DataFrame(
                {
                    "message": block["message"],
                    "time": utc(block["time"]),
                    "instrument": self._named(block["instrument"]),
                    "what": _labels(block["what"], What),
                    "order": block["order"],
                    "account": block["owner"],
                    "quantity": np.round(block["quantity"] * self._of(block["instrument"], "lot"), 9),
                    "price": np.round(block["price"] * self._of(block["instrument"], "tick"), 9),
                    "phase": _codes(phase, [each.name.lower() for each in Phase]),
                }
            )

    def _named(self, numbers: npt.NDArray[Any]) -> Any:
        """Names of instruments; none of a message that concerns no one or all of them."""
        return _codes(
            np.where(numbers < len(self._instruments), numbers, -1), [each.name for each in self._instruments]
        )

    def _of(self, numbers: npt.NDArray[Any], key: str) -> npt.NDArray[np.float64]:
        known = np.array([getattr(each, key) for each in self._instruments])
        return np.asarray(known[np.clip(numbers, 0, len(known) - 1)], np.float64)


def _labels(codes: npt.NDArray[Any], names: Any) -> Any:
    return _codes(codes, [each.name.lower() for each in names])


def _codes(codes: npt.NDArray[Any], names: Sequence[str]) -> Any:
    """Words for numbers; what is beyond them, as in messages that were refused, is missing."""
    wide = codes.astype(np.int64)
    return pd.Categorical.from_codes(np.where((wide >= 0) & (wide < len(names)), wide, -1), pd.Index(list(names)))

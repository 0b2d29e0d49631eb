"""What moved the price: the way of a mid as a sum over whose orders, withdrawals and liquidations moved it.

Each change of the mid belongs to the order that made it: to the taker where it traded, to who placed or withdrew a quote where it did not
(`abm.exchange.shifts`). The parts add up to the whole way, with nothing left over. They say who moved the price, not why he did: a quote
that is moved because somebody else's trade came before counts for the quote's owner.
"""

from dataclasses import dataclass

import pandas as pd

from abm.record import Result

EXCHANGE = "exchange"
"""Whose doing auctions and halts are."""


@dataclass(frozen=True)
class Attribution:
    """Who moved the mid of an instrument between two moments; amounts in currency."""

    instrument: str
    start: pd.Timestamp
    end: pd.Timestamp
    first: float
    """Mid at the start."""
    last: float
    """Mid at the end."""
    hours: pd.DataFrame
    """One row for each hour and part: time, trader, kind, reason, trades, quotes, change."""

    @property
    def parts(self) -> pd.DataFrame:
        """Kind, reason, trades, quotes and change, largest change first."""
        return self.by("kind", "reason")

    @property
    def residual(self) -> float:
        """What of the mid's way no part explains; anything but 0 is a mistake in the record, or a mid with an empty side at an end."""
        return float(self.last - self.first - self.hours["change"].sum())

    def by(self, *columns: str) -> pd.DataFrame:
        """Trades, quotes and change, summed by any of time, trader, kind and reason; largest change first, but times in order."""
        sums = self.hours.groupby(list(columns), observed=True)[["trades", "quotes", "change"]].sum().reset_index()
        return sums if columns[0] == "time" else sums.sort_values("change", key=abs, ascending=False, ignore_index=True)


def attribution(
    result: Result, instrument: str, start: str | pd.Timestamp | None = None, end: str | pd.Timestamp | None = None
) -> Attribution:
    """Who moved the mid of an instrument.

    Args:
        result: A run.
        instrument: Its name.
        start: Whole hour (UTC) to begin with; that of the run where not given.
        end: Whole hour (UTC) to end with; the end of the run where not given.

    Raises:
        ValueError: The run does not trade the instrument, or does not cover that time.
    """
    about = result.summary["instruments"]
    if instrument not in about:
        raise ValueError(f"{instrument} is not traded here; there is {', '.join(about)}")
    first, last = (pd.Timestamp(result.summary[key]) for key in ("start", "end"))
    begins, ends = _hour(start, first, last), _hour(end, last, last)
    if not first <= begins < ends <= last:
        raise ValueError(
            f"{begins:%Y-%m-%dT%H:%M} to {ends:%Y-%m-%dT%H:%M} is not within the run ({first:%Y-%m-%dT%H:%M} to {last:%Y-%m-%dT%H:%M})"
        )
    interval = result.scenario["recording"]["interval"]
    if 3600.0 % interval and (begins, ends) != (first, last):
        raise ValueError(f"bars of {interval:g} s do not end on the hour; only the whole run can be told apart")
    moves = result.moves
    moves = moves[(moves["instrument"] == instrument) & (moves["time"] >= begins) & (moves["time"] < ends)]
    kinds = {name: each["kind"] for name, each in result.summary["traders"].items()} | {"": EXCHANGE}
    table = moves.assign(kind=moves["trader"].map(kinds), trader=moves["trader"].replace("", EXCHANGE))
    hours = table.pivot_table(
        index=["time", "trader", "kind", "reason"], columns="by", values="change", aggfunc="sum", observed=True
    )
    hours = hours.reindex(columns=["trade", "quote"]).fillna(0.0).rename(columns={"trade": "trades", "quote": "quotes"})
    hours = hours.assign(change=hours["trades"] + hours["quotes"]).rename_axis(columns=None).reset_index()
    return Attribution(
        instrument, begins, ends, _mid(result, instrument, begins), _mid(result, instrument, ends), hours
    )


def _hour(when: str | pd.Timestamp | None, otherwise: pd.Timestamp, last: pd.Timestamp) -> pd.Timestamp:
    if when is None:
        return otherwise
    try:
        moment = pd.Timestamp(when)
    except ValueError:
        raise ValueError(f"{when!r} is not a moment; write one such as 2026-02-05T12:00") from None
    moment = moment.tz_localize("UTC") if moment.tzinfo is None else moment.tz_convert("UTC")
    if moment != moment.floor("h") and moment != last:
        raise ValueError(f"{moment:%Y-%m-%dT%H:%M} is not a whole hour, by which runs keep what moved prices")
    return moment


def _mid(result: Result, instrument: str, when: pd.Timestamp) -> float:
    bars = result.bars[result.bars["instrument"] == instrument]
    past = bars["mid"][bars["time"] + pd.Timedelta(seconds=result.scenario["recording"]["interval"]) <= when]
    if when == pd.Timestamp(result.summary["end"]):
        return float(result.summary["instruments"][instrument]["close"])
    return float(past.iloc[-1]) if len(past) else float(result.summary["instruments"][instrument]["open"])

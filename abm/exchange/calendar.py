"""When an instrument trades: hours of the day, opening and closing auctions, and the messages by which the operator says so."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import numpy as np
from pydantic import Field, model_validator

from abm.exchange.description import NS, Frozen
from abm.exchange.messages import ANONYMOUS, MESSAGE, Kind, Phase, Records, join

if TYPE_CHECKING:
    from abm.exchange.instrument import Instrument


class Hours(Frozen):
    """Hours in which something happens, Monday to Friday, in a time zone; those that close earlier than they open close on the next day.

    A session belongs to the day on which it closes: of futures that rest for an hour each evening, the first of a week opens on Sunday. Holidays
    are not known.
    """

    timezone: str = Field("America/New_York", description="IANA name", examples=["America/New_York"])
    opens: time = Field(time(9, 30), description="local time", examples=["09:30"])
    closes: time = Field(time(16, 0), description="local time", examples=["16:00"])

    @model_validator(mode="after")
    def _known(self) -> "Hours":
        try:
            ZoneInfo(self.timezone)
        except (KeyError, ValueError, OSError):
            raise ValueError(
                f"{self.timezone!r} is not a time zone; write an IANA name such as America/New_York"
            ) from None
        if self.closes == self.opens:
            raise ValueError("closes must differ from opens; leave the calendar out where trading never ends")
        return self

    def on(self, day: date) -> tuple[datetime, datetime]:
        """Opening and closing of the session of a local day, in UTC."""
        zone = ZoneInfo(self.timezone)
        opened = day - timedelta(days=self.closes < self.opens)
        opens, closes = (
            datetime.combine(when, at, tzinfo=zone).astimezone(UTC)
            for when, at in ((opened, self.opens), (day, self.closes))
        )
        return opens, closes

    def between(self, start: datetime, end: datetime) -> list[tuple[datetime, datetime]]:
        """All sessions that overlap start to end, in order, in UTC."""
        zone = ZoneInfo(self.timezone)
        day, last = start.astimezone(zone).date(), end.astimezone(zone).date() + timedelta(days=1)
        sessions = []
        while day <= last:
            opens, closes = self.on(day)
            if day.weekday() < 5 and opens < end and closes > start:
                sessions.append((opens, closes))
            day += timedelta(days=1)
        return sessions


class Calendar(Hours):
    """Trading sessions, Monday to Friday, each with an opening and a closing auction if it has a call before them."""

    opening_call: float = Field(
        0.0, ge=0, description="seconds of call before the opening; 0 = no auction", examples=[300]
    )
    closing_call: float = Field(
        0.0, ge=0, description="seconds of call before the closing; 0 = no auction", examples=[300]
    )

    def changes(self, opens: datetime, closes: datetime) -> list[tuple[datetime, Kind, Phase, datetime]]:
        """Of one session: when, by which message, to which phase, and the end of the session."""
        opening, closing = timedelta(seconds=self.opening_call), timedelta(seconds=self.closing_call)
        rows = [(opens - opening, Kind.PHASE, Phase.CALL, closes)] if opening else []
        rows.append((opens, Kind.UNCROSS if opening else Kind.PHASE, Phase.CONTINUOUS, closes))
        rows += [(closes - closing, Kind.PHASE, Phase.CALL, closes)] if closing else []
        rows.append((closes, Kind.UNCROSS if closing else Kind.PHASE, Phase.CLOSED, closes))
        return rows

    def calls(self, start: datetime, end: datetime) -> list[datetime]:
        """When the calls before opening and closing auctions begin, from `start` to before `end`, in UTC."""
        sessions = self.between(start, end + timedelta(seconds=self.opening_call))
        rows = [row for session in sessions for row in self.changes(*session)]
        return [when for when, _, phase, _ in rows if phase == Phase.CALL and start <= when < end]


class Sessions:
    """The operator's messages for the calendars of all instruments, in order of time.

    Args:
        instruments: those without a calendar are left alone.
        start: the moment that is time 0 of the run.
    """

    def __init__(self, instruments: Sequence["Instrument"], start: datetime) -> None:
        self._calendars = [(i, item.calendar) for i, item in enumerate(instruments) if item.calendar is not None]
        self._start = start.astimezone(UTC)
        self._known = self._start  # up to where `_coming` holds the changes
        self._coming: list[Records] = []
        for i, calendar in self._calendars:
            soon = start + timedelta(seconds=calendar.opening_call)
            sessions = calendar.between(start - timedelta(days=1), soon)
            rows = [row for session in sessions for row in calendar.changes(*session)]
            past = [row for row in rows if row[0] <= start]
            phase = past[-1][2] if past else Phase.CLOSED
            self._coming.append(self._message(i, start, Kind.PHASE, phase, rows[-1][3] if rows else start))

    def until(self, end: int) -> Records:
        """Messages not yet given whose time is at most `end` (ns of the run)."""
        if not self._calendars:
            return np.zeros(0, MESSAGE)
        moment = self._start + timedelta(microseconds=end // 1000)
        while self._known <= moment:
            self._learn_next_day()
        due = [row for row in self._coming if row["time"][0] <= end]
        self._coming = [row for row in self._coming if row["time"][0] > end]
        return join(due)

    def _learn_next_day(self) -> None:
        begin, self._known = self._known, self._known + timedelta(days=1)
        for i, calendar in self._calendars:
            early = timedelta(seconds=calendar.opening_call)
            for session in calendar.between(begin, self._known + early):
                self._coming += [
                    self._message(i, *change)
                    for change in calendar.changes(*session)
                    if begin < change[0] <= self._known
                ]
        self._coming.sort(key=lambda row: int(row["time"][0]))

    def _message(self, i: int, when: datetime, kind: Kind, phase: Phase, closes: datetime) -> Records:
        message: Records = np.zeros(1, MESSAGE)
        message["time"], message["kind"], message["side"] = self._ns(when), kind, phase
        message["instrument"], message["owner"] = i, ANONYMOUS
        if kind == Kind.PHASE and closes > when:
            message["expiry"] = self._ns(closes) + 1  # DAY orders take part in the closing auction
        return message

    def _ns(self, when: datetime) -> int:
        return (when - self._start) // timedelta(microseconds=1) * (NS // 1_000_000)

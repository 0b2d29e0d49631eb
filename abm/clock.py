"""UTC and Mesa time (one unit is one step), and durations."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from abm.exchange.description import NS, Frozen

_UNITS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"\s*([0-9][0-9_]*(?:\.[0-9]*)?|\.[0-9]+)\s*(ms|s|min|h|d)\s*")


def seconds(duration: str | float) -> float:
    """Seconds in a duration such as `"500ms"`, `"1s"`, `"5min"`, `"2h"`, `"1d"`; a bare number is seconds.

    Raises:
        ValueError: It is neither.
    """
    if isinstance(duration, str):
        match = _DURATION.fullmatch(duration)
        if match is None:
            raise ValueError(f"{duration!r} is not a duration; write a number with ms, s, min, h or d, such as 5min")
        return float(match[1].replace("_", "")) * _UNITS[match[2]]
    return float(duration)


def _parse(value: Any) -> Any:
    return seconds(value) if isinstance(value, str) else value


Seconds = Annotated[float, BeforeValidator(_parse)]
"""A duration: written `5min` or as a number of seconds, kept in seconds."""


def _utc(value: datetime) -> datetime:
    return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


Utc = Annotated[datetime, AfterValidator(_utc)]
"""A moment, kept in UTC; one without a time zone is UTC."""


class Clock(Frozen):
    """When a run starts and ends, and how long a step is."""

    start: Utc = Field(description="UTC", examples=["2026-02-05T00:00Z"])
    end: Utc = Field(description="UTC", examples=["2026-02-07T00:00Z"])
    step: Seconds = Field(1.0, gt=0, le=86400, description="duration of a step", examples=["1s"])

    @model_validator(mode="after")
    def _whole_steps(self) -> "Clock":
        if self.end <= self.start:
            raise ValueError("end must be later than start")
        steps = (self.end - self.start).total_seconds() / self.step
        if abs(steps - round(steps)) > 1e-6:
            raise ValueError("end - start must be a whole number of steps; change step or end")
        if abs(self.step * NS - round(self.step * NS)) > 1e-3:
            raise ValueError("step must be a whole number of nanoseconds")
        return self

    @property
    def steps(self) -> int:
        """Number of steps from start to end."""
        return round((self.end - self.start).total_seconds() / self.step)

    @property
    def step_ns(self) -> int:
        """Nanoseconds of a step."""
        return round(self.step * NS)

    def utc(self, time_ns: int) -> datetime:
        """The moment `time_ns` nanoseconds after the start, to the microsecond."""
        return self.start + timedelta(microseconds=time_ns // 1000)

    def seconds_at(self, when: datetime) -> float:
        """Seconds from the start to a moment (negative before it)."""
        return (when - self.start).total_seconds()

    def units(self, duration: str | float) -> float:
        """Mesa time units (steps) of a duration."""
        return seconds(duration) / self.step

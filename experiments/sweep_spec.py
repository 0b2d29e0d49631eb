"""What a sweep is asked to do: `configs/sweeps/NAME.yaml`, checked before anything runs.

Nothing that such a file says is run as code: measures of one's own are named on the command line.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from abm.exchange.description import Frozen
from abm.record import TABLES
from abm.scenario import meant
from experiments.one_run import FREE, Limits

SAMPLED = ("latin", "sobol", "saltelli", "morris")
"""Designs that draw points between the ends of ranges."""


class Axis(Frozen):
    """What one key, or several together, are given: values, a range, or variants."""

    values: tuple[Any, ...] | None = Field(None, description="each of them", examples=[[1, 2, 5]])
    low: float | None = Field(None, alias="from", description="lower end of a range", examples=[0.5])
    high: float | None = Field(None, alias="to", description="upper end of a range", examples=[2.0])
    points: int | None = Field(None, ge=2, description="values in a range, where the design is a grid or a list")
    log: bool = Field(False, description="whether a range goes by logarithms")
    variants: dict[str, dict[str, Any]] | None = Field(
        None,
        description="by name, what is laid over the scenario, by dotted key",
        examples=[{"none": {}, "capped": {"traders.retail.accounts": 10}}],
    )
    keys: tuple[str, ...] = Field((), description="keys of the scenario it stands for; its own name where left out")
    factor: bool = Field(False, description="whether it multiplies what stands there, instead of taking its place")
    about: str = Field("", description="what it is")

    @model_validator(mode="after")
    def _one_of_three(self) -> Self:
        ranged = self.low is not None or self.high is not None
        if (self.values is not None) + ranged + (self.variants is not None) != 1:
            raise ValueError("give either values, or from and to, or variants")
        if ranged:
            self._check_range()
        elif self.points is not None or self.log:
            raise ValueError("points and log go with from and to")
        if self.variants is not None and (self.keys or self.factor):
            raise ValueError("variants name keys of their own; leave out keys and factor")
        choices = self.choices
        if choices is not None and not choices:
            raise ValueError("is empty; give at least one value")
        for value in choices or ():
            if sum(_same(value, other) for other in choices or ()) > 1:
                raise ValueError(f"{value!r} stands twice; give it once")
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if self.factor and not number:
                raise ValueError(f"{value!r} is no number, and nothing can be multiplied by it")
        return self

    def _check_range(self) -> None:
        if self.low is None or self.high is None:
            raise ValueError("a range has both from and to")
        if self.low >= self.high:
            raise ValueError("from must be less than to")
        if self.log and self.low <= 0.0:
            raise ValueError("from must be greater than 0 where log is true")

    @property
    def choices(self) -> Sequence[Any] | None:
        """Values, or names of variants; None of a range."""
        return self.values if self.values is not None else None if self.variants is None else list(self.variants)


def _same(one: Any, other: Any) -> bool:
    """Whether two values are the same, and of the same type: true is not 1."""
    return type(one) is type(other) and bool(one == other)


class Design(Frozen):
    """Which points are played."""

    kind: Literal["grid", "list", "latin", "sobol", "saltelli", "morris"] = Field(
        "grid",
        description="each with each; the first of all, then the second of all; Latin hypercube; Sobol sequence; those of Saltelli and of Morris",
    )
    samples: int | None = Field(
        None,
        ge=1,
        description="points of latin and sobol; of saltelli n, of n (2 k + 2) points; trajectories of morris",
        examples=[128],
    )
    seed: int = Field(1, ge=0, lt=2**31, description="seed of what is drawn")
    levels: int = Field(4, ge=2, description="levels of morris; even")
    second_order: bool = Field(
        True, description="whether saltelli takes interactions of two, by n (2 k + 2) points, or n (k + 2)"
    )

    @model_validator(mode="after")
    def _fits_kind(self) -> Self:
        if (self.samples is None) == (self.kind in SAMPLED):
            raise ValueError(
                f"samples is missing, such as 128, for {self.kind}"
                if self.samples is None
                else f"{self.kind} has no samples; leave it out"
            )
        if self.kind in ("sobol", "saltelli") and self.samples and self.samples & (self.samples - 1):
            raise ValueError(f"samples: {self.samples} is no power of 2; write {1 << self.samples.bit_length()}")
        if self.kind == "morris" and self.levels % 2:
            raise ValueError(f"levels: {self.levels} is odd; write {self.levels + 1}")
        for key, kind in (("levels", "morris"), ("second_order", "saltelli")):
            if key in self.model_fields_set and self.kind != kind:
                raise ValueError(f"{key} is for {kind} alone; leave it out")
        return self


class Spec(Frozen):
    """A sweep."""

    scenario: str = Field(
        "", description="by name or path; may be left out where it is varied", examples=["first-hour"]
    )
    set: dict[str, Any] = Field({}, description="values laid over it, by dotted key")
    vary: dict[str, Axis] = Field(
        min_length=1,
        description="by dotted key, or by a name with keys or variants; `scenario` is a key, too",
        examples=[{"traders.noise.accounts": [50, 100]}],
    )
    design: Design = Field(Design(), description="which points are played; a kind, or a mapping")
    replications: int = Field(1, ge=1, description="runs of each point, with other seeds")
    seeds: Literal["common", "independent"] = Field(
        "common",
        description="whether points have the same seeds, so that they differ by what is varied, or each its own",
    )
    seed: int = Field(
        1, ge=0, lt=2**62, description="the first of common seeds, or what independent ones are made from"
    )
    measures: tuple[str, ...] = Field((), description="abm sweep --list-measures", examples=[["drawdown"]])
    instrument: str = Field("", description="whose measures those are that name none; the scenario's first")
    keep: tuple[str, ...] = Field((), description="tables that are kept of each run", examples=[["bars"]])
    limits: Limits = Field(FREE, description="what a run may take")

    @field_validator("vary", mode="before")
    @classmethod
    def _lists_are_values(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        if not value:
            raise ValueError("is empty; name what is varied")
        return {key: {"values": axis} if isinstance(axis, list | tuple) else axis for key, axis in value.items()}

    @field_validator("design", mode="before")
    @classmethod
    def _kind_alone(cls, value: Any) -> Any:
        return {"kind": value} if isinstance(value, str) else value

    @field_validator("measures", "keep", mode="after")
    @classmethod
    def _once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if value.count(name) > 1:
                raise ValueError(f"{name} stands twice; give it once")
        return value

    @field_validator("keep")
    @classmethod
    def _tables(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in TABLES:
                raise ValueError(f"{name!r} is no table{meant(name, TABLES)}; there are {', '.join(TABLES)}")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if not self.scenario and "scenario" not in self.vary:
            raise ValueError("scenario is missing, such as first-hour")
        if "seed" in self.vary or "seed" in self.set:
            raise ValueError("seed: seeds come from replications, seeds and seed of the sweep; leave it out here")
        keys = [key for name, axis in self.vary.items() for key in axis.keys or (name,)]
        for key in keys:
            if keys.count(key) > 1:
                raise ValueError(f"vary: {key} is varied twice; leave it out of one")
        return self

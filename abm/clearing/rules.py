"""What margin an instrument asks for and what happens to who falls short: frozen descriptions, in units people use."""

import csv
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from abm.exchange.description import PPM, Fraction, Frozen, Positive


class Bracket(Frozen):
    """Terms of positions up to a notional. Rates are kept in millionths."""

    up_to: float | None = Field(None, gt=0, description="notional in currency; none = without end", examples=[300_000])
    leverage: float = Field(ge=1, le=1000, description="highest leverage", examples=[150])
    maintenance: float = Field(ge=0, lt=1, description="fraction of the notional", examples=[0.004])


class Mark(Frozen):
    """How the mark price follows an index of spot books: the median of index with funding, index with mean basis, and last trade."""

    index: dict[str, Positive] = Field(
        default={},
        description="spot instruments and their weights; none = the mark is the own mid",
        examples=[{"btc-spot": 1}],
    )
    clip: Fraction = Field(
        0.05, description="a venue further from the median of all counts as this far", examples=[0.05]
    )
    window: Positive = Field(30.0, description="seconds over which the basis is averaged, in 30 samples", examples=[30])


class Funding(Frozen):
    """What longs pay to shorts, or get from them, so that a perpetual stays near its index."""

    interval: Positive = Field(28_800.0, description="seconds between two payments", examples=[28_800])
    interest: float = Field(0.0001, description="rate an interval where there is no premium", examples=[0.0001])
    clamp: float = Field(
        0.0005, ge=0, description="furthest that interest moves the rate from the premium", examples=[0.0005]
    )
    cap: float = Field(0.003, gt=0, description="highest rate an interval, either way", examples=[0.003])
    sample: Positive = Field(5.0, description="seconds between two samples of the premium", examples=[5])
    impact: Positive = Field(
        200.0,
        description="the premium is read at the price of trading this much margin at the highest leverage",
        examples=[200],
    )


class Liquidation(Frozen):
    """What is done with an account whose equity is no more than its maintenance margin."""

    style: Literal["full", "ladder", "staged"] = Field(
        "ladder", description="all at once; as much as makes it compliant; a first part, a pause, then all"
    )
    fee: float = Field(
        0.0125, ge=0, lt=0.2, description="ladder: fraction of what is liquidated, to the fund", examples=[0.0125]
    )
    stage: Fraction = Field(0.2, description="staged: the first part", examples=[0.2])
    staged_above: float = Field(
        100_000.0, ge=0, description="staged: notional from which on there is a first part", examples=[1e5]
    )
    pause: Positive = Field(30.0, description="staged: seconds before the rest", examples=[30])
    takes_over: bool = Field(
        True, description="whether the insurance fund takes over what the book does not, while it can pay"
    )
    deficit: Literal["rank", "water", "socialise"] = Field(
        "rank",
        description="where the fund cannot: deleverage by profit and leverage, from the highest leverage down, or let the fund go below zero",
    )
    redraw: float = Field(
        0.001,
        ge=0,
        lt=1,
        description="rank: the queue stands until the mark has moved by this fraction",
        examples=[0.001],
    )


class Margin(Frozen):
    """Margin of one instrument. A position is isolated with its own margin, or crossed with the account's cash and other positions."""

    brackets: str | tuple[Bracket, ...] = Field(
        "default",
        validate_default=True,
        description="name of a file in configs/brackets, or the brackets themselves",
        examples=["btc"],
    )
    mark: Literal["operator"] | Mark = Field(
        Mark(), description="how the mark is made; operator = by MARK messages alone"
    )
    funding: Funding | None = Field(None, description="of a perpetual; none = it pays none")
    liquidation: Liquidation = Field(Liquidation(), description="what happens to who falls short")

    @field_validator("brackets", mode="before")
    @classmethod
    def _read(cls, value: object) -> object:
        return read_brackets(value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _ordered(self) -> "Margin":
        rows = self.rows
        if not rows:
            raise ValueError("brackets: at least one is needed")
        for below, above in pairwise(rows):
            if below.up_to is None or (above.up_to is not None and above.up_to <= below.up_to):
                raise ValueError("brackets: up_to must rise from one to the next")
            if above.leverage > below.leverage or above.maintenance < below.maintenance:
                raise ValueError("brackets: with size, leverage must not rise nor maintenance fall")
        for row in rows:
            if row.maintenance * row.leverage > 1 + 1e-9:
                raise ValueError(
                    f"brackets: at leverage {row.leverage:g} a maintenance of {row.maintenance:g} is more than the initial margin"
                )
        return self

    @property
    def rows(self) -> tuple[Bracket, ...]:
        """The brackets themselves."""
        assert not isinstance(self.brackets, str)
        return self.brackets

    @cached_property
    def leverage(self) -> float:
        """Highest leverage of all."""
        return self.rows[0].leverage


def initial_rate(leverage: float) -> int:
    """Initial margin at a leverage, in millionths of the notional, rounded up."""
    return min(PPM, -int(-PPM // leverage))


def read_brackets(name: str) -> tuple[Bracket, ...]:
    """The brackets of `configs/brackets/NAME.csv`.

    Raises:
        ValueError: there is no such file.
    """
    files = {path.stem: path for path in sorted(_folder().glob("*.csv"))}
    if name not in files:
        raise ValueError(f"no brackets {name!r}; there are {', '.join(files)}")
    with files[name].open(newline="", encoding="utf-8") as lines:
        rows = csv.DictReader(line for line in lines if not line.startswith("#"))
        return tuple(Bracket.model_validate({key: value or None for key, value in row.items()}) for row in rows)


def _folder() -> Path:
    inside = Path(__file__).parent.parent / "_configs"
    return (inside if inside.is_dir() else Path(__file__).parent.parent.parent / "configs") / "brackets"

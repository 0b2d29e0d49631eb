"""What is traded and by which rules: instruments, fees, halts. Frozen, validated, and named in the trade's own units."""

from decimal import Decimal
from functools import cached_property
from typing import Annotated, Literal

from pydantic import Field, model_validator

from abm.clearing.rules import Margin
from abm.exchange.calendar import Calendar
from abm.exchange.description import MONEY_UNITS, Fraction, Frozen, Positive


class FeeTier(Frozen):
    """Fees of one tier as fractions of the notional; a negative maker fee is a rebate. The taker pays at least what it funds."""

    maker: float = Field(0.0, gt=-0.01, lt=0.05, description="fraction of notional", examples=[0.0002])
    taker: float = Field(0.0, ge=0, lt=0.05, description="fraction of notional", examples=[0.0005])

    @model_validator(mode="after")
    def _venue_does_not_pay(self) -> "FeeTier":
        if self.maker + self.taker < 0:
            raise ValueError("maker + taker must not be negative: the venue would pay for trades; raise taker")
        return self


class PriceBand(Frozen):
    """Orders may not reach further than `width` from the reference price (most crypto venues: 5 %)."""

    rule: Literal["price_band"] = "price_band"
    width: Fraction = Field(description="fraction of the reference price", examples=[0.05])
    window: float = Field(
        0.0, ge=0, description="seconds of trading averaged; 0 = the static reference", examples=[300]
    )


class Breaker(Frozen):
    """Single-name halt: a trade beyond the collar stops trading, which reopens by auction (US: 5-10 % against 5 min)."""

    rule: Literal["breaker"] = "breaker"
    width: Fraction = Field(description="fraction of the reference price", examples=[0.05])
    window: float = Field(
        300.0, ge=0, description="seconds of trading averaged; 0 = the static reference", examples=[300]
    )
    halt: Positive = Field(300.0, description="seconds without trading", examples=[300])
    call: Positive = Field(60.0, description="seconds of call before the auction", examples=[60])


class VolatilityAuction(Frozen):
    """A trade beyond the collar starts a call auction at once (Xetra, LSE; on crypto venues the counterfactual)."""

    rule: Literal["volatility_auction"] = "volatility_auction"
    width: Fraction = Field(description="fraction of the reference price", examples=[0.05])
    window: float = Field(
        300.0, ge=0, description="seconds of trading averaged; 0 = the static reference", examples=[300]
    )
    call: Positive = Field(120.0, description="seconds of call before the auction", examples=[120])


class MarketWideBreaker(Frozen):
    """A fall of this instrument from its previous close halts a list of instruments (US: 7, 13, 20 % on the S&P 500, NYSE Rule 7.12)."""

    rule: Literal["market_wide_breaker"] = "market_wide_breaker"
    fall: Fraction = Field(description="fraction of the previous close", examples=[0.07])
    halt: float = Field(900.0, ge=0, description="seconds without trading; 0 = closed for the day", examples=[900])
    call: Positive = Field(60.0, description="seconds of call before the auction", examples=[60])
    instruments: tuple[str, ...] = Field(description="names of those halted", examples=[["spx", "ndx"]])


Rule = Annotated[PriceBand | Breaker | VolatilityAuction | MarketWideBreaker, Field(discriminator="rule")]


class Instrument(Frozen):
    """One thing that is traded on one book."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]*$", examples=["btc-spot"])
    kind: Literal["spot", "perpetual", "inverse", "future"] = Field(
        "spot",
        description="spot: coins and cash change hands at once; perpetual, future: only profit and loss do; inverse: a perpetual worth "
        "lot / price, so that a lot is an amount of the quoted currency and cash is the coin",
    )
    currency: str = Field("USD", description="currency of prices and cash")
    tick: Positive = Field(description="smallest price step, in currency", examples=[0.01])
    lot: Positive = Field(description="smallest quantity, in coins or shares", examples=[0.001])
    max_price: Positive = Field(description="no price at or above it, in currency", examples=[250_000])
    reference_price: float | None = Field(
        None, gt=0, description="static reference at the start, in currency", examples=[73_100]
    )
    max_order: Positive = Field(1e9, description="largest order, in coins or shares", examples=[1000])
    matching: Literal["price_time", "pro_rata"] = Field("price_time", description="how a level is shared out")
    opening: Literal["continuous", "call", "halted", "closed"] = Field("continuous", description="phase at the start")
    calendar: Calendar | None = Field(None, description="trading sessions; none = always open")
    fees: tuple[FeeTier, ...] = Field(
        (FeeTier(),), min_length=1, max_length=256, description="by tier; an account's tier is an index here"
    )
    rules: tuple[Rule, ...] = Field((), description="bands, breakers, volatility auctions")
    margin: Margin | None = Field(
        None,
        description="on what terms it is held with borrowed means; none = spot is paid in full, of others only positions are kept",
    )

    @model_validator(mode="after")
    def _fits_integers(self) -> "Instrument":
        tick, lot = Decimal(str(self.tick)), Decimal(str(self.lot))
        unit = (lot / tick if self.kind == "inverse" else tick * lot) * MONEY_UNITS
        if (self.kind == "spot" or self.margin) and (unit != int(unit) or unit < 1):
            what, fix = ("lot / tick", "another lot") if self.kind == "inverse" else ("tick x lot", "a larger lot")
            raise ValueError(
                f"{what} = {unit / MONEY_UNITS} must be a whole number of 0.000001 {self.currency}; use {fix} or tick"
            )
        if self.margin and self.reference_price is None:
            raise ValueError("reference_price is missing: with margin, it is the first mark")
        if self.margin and self.margin.funding and self.kind not in ("perpetual", "inverse"):
            raise ValueError(f"margin.funding: a {self.kind} pays none; leave it out")
        if not 2 <= self.n_ticks <= 2**30:
            raise ValueError(
                f"max_price / tick = {self.n_ticks} must lie between 2 and {2**30}; change max_price or tick"
            )
        if self.max_order_lots < 1:
            raise ValueError("max_order must be at least one lot; raise max_order")
        if self.reference_price is not None and not 1 <= self.ticks(self.reference_price) < self.n_ticks:
            raise ValueError("reference_price must lie between one tick and max_price")
        return self

    @cached_property
    def n_ticks(self) -> int:
        """Prices run from 1 to n_ticks - 1 ticks."""
        return int(Decimal(str(self.max_price)) / Decimal(str(self.tick)))

    @cached_property
    def unit(self) -> int:
        """Money units of one tick times one lot; of an inverse perpetual, of one lot over one tick."""
        tick, lot = Decimal(str(self.tick)), Decimal(str(self.lot))
        return int((lot / tick if self.kind == "inverse" else tick * lot) * MONEY_UNITS)

    @cached_property
    def max_order_lots(self) -> int:
        """Largest order in lots; its notional must fit the integers that money is counted in."""
        notional = self.unit if self.kind == "inverse" else self.unit * self.n_ticks
        return int(min(Decimal(str(self.max_order)) / Decimal(str(self.lot)), Decimal(2**61 // max(notional, 1))))

    def ticks(self, price: float) -> int:
        """Price in currency to the nearest tick."""
        return round(price / self.tick)

    def lots(self, quantity: float) -> int:
        """Quantity in coins or shares to whole lots, rounded down, forgiving the float's last digits."""
        return int(quantity / self.lot + 1e-9)

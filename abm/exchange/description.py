"""What all descriptions share: the base class that forbids unknown keys, and units."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

MONEY_UNITS = 1_000_000
"""Integer money units in one unit of currency: money is counted in millionths of a dollar."""

PPM = 1_000_000
NS = 1_000_000_000

Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(gt=0, lt=1)]


class Frozen(BaseModel):
    """A description: unknown keys are errors, nothing changes after validation."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

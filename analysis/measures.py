"""What a whole run comes to, as numbers by name: what sweeps and ablations keep of each run.

The measures of `whole_run` are those that observations name (`analysis.compare.MEASURES`), taken from the start of the run to its end.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from abm.contagion.chain import branches
from abm.record import Result
from abm.scenario import ScenarioError, meant
from analysis.compare import MEASURES, Taken

WHOLE, CASCADE = "analysis.measures:whole_run", "analysis.measures:cascade"


@dataclass(frozen=True)
class Registered:
    """A measure that sweeps and ablations can ask for by its name."""

    unit: str
    """1 is a fraction."""
    about: str
    function: str = WHOLE
    """`module:function` that takes it, of a `Result`."""
    each: bool = True
    """Whether it is taken of each instrument."""
    together: bool = False
    """Whether it is taken of all instruments together."""


REGISTRY: Mapping[str, Registered] = {
    "return": Registered("1", "change of the mid from start to end"),
    "low": Registered("USD", "lowest trade"),
    "high": Registered("USD", "highest trade"),
    "drawdown": Registered("1", "deepest fall of the mid from its highest so far, at the ends of bars; not above 0"),
    "spread": Registered("bp", "median spread at the ends of bars"),
    "depth": Registered("USD", "median of what is bid within recording.depth_bps of the mid"),
    "premium": Registered(
        "1", "mid over that of the index that the mark follows, less 1: the hour in which its mean is furthest from 0"
    ),
    "liquidated_usd": Registered(
        "USD", "positions lost to the clearing house: sold, taken over, or closed against others", together=True
    ),
    "liquidated_accounts": Registered("accounts", "accounts that lost positions to it", together=True),
    "largest_cascade": Registered("USD", "liquidations in the largest tree of what set off what", CASCADE, False, True),
    "generations": Registered(
        "liquidations", "liquidations in the longest chain of what set off what", CASCADE, False, True
    ),
    "defaulted_usd": Registered("USD", "debts that accounts could not pay", CASCADE, False, True),
}
"""By name, in the order in which they are shown."""


def whole_run(result: Result) -> dict[str, float]:
    """`<instrument>.<measure>`, and `<measure>` of all together, for what is registered; not a number where there is nothing to measure."""
    run = Taken(result)
    start, end = run.span
    mine = {name: each for name, each in REGISTRY.items() if each.function == WHOLE}
    taken = {name: MEASURES[name](run, "*", start, end) for name, each in mine.items() if each.together}
    for market in run.markets("*"):
        for name in mine:
            taken[f"{market}.{name}"] = MEASURES[name](run, market, start, end)
    return taken


def cascade(result: Result) -> dict[str, float]:
    """How far liquidations set off liquidations, over all instruments."""
    trees = branches(result.causes())
    rows = result.liquidations
    return {
        "largest_cascade": float(trees["notional"].max()) if len(trees) else 0.0,
        "generations": float(trees["depth"].max()) if len(trees) else 0.0,
        "defaulted_usd": float(np.abs(rows["amount"][rows["what"] == "defaulted"]).sum()),
    }


def chosen(names: Iterable[str], instruments: Sequence[str], instrument: str) -> list[str]:
    """Names under which functions give measures: of one instrument, but of all together where there is that and none is named.

    Args:
        names: Such as `drawdown`, or `eth-perp.liquidated_usd`.
        instruments: All of the run.
        instrument: Whose the measures are that name none.

    Raises:
        ScenarioError: There is no such measure or instrument.
    """
    if instrument not in instruments:
        raise ScenarioError(f"instrument: {instrument!r} is not traded here{meant(instrument, instruments)}")
    full = []
    for name in names:
        market, _, measure = name.rpartition(".")
        if measure not in REGISTRY:
            raise ScenarioError(
                f"measures: {name!r} is none{meant(measure, REGISTRY) or '.'} There are {', '.join(REGISTRY)}"
            )
        if market and not REGISTRY[measure].each:
            raise ScenarioError(f"measures: {name!r}: {measure} is of all instruments together; write {measure}")
        if market and market not in instruments:
            raise ScenarioError(f"measures: {name!r}: {market!r} is not traded here{meant(market, instruments)}")
        full.append(name if market or REGISTRY[measure].together else f"{instrument}.{name}")
    return full


def functions(names: Iterable[str]) -> str:
    """The functions that take measures, in the form in which `Ensemble` asks for them; one that takes several stands once."""
    return "+".join(sorted({REGISTRY[name.rpartition(".")[2]].function for name in names}))


def unit(name: str) -> str:
    """The unit of a measure under any of its names."""
    return REGISTRY[name.rpartition(".")[2]].unit

"""What a whole run comes to, as numbers by name: what sweeps and ablations keep of each run.

The measures are those that observations name (`analysis.compare.MEASURES`), taken from the start of the run to its end.
"""

from collections.abc import Iterable, Sequence

from abm.record import Result
from abm.scenario import ScenarioError, meant
from analysis.compare import MEASURES, Taken

UNITS = {
    "return": "1",
    "low": "USD",
    "high": "USD",
    "drawdown": "1",
    "spread": "bp",
    "depth": "USD",
    "liquidated_usd": "USD",
    "liquidated_accounts": "accounts",
}
"""Measures of each instrument, and their units; 1 is a fraction."""
TOGETHER = ("liquidated_usd", "liquidated_accounts")
"""Those that are also taken of all instruments together."""


def whole_run(result: Result) -> dict[str, float]:
    """`<instrument>.<measure>` for each of `UNITS`, and `<measure>` for each of `TOGETHER`; not a number where there is nothing to measure."""
    run = Taken(result)
    start, end = run.span
    taken = {name: MEASURES[name](run, "*", start, end) for name in TOGETHER}
    for market in run.markets("*"):
        for name in UNITS:
            taken[f"{market}.{name}"] = MEASURES[name](run, market, start, end)
    return taken


def chosen(names: Iterable[str], instruments: Sequence[str], instrument: str) -> list[str]:
    """Names of `whole_run` for measures: of one instrument, but of all together where there is that and none is named.

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
        if measure not in UNITS:
            raise ScenarioError(f"measures: {name!r} is none{meant(measure, UNITS)} There are {', '.join(UNITS)}")
        if market and market not in instruments:
            raise ScenarioError(f"measures: {name!r}: {market!r} is not traded here{meant(market, instruments)}")
        full.append(name if market or measure in TOGETHER else f"{instrument}.{name}")
    return full


def unit(name: str) -> str:
    """The unit of a measure under its name in `whole_run`."""
    return UNITS[name.rpartition(".")[2]]

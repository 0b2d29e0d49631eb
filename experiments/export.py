"""`abm export`: a run in the files of other tools."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from experiments.tables import check_file


class Format(StrEnum):
    """What can be written; networks are written by `abm network --out`."""

    LOBSTER = "lobster"
    CANDLES = "candles"


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.", show_default=False)],
    format: Annotated[
        Format, typer.Option(help="lobster: messages and book of a run with recording.orders; candles: CSV or Parquet.")
    ],
    out: Annotated[Path, typer.Option(help="Folder (lobster) or file (candles) to write.", show_default=False)],
    instrument: Annotated[str, typer.Option(help="Whose.", show_default="the first instrument")] = "",
    interval: Annotated[str, typer.Option(help="Length of a candle.")] = "5min",
    levels: Annotated[int, typer.Option(min=1, max=200, help="Levels of each side of the book.")] = 10,
) -> None:
    """Write a run as LOBSTER files, which `abm replay lobster` reads too, or as candles.

    In Python: result.candles("5min"), result.to_xarray(), result.messages. Networks: abm network RUN --out FILE.
    """
    from abm.scenario import ScenarioError
    from experiments import rundir

    result = rundir.read(run)
    try:
        if format is Format.CANDLES:
            check_file(out, (".csv", ".parquet"))
            table = result.candles(interval, instrument).reset_index()
            if out.suffix == ".csv":
                table.to_csv(out, index=False)
            else:
                table.to_parquet(out, index=False)
            typer.echo(str(out))
            return
        from experiments.replay.export import write_lobster

        out.mkdir(parents=True, exist_ok=True)
        for path in write_lobster(result, out, instrument, levels):
            typer.echo(str(path))
    except ValueError as error:
        raise ScenarioError(str(error)) from None

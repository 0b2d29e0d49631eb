"""Measure the real values that runs are held against again: `python -m experiments.stylised_reference DATA`.

Writes the `value` of the rows of `configs/observations/stylised.csv` that come from these data, and all of `stylised-curves.csv`. Bands and
sources are left as they are. DATA holds bars/BTCUSDT_5m_2025.csv.gz, bars/daily_closes_2022_2026-01.csv and the LOBSTER sample of a day of Apple.
"""

import sys
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd

from abm.lobster.files import Book, Messages, Type
from abm.scenario import configs
from analysis.samples import Sample, read_candles, sample
from analysis.stylised import stylised_curves, stylised_facts

VALUES, CURVES = (configs() / "observations" / name for name in ("stylised.csv", "stylised-curves.csv"))
ORDERS = ("impact_exponent", "sign_acf_exponent")
"""What one day of one share can say that candles cannot."""


def candles(data: Path) -> dict[str, Sample]:
    """Bitcoin, by interval."""
    return {
        "5min": sample(read_candles(data / "bars" / "BTCUSDT_5m_2025.csv.gz"), name="BTC, 5-minute candles of 2025"),
        "1d": sample(
            read_candles(data / "bars" / "daily_closes_2022_2026-01.csv", "BTC_USD"), name="BTC, daily closes 2022-26"
        ),
    }


def day_of_orders(data: Path) -> Sample:
    """The LOBSTER sample in bars of half a minute, for a day has too few of 5 minutes or of one.

    One taker order is what hits visible orders of one side at the same nanosecond; hidden executions are left out.
    """
    place, tick = data / "lobster", Decimal("0.01")
    messages = Messages(place / "AAPL_2012-06-21_message_1.csv.gz", tick)
    bid, ask = Book(place / "AAPL_2012-06-21_orderbook_1.csv.gz", tick).price[:, :, 0]
    time = pd.Series(
        pd.Timestamp("2012-06-21", tz="America/New_York").tz_convert("UTC") + pd.to_timedelta(messages.time_ns)
    )
    mid = pd.Series((bid + ask) / 2 * float(tick))
    width = pd.Timedelta("30s")
    bars = (
        pd.DataFrame({"close": mid, "mid": mid}).groupby(time.dt.floor(width)).last().rename_axis("time").reset_index()
    )
    hit = messages.type == Type.EXECUTION
    trades = pd.DataFrame(
        {
            "time": time[hit],
            "quantity": messages.size[hit],
            "aggressor": np.where(messages.side[hit] == 0, "sell", "buy"),
            "taker_account": 0,
            "taker_order": messages.time_ns[hit] * 2 + messages.side[hit],
        }
    )
    return sample(bars, trades, "Apple, 21 June 2012", width)


def measure(data: Path) -> tuple["pd.Series[float]", pd.DataFrame]:
    """Values by id, and curves with what they are a reference for."""
    values: dict[str, float] = {}
    curves = []
    for interval, real in candles(data).items():
        facts = stylised_facts(real, intervals=False).dropna(subset="value")
        values |= {f"{row.statistic}@{interval}": row.value for row in facts.itertuples()}
        curves.append(stylised_curves(real).assign(reference=interval, source=real.name))
    day = day_of_orders(data)
    facts = stylised_facts(day, intervals=False).set_index("statistic")
    values |= {statistic: facts.loc[statistic, "value"] for statistic in ORDERS}
    found = stylised_curves(day).assign(reference="orders", source=day.name)
    curves.append(found[found["curve"].isin(["impact", "sign_acf"])])
    return pd.Series(values), pd.concat(curves, ignore_index=True)[["reference", "source", "curve", "x", "y"]]


def main(data: Path) -> None:
    values, curves = measure(data)
    table = pd.read_csv(VALUES, dtype=str, keep_default_na=False)
    table["value"] = [
        f"{values[name]:.4g}" if name in values else kept
        for name, kept in zip(table["id"], table["value"], strict=True)
    ]
    table.to_csv(VALUES, index=False)
    curves.to_csv(CURVES, index=False, float_format="%.4g")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""`abm forecast`: counting, resampling, and the command from end to end."""

import json
import math
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

import abm
from abm.random import stream
from abm.scenario import load
from analysis.forecast import Level, Paths, blocks, hours, paths, probabilities, resampled, volatility
from analysis.forecast_figure import forecast_figure
from experiments.cli import app

AT = datetime(2026, 2, 5, 22, tzinfo=UTC)


def made(close: list[list[float]], at: datetime = AT, start: float = 100.0) -> Paths:
    mids = np.array(close)
    return Paths(at, np.array([start]), mids - 1.0, mids + 1.0, mids, mids.shape[1])


def test_members_are_counted_once_they_have_reached_a_level() -> None:
    found = made([[100, 90, 95, 100], [101, 99, 96, 92], [100, 101, 102, 103], [80, 90, 100, 110]])
    table = probabilities(found, [Level("below", 91.0), Level("above", 103.5)], datetime(2026, 2, 6, 2, tzinfo=UTC))
    assert table["time"].tolist() == [pd.Timestamp(t, tz="UTC") for t in ("2026-02-06", "2026-02-06T02:00")] * 2
    below, above = (table[table["event"] == event] for event in ("below 91", "above 103.5"))
    assert below["hits"].tolist() == [2, 3]
    assert above["hits"].tolist() == [0, 2]
    assert below["members"].tolist() == [4, 4]
    assert set(table["part"]) == {"played"}


def test_the_intervals_are_wilsons() -> None:
    """Of 10 in 100: (p + z^2/2n +- z sqrt(p q / n + z^2/4n^2)) / (1 + z^2/n) with z = 1.6449."""
    found = made([[50.0] if k < 10 else [100.0] for k in range(100)])
    row = probabilities(found, [Level("below", 60.0)], datetime(2026, 2, 5, 23, tzinfo=UTC)).iloc[0]
    z, n, p = 1.6448536, 100, 0.1
    half = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    assert row["probability"] == 0.1
    assert (row["low"], row["high"]) == pytest.approx(
        [(p + z**2 / (2 * n) + sign * half) / (1 + z**2 / n) for sign in (-1, 1)]
    )


def test_blocks_go_on_hour_by_hour_and_after_the_last_one_with_another_member() -> None:
    whose, where = blocks(20_000, 5, 30, 8.0, stream(1, "a", "b"))
    next_hour = where[1:] == (where[:-1] + 1) % 30
    # A new block goes on by chance too, one time in 30
    assert next_hour.mean() == pytest.approx(1 - (1 / 8) * (1 - 1 / 30), abs=4 * math.sqrt(0.11 / 20_000))
    same = whose[1:] == whose[:-1]
    inside, around = next_hour & (where[1:] > 0), next_hour & (where[1:] == 0)
    assert same[inside].mean() > 0.99
    assert same[around].mean() == pytest.approx(1 / 5, abs=4 * math.sqrt(0.16 / around.sum()))
    assert np.bincount(where).min() > 0.7 * 20_000 / 30  # each hour comes as often as the others


def test_what_lasts_for_all_that_was_played_is_not_taken_to_last_longer() -> None:
    """Members that each go one way for a day: days are independent of each other, however long blocks are."""
    way = np.repeat(np.where(np.arange(50) % 2 == 0, 0.002, -0.002)[:, None], 24, axis=1)
    close = 100.0 * np.exp(np.cumsum(way, axis=1))
    played = Paths(AT, np.array([100.0]), close, close, close, 24)
    more = resampled(played, 24 * 400, 24.0 * 1000, [stream(k, "forecast", "blocks") for k in range(50)])
    months = np.diff(np.log(more.close[:, 23 :: 24 * 30]), axis=1)
    assert months.std() == pytest.approx(math.sqrt(30) * 24 * 0.002, rel=4 / math.sqrt(2 * months.size))


def test_what_is_resampled_is_as_rough_as_what_was_played_and_does_not_drift() -> None:
    rng = stream(1, "walk", "moves")
    common = np.where(np.arange(48) % 3 == 0, -0.05, 0.03)  # what all do alike, up and down by the hour
    moves = rng.standard_normal((40, 48)) * 0.01 + common
    close = 100.0 * np.exp(np.cumsum(moves, axis=1))
    low, high = close * 0.99, close * 1.02
    played = Paths(AT, np.array([100.0]), low, high, close, 48)
    more = resampled(played, 500, 12.0, [stream(k, "forecast", "blocks") for k in range(40)])
    assert more.played == 48 and more.close.shape == (40, 548)
    assert np.array_equal(more.close[:, :48], close)
    returns = more.returns()
    assert returns[:, 48:].std() == pytest.approx(0.01, rel=0.05)
    assert volatility(returns[:, 48:]) == pytest.approx(returns[:, 48:].std() * math.sqrt(365 * 24))
    error = 0.01 / math.sqrt(40 * 500)
    assert np.exp(returns[:, 48:]).mean() == pytest.approx(1.0, abs=4 * error)
    begins = np.concatenate((np.full((40, 1), 100.0), more.close[:, :-1]), axis=1)[:, 48:]
    ends, low, high = more.close[:, 48:], more.low[:, 48:], more.high[:, 48:]
    assert (low <= np.minimum(begins, ends) * (1 + 1e-9)).all() and (
        high >= np.maximum(begins, ends) * (1 - 1e-9)
    ).all()
    assert (low >= np.minimum(begins, ends) * 0.989).all()  # no further beyond than in the hours played
    again = resampled(played, 500, 12.0, [stream(k, "forecast", "blocks") for k in range(40)])
    assert np.array_equal(more.close, again.close)


def test_a_walk_without_drift_reaches_levels_as_the_reflection_principle_says() -> None:
    """P(min <= -a) = 2 Phi(-a / (sigma sqrt(n))) of a Gaussian walk; seen at the ends of hours alone, as of a + .5826 sigma.

    Broadie, Glasserman and Kou (1997), Mathematical Finance 7:325.
    """
    rng = stream(2, "walk", "moves")
    close = 100.0 * np.exp(np.cumsum(rng.standard_normal((400, 48)) * 0.001, axis=1))
    played = Paths(AT, np.array([100.0]), close, close, close, 48)
    more = resampled(played, 2000, 1.0, [stream(k, "forecast", "blocks") for k in range(400)])
    expected = math.erfc((0.03 + 0.5826 * 0.001) / (0.001 * math.sqrt(2048)) / math.sqrt(2))
    hits = Level("below", 100.0 * math.exp(-0.03)).reached(more)[:, -1].mean()
    assert hits == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / 400))


@pytest.fixture(scope="module")
def member() -> abm.Result:
    scenario = load(
        "first-hour",
        clock={"end": "2026-02-05T00:20Z"},
        recording={"interval": "1min"},
        branch={"at": "2026-02-05T00:10Z", "seed": 3},
    )
    return abm.run(scenario)


def test_what_is_kept_of_a_member_is_what_its_bars_say(member: abm.Result) -> None:
    at = datetime(2026, 2, 5, 0, 10, tzinfo=UTC)
    found = paths([hours(member)] * 2, "btc-spot", at)
    bars = member.bars
    after = bars[bars["time"] >= pd.Timestamp(at)]
    assert found.close.shape == (2, 1) and found.played == 1
    assert found.low[0, 0] == after["low"].min() and found.high[0, 0] == after["high"].max()
    assert found.close[0, 0] == after["mid"].iloc[-1]
    assert found.start == bars["mid"][bars["time"] < pd.Timestamp(at)].iloc[-1]
    assert found.past[0] == member.summary["instruments"]["btc-spot"]["open"]
    quiet = replace(member, bars=bars.assign(low=np.nan, high=np.nan))  # nothing traded
    still = paths([hours(quiet)], "btc-spot", at)
    assert still.low[0, 0] == still.high[0, 0] == found.close[0, 0]


def forecast(store: Path, *arguments: object) -> Result:
    options = ["forecast", "first-hour", "--at", "2026-02-05T00:02", "--store", store, *arguments]
    return CliRunner().invoke(app, [*map(str, options)], env={"COLUMNS": "200"})


def test_from_the_command_line(tmp_path: Path) -> None:
    store, csv, figure = tmp_path / "m.sqlite", tmp_path / "p.csv", tmp_path / "f.png"
    asked = ("--until", "2026-02-05T00:04", "--below", 73_090, "--above", 74_000, "--members", 4)
    said = forecast(store, *asked, "--json", "--csv", csv, "--figure", figure)
    assert said.exit_code == 0, said.output
    content = json.loads(said.stdout)
    below, above = content["probabilities"]
    assert (below["event"], above["hits"], below["members"], below["part"]) == ("below 73,090", 0, 4, "played")
    members = content["members"]
    assert below["hits"] == sum(member["lowest"] <= 73_090 for member in members)
    assert [member["branch"] for member in members] == [1, 2, 3, 4]
    assert len({member["last"] for member in members}) == 4
    assert content["volatility_a_year"]["played"] > 0
    assert csv.read_text().startswith("time,part,event,hits,members,probability,low,high")
    assert figure.stat().st_size > 10_000
    # Each member is a scenario of its own
    scenario = load("first-hour", clock={"end": "2026-02-05T00:04Z"}, branch={"at": "2026-02-05T00:02Z", "seed": 2})
    assert scenario.hash == members[1]["scenario_hash"]
    assert hours(abm.run(scenario))["btc-spot 0 close"] == members[1]["last"]
    # More members play the new ones only; nothing is played twice
    more = forecast(store, *asked[:-1], 5, "--dry-run")
    assert "5 members from 2026-02-05T00:02Z, 50% of each is the same past: 5 runs, 4 of them in" in more.stdout
    again = forecast(store, *asked)
    assert "runs" not in again.stderr
    assert "2026-02-05T00:04Z  played" in again.stdout and "intervals of 90 %" in again.stdout
    assert "This scenario has no leverage" in again.stdout


def test_further_than_is_played_hours_are_resampled_and_said_to_be(tmp_path: Path) -> None:
    said = forecast(
        tmp_path / "m.sqlite",
        *("--play-until", "2026-02-05T01:02", "--until", "2026-02-06T00:02", "--block", "1h", "--below", 70_000),
        *("--members", 2, "--set", "clock.step=10s", "--set", "traders.market_makers.look=[10, 10]"),
    )
    assert said.exit_code == 0, said.output
    assert "2026-02-05T01:02Z  played" in said.stdout and "2026-02-06T00:02Z  resampled" in said.stdout
    assert "blocks of 1 h on average of the 1 h that 2 members have played, as far as they differed" in said.stdout


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((), "nothing is asked; give --below or --above, such as --below 65000"),
        (("--below", -3), "below: -3 is no price; give one above 0"),
        (("--below", 1, "--until", "soon"), "until: 'soon' is not a moment; write one such as 2026-02-05T12:00"),
        (
            ("--below", 1, "--until", "2026-02-05T00:01"),
            "--at 2026-02-05T00:02Z, --play-until 2026-02-05T00:01Z and --until 2026-02-05T00:01Z must come in this order; "
            "first-hour ends at 2026-02-05T01:00Z unless --play-until says otherwise",
        ),
        (("--below", 1, "--until", "2027-03-01"), "until: 2027-03-01T00:00Z is more than a year after --at"),
        (("--below", 1, "--until", "2026-02-09"), "--play-until and --until must be whole hours after --at"),
        (
            ("--below", 1, "--until", "2026-02-09T00:02", "--play-until", "2026-02-05T03:02"),
            "3 h are played, less than a block of 24 h; give a later --play-until or a shorter --block",
        ),
        (("--below", 1, "--block", "10min"), "block: 10min is less than an hour"),
        (("--below", 1, "--instrument", "btc"), "instrument: 'btc' is not traded here. Did you mean btc-spot?"),
        (("--below", 1, "--set", "recording.interval=5min"), "at: 2026-02-05T00:02Z is not the beginning of a bar"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, arguments: tuple[object, ...], line: str) -> None:
    said = forecast(tmp_path / "m.sqlite", *arguments)
    assert said.exit_code == 2
    assert said.stderr.startswith(line) and said.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_figure_marks_levels_and_where_resampling_begins() -> None:
    played = made([[100.0 + k + m for k in range(24)] for m in range(3)])
    more = resampled(played, 48, 6.0, [stream(k, "forecast", "blocks") for k in range(3)])
    figure = forecast_figure(more, [Level("below", 95.0)], "a title")
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["95", "resampled from here"]

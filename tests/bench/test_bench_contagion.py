"""The bench of contagion: what it plays can be played."""

import abm
from experiments.bench.contagion import FIRST, only


def test_one_asset_of_all_markets_is_a_market() -> None:
    alone = only(abm.load("markets"), FIRST)
    assert {name.partition("-")[0] for name in alone.instruments} == {FIRST}
    market = abm.Market(alone)
    market.run_for(30)
    assert market.result().audit.passed
    assert market.recorder.result().summary["messages"] > 1_000

"""Records that only grow, with the older ones in a file."""

from pathlib import Path

import numpy as np
import pytest

import abm
from abm import spool
from abm.exchange.messages import TRADE, Records
from abm.spool import Spool


def trades(first: int, count: int) -> Records:
    rows: Records = np.zeros(count, TRADE)
    rows["message"] = np.arange(first, first + count)
    return rows


def test_what_is_kept_comes_back_in_order_wherever_it_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "BLOCK", 8)
    kept, added = Spool(TRADE), 0
    for count in (0, 3, 4, 1, 20, 0, 5):
        kept.add(trades(added, count))
        added += count
        for _ in range(2):
            blocks = list(kept.blocks())
            assert np.array_equal(np.concatenate(blocks)["message"], np.arange(added))
            assert max(map(len, blocks)) <= 8
    assert len(list(Spool(TRADE).blocks())) == 1


def test_a_result_is_the_same_whether_trades_lie_in_memory_or_in_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def saved(folder: str) -> bytes:
        abm.run(abm.load("first-hour", clock={"end": "2026-02-05T00:03Z"})).save(tmp_path / folder)
        return abm.read_result(tmp_path / folder).trades.to_csv().encode()

    in_memory = saved("memory")
    monkeypatch.setattr(spool, "BLOCK", 100)
    assert saved("file") == in_memory

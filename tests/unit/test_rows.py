"""Rows that only grow: whatever the blocks in which they came, what is read is the same."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from abm.rows import Rows

LAYOUT = np.dtype([("number", np.int64)])


@given(st.lists(st.integers(0, 5), max_size=12), st.integers(0, 70))
def test_what_is_read_is_what_came_from_a_row_on(sizes: list[int], row: int) -> None:
    rows, everything = Rows(LAYOUT), np.zeros(sum(sizes), LAYOUT)
    everything["number"] = np.arange(len(everything))
    for last, size in zip(np.cumsum(sizes), sizes, strict=True):
        rows.add(everything[last - size : last])
    assert len(rows) == len(everything)
    assert rows.since(row).tolist() == everything[row:].tolist()
    assert rows.since().tolist() == everything.tolist()
    assert rows.since(row).dtype == LAYOUT

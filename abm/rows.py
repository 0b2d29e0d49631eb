"""Rows of one layout that only grow, kept as they came: a Python object for each of a million fields would take ten times the room."""

import numpy as np

from abm.exchange.messages import Records, join


class Rows:
    """Rows of one layout, in the order in which they came."""

    def __init__(self, dtype: np.dtype[np.void]) -> None:
        """Begin with none."""
        self._dtype = dtype
        self._blocks: list[Records] = []
        self._firsts: list[int] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, rows: Records) -> None:
        """Keep some more."""
        if len(rows):
            self._blocks.append(rows)
            self._firsts.append(self._count)
            self._count += len(rows)

    def since(self, row: int = 0) -> Records:
        """All from a row on."""
        if row >= self._count:
            return np.empty(0, self._dtype)
        place = int(np.searchsorted(self._firsts, row, side="right")) - 1
        return join(self._blocks[place:], self._dtype)[row - self._firsts[place] :]

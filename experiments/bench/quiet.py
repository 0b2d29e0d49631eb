"""Whether something else is at the machine's memory: what mostly waits for memory is not measured while another program or machine keeps it busy."""

from time import perf_counter

import numpy as np

DISTURBED = 1.2
"""Above so many times the fastest, reads beside a pass are disturbed."""

_BYTES = 2**27
_READS = 400_000


class Probe:
    """Times random reads over 128 MB, more than caches hold: the same work each time, whatever is measured beside it."""

    def __init__(self) -> None:
        """Fill the memory, so that each page is one of its own."""
        self._cells = np.ones(_BYTES // 8, np.int64)
        self._where = np.random.default_rng(0).integers(0, len(self._cells), _READS)
        self.seconds()

    def seconds(self) -> float:
        """How long they take now."""
        start = perf_counter()
        self._cells.take(self._where).sum()
        return perf_counter() - start

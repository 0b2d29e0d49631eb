"""A place for records that only grow: the latest in memory, the older ones in a file that goes away with the run."""

import tempfile
import weakref
from collections.abc import Iterator
from typing import IO

import numpy as np

from abm.exchange.messages import Records, join

BLOCK = 1 << 20
"""Records that are written, and read, at once."""


class Spool:
    """Records of one layout, in the order in which they came. Fewer than a block never leave memory."""

    def __init__(self, dtype: np.dtype[np.void]) -> None:
        """Begin with nothing."""
        self._dtype = dtype
        self._latest: list[Records] = []
        self._waiting = 0
        self._file: IO[bytes] | None = None

    def add(self, records: Records) -> None:
        """Keep some more."""
        self._latest.append(records)
        self._waiting += len(records)
        if self._waiting >= BLOCK:
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed when this is no more
                weakref.finalize(self, self._file.close)
            self._file.seek(0, 2)
            for part in self._latest:
                part.tofile(self._file)
            self._latest.clear()
            self._waiting = 0

    def blocks(self) -> Iterator[Records]:
        """All of them, at least one block, which may be empty."""
        if self._file is not None:
            place, written = 0, self._file.seek(0, 2)
            while place < written:
                self._file.seek(place)
                block = np.fromfile(self._file, self._dtype, BLOCK)
                place = self._file.tell()
                yield block
        if self._latest or self._file is None:
            yield join(self._latest, self._dtype)

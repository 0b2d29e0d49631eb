"""Who comes first: a heap whose entries may change or be taken back."""

import heapq


class Ranking:
    """Loans by rank, the highest first; equal ranks by size, then by number. What is due costs a heap's time, what is not costs nothing."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, int]] = []
        self._now: dict[int, tuple[float, int, int]] = {}

    def put(self, loan: int, rank: float, size: int) -> None:
        """Rank a loan, anew if it was ranked."""
        entry = (-rank, -size, loan)
        if self._now.get(loan) != entry:
            self._now[loan] = entry
            heapq.heappush(self._heap, entry)
            if len(self._heap) > 2 * len(self._now) + 1024:
                self._heap = sorted(self._now.values())

    def drop(self, loan: int) -> None:
        """Rank a loan no longer."""
        self._now.pop(loan, None)

    def take_above(self, rank: float) -> int | None:
        """Take out the first loan if it ranks above this."""
        while self._heap and -self._heap[0][0] > rank:
            entry = heapq.heappop(self._heap)
            if self._now.get(entry[2]) == entry:
                del self._now[entry[2]]
                return entry[2]
        return None

"""What open accounts weigh: the tables of an exchange, by how much its process grows, and the most that a process had."""

from abm.exchange import Exchange
from experiments.bench import accounts


def table_bytes(exchange: Exchange) -> int:
    """Bytes of all tables behind an exchange."""
    return sum(table.nbytes for table in exchange._memory.tables.values())


def weigh(count: int) -> tuple[int, int]:
    """Bytes of the tables of an exchange with so many open accounts, and by how much the process grew with it (-1 where it cannot tell).

    For a process of its own, in which nothing else has used memory before.
    """
    accounts.opened(1_000)
    before = _resident()
    world = accounts.opened(count, first_id=1)
    grown = _resident() - before
    return table_bytes(world.exchange), grown if before >= 0 else -1


def peak() -> int:
    """The most memory, in bytes, that this process has had at one time; -1 where the system does not tell.

    Of this program alone: the figure of `getrusage` holds that of the process which started it, too.
    """
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            lines = dict(line.split(":", 1) for line in status)
    except OSError:
        return -1
    return int(lines["VmHWM"].split()[0]) * 1024


def _resident() -> int:
    try:
        with open("/proc/self/statm", encoding="ascii") as statement:
            pages = int(statement.read().split()[1])
    except OSError:
        return -1
    import resource

    return pages * resource.getpagesize()

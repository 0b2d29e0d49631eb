"""Loans against collateral: who falls below the terms of a loan has his coins sold, which brings the next one below."""

from collections.abc import Iterator

from abm.agents.lending_pool import PoolUsers
from abm.contagion.channels.base import Channel
from abm.contagion.graph import Edge, holders
from abm.exchange.description import MONEY_UNITS


class Collateral(Channel):
    """A loan D against c coins is liquidated where the price is below D / (c t), t the liquidation threshold, and what is seized is sold.

    With s(p) dp coins due between p - dp and p, and a price that falls by k for each coin sold, a fall d becomes d / (1 - k s(p)): the loss spiral of
    Brunnermeier and Pedersen (2009), Review of Financial Studies 22:2201. For lending pools: Gudgeon, Perez, Harz, Livshits and Gervais (2020), The
    Decentralized Financial Crisis, Crypto Valley Conference on Blockchain Technology; rules in docs/concepts/lending.md. Traders of the kind
    `lending_pool` carry it. Where it is off no block is made: no oracle moves, nobody is liquidated or deleverages, no interest accrues.
    """

    name = "collateral"

    def edges(self) -> Iterator[Edge]:
        """Asset to pool: collateral; pool to borrower: debt; borrower to asset: collateral that may be sold. All in currency, at the mid."""
        view = self.market.view()
        locked: dict[tuple[str, str], float] = {}
        for name, users, rows in holders(self.market):
            if not isinstance(users, PoolUsers):
                continue
            asset, pool = view[users.config.instrument], f"pool:{users.config.pool.name}"
            worth = float(users.pool.collateral(rows).sum()) * asset.instrument.lot * asset.mid
            if worth > 0.0:
                link = (users.config.instrument, pool)
                locked[link] = locked.get(link, 0.0) + worth
                yield Edge(pool, name, float(users.pool.debt(rows).sum()) / MONEY_UNITS)
                yield Edge(name, users.config.instrument, worth)
        for (instrument, pool), worth in locked.items():
            yield Edge(instrument, pool, worth)

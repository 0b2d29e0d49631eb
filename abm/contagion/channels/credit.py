"""Credit: who fails does not pay those to whom he owes, and calls in what he is owed."""

from collections.abc import Iterator

import numpy as np

from abm.agents.credit_hub import Hub
from abm.contagion.channels.base import Channel
from abm.contagion.graph import Edge, equity, holders
from abm.exchange.description import MONEY_UNITS


class Credit(Channel):
    """Payments p with p_i = min(pbar_i, e_i + sum_j Pi_ji p_j): who cannot pay all he owes (pbar) pays all he has, in proportion (Pi).

    Eisenberg and Noe (2001), Management Science 47:236. e is cash, and what is sold for it moves prices: Cifuentes, Ferrucci and Shin (2005),
    Journal of the European Economic Association 3:556. Traders of the kind `credit_hub` carry it. Where it is off, no hub ever fails.
    """

    name = "credit"

    def edges(self) -> Iterator[Edge]:
        """In currency: hub to holder what it owes him and has of his in custody, holder to hub what he owes; a hub's own account leads to it too."""
        hubs = [population for population in self.market.populations if isinstance(population, Hub)]
        for name, population, rows in holders(self.market):
            for hub in hubs:
                books, node = hub.hub, f"hub:{hub.name}"
                kept = books.custody[np.isin(books.custody, rows)]
                owed = int(books.claims[rows].sum()) + int(books.transfers.free_cash(kept).sum())
                owes = int(books.loans[rows].sum()) / MONEY_UNITS
                has = equity(self.market, rows) if population is hub else 0.0
                if owed > 0:
                    yield Edge(node, name, owed / MONEY_UNITS)
                if owes + has > 0.0:
                    yield Edge(name, node, owes + has)

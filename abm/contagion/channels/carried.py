"""Channels that traders carry by what they do: they link assets because the same accounts hold, quote or trade several of them."""

from collections.abc import Iterator

import numpy as np

from abm.contagion.channels.base import Channel
from abm.contagion.graph import Edge, equity, holders


class Carried(Channel):
    """What a holder loses on one asset, it makes felt in others: an edge from each holder to each asset, weighing what it can bring there."""

    def edges(self) -> Iterator[Edge]:
        """Holder to asset: what the holder could sell, or no longer quote, in currency (`Population.carries`)."""
        carried = {p: p.carries() for p in self.market.populations if p.channel == self.name}
        for name, population, rows in holders(self.market):
            for instrument, amounts in carried.get(population, {}).items():
                amount = float(amounts[np.asarray(rows) - population.first].sum())
                if amount > 0.0:
                    yield Edge(name, instrument, amount)


class CommonHolders(Carried):
    """Funds that hold several assets and sell by a rule: after a return r, a fund with leverage L sells L (L - 1) |r| of its equity.

    Adrian and Shin (2010), Journal of Financial Intermediation 19:418; Caccioli et al. (2014), Journal of Banking & Finance 46:233.
    The rules (leverage, value at risk, volatility target, risk parity, pods) are those of the kind `multi_asset`. Where it is off, funds
    keep what they have.
    """

    name = "common_holders"


class MarketMaking(Carried):
    """Firms that quote several assets out of one capital: a loss in one makes them quote less in all.

    Comerton-Forde et al. (2010), Journal of Finance 65:295; Brunnermeier and Pedersen (2009), Review of Financial Studies 22:2201. Where it is off,
    each underlying has firms of its own, with the part of the capital that its depth has of all (`MarketMakers.parts`).
    """

    name = "market_making"


class Flight(Carried):
    """Flight to quality: allocators leave risky assets for cash and the dollar as stress rises; see the kind `allocators`.

    Vayanos (2004), NBER working paper 10327; Caballero and Krishnamurthy (2008), Journal of Finance 63:2195. Where it is off, they keep what they
    have.
    """

    name = "flight"


class Arbitrage(Channel):
    """Who trades one asset against another carries a price from one market to the next: index and members, fund share and coin.

    Gromb and Vayanos (2002), Journal of Financial Economics 66:361: the link is worth what the arbitrageurs' capital can carry. Where it is off, they
    trade nothing.
    """

    name = "arbitrage"

    def edges(self) -> Iterator[Edge]:
        """Asset to asset, both ways, for each pair that an arbitrageur trades: its equity in currency."""
        for population in self.market.populations:
            if population.channel == self.name and population.size:
                carries, traded = equity(self.market, population.rows), population.config.traded
                yield from (Edge(one, other, carries) for one in traded for other in traded if one != other)

"""Loans against collateral: who falls below the terms of a loan has his coins sold, which brings the next one below, or sells others first."""

from abm.contagion.channels.base import Channel


class Collateral(Channel):
    """A loan D against c coins is liquidated where the price is below D / (c t), t the liquidation threshold, and what is seized is sold.

    With s(p) dp coins due between p - dp and p, and a price that falls by k for each coin sold, a fall d becomes d / (1 - k s(p)): the loss spiral of
    Brunnermeier and Pedersen (2009), Review of Financial Studies 22:2201. For lending pools: Gudgeon, Perez, Harz, Livshits and Gervais (2020), The
    Decentralized Financial Crisis, Crypto Valley Conference on Blockchain Technology; rules in docs/concepts/lending.md. Traders of the kind
    `lending_pool` carry it.

    A pool by itself has one coin. It links that to another asset where a large borrower holds the other `beside` it and sells that first: of a debt D
    at health h he repays D (1 - h / H) to come to H, so that one who keeps H sells D r of the other as the coin falls by r. That is how Brunnermeier
    and Pedersen's speculators fund one position out of others.

    Where it is off no block is made: no oracle moves, nobody is liquidated or deleverages, no interest accrues.
    """

    name = "collateral"

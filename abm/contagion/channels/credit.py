"""Credit: who fails does not pay those to whom he owes, and calls in what he is owed."""

from abm.contagion.channels.base import Channel


class Credit(Channel):
    """Payments p with p_i = min(pbar_i, e_i + sum_j Pi_ji p_j): who cannot pay all he owes (pbar) pays all he has, in proportion (Pi).

    Eisenberg and Noe (2001), Management Science 47:236. e is cash, and what is sold for it moves prices: Cifuentes, Ferrucci and Shin (2005),
    Journal of the European Economic Association 3:556. Traders of the kind `credit_hub` carry it. Where it is off, no hub ever fails.
    """

    name = "credit"

"""Rules by which a dealer quotes: where it would trade, how far from there it bids and offers, and how much it may hold.

Each rule is a plain function of numbers or arrays of one shape, which compiled code may call too. Prices and distances are currency,
inventories are units of what is traded (coins, shares, lots), and time is in any unit as long as `volatility`, `scale` and `remaining`
use the same. The dealer's market is that of Avellaneda and Stoikov: the mid price moves as a Brownian motion of `volatility` (currency
per square root of time), and orders of one size arrive at a quote that stands `distance` from the mid at the rate
`scale * exp(-decay * distance)`.
"""

import numpy as np
import numpy.typing as npt
from numba.extending import register_jitable

Numbers = float | npt.NDArray[np.float64]

NINETY_NINE = 2.33
"""Standard deviations that a normal loss exceeds in one case of a hundred."""


@register_jitable
def fill_rate(distance: Numbers, scale: float, decay: float) -> Numbers:
    """Orders per unit of time that reach a quote: A exp(-k delta).

    Avellaneda and Stoikov (2008), Quantitative Finance 8:217, section 2.5.

    Args:
        distance: From the mid price to the quote, currency; negative where it lies beyond the mid.
        scale: A, orders per unit of time at the mid.
        decay: k, per currency.
    """
    return scale * np.exp(-decay * distance)


@register_jitable
def reservation_price(
    mid: Numbers, inventory: Numbers, risk_aversion: float, volatility: Numbers, remaining: Numbers
) -> Numbers:
    """The price at which a dealer is indifferent to one unit more or less: s - q gamma sigma^2 (T - t).

    Avellaneda and Stoikov (2008), Quantitative Finance 8:217, section 3.2. A dealer who has bought values the next unit lower.

    Args:
        mid: s, currency.
        inventory: q, units.
        risk_aversion: gamma, per currency.
        volatility: sigma, currency per square root of time.
        remaining: T - t, time until its inventory is valued at the mid.
    """
    return mid - inventory * risk_aversion * volatility * volatility * remaining


@register_jitable
def optimal_spread(risk_aversion: float, volatility: Numbers, remaining: Numbers, decay: float) -> Numbers:
    """Distance from bid to ask around the reservation price: gamma sigma^2 (T - t) + (2 / gamma) ln(1 + gamma / k).

    Avellaneda and Stoikov (2008), Quantitative Finance 8:217, section 3.2.

    Args:
        risk_aversion: gamma > 0, per currency.
        volatility: sigma, currency per square root of time.
        remaining: T - t, time until its inventory is valued at the mid.
        decay: k, per currency.
    """
    spread: Numbers = 2.0 / risk_aversion * np.log1p(risk_aversion / decay)
    return spread + risk_aversion * volatility * volatility * remaining


@register_jitable
def asymptotic_distances(
    inventory: Numbers, risk_aversion: float, volatility: Numbers, scale: float, decay: float, size: float = 1.0
) -> tuple[Numbers, Numbers]:
    """Distances of the bid and of the ask from the mid that suit a dealer whose horizon is far away.

        bid, ask = ln(1 + gamma d / k) / (gamma d) + (d +- 2 q) / 2 sqrt(gamma sigma^2 / (2 k A d) (1 + gamma d / k)^(1 + k / (gamma d)))

    Gueant, Lehalle and Fernandez-Tapia (2013), Mathematics and Financial Economics 7:477, section 4, for d = 1; Gueant (2017),
    Applied Mathematical Finance 24:112, for orders of any size d. Either may be negative: such a quote lies beyond the mid.

    Args:
        inventory: q, units.
        risk_aversion: gamma > 0, per currency.
        volatility: sigma, currency per square root of time.
        scale: A, orders per unit of time at the mid.
        decay: k, per currency.
        size: d, units that a quote trades at once.
    """
    ratio = risk_aversion * size / decay
    middle = np.log1p(ratio) / (risk_aversion * size)
    per_unit = volatility * np.sqrt(
        risk_aversion / (2.0 * decay * scale * size) * np.exp((1.0 + 1.0 / ratio) * np.log1p(ratio))
    )
    bid = middle + (size / 2.0 + inventory) * per_unit
    ask = middle + (size / 2.0 - inventory) * per_unit
    return bid, ask


@register_jitable
def inventory_limit(most: Numbers, value_at_risk: Numbers, volatility: Numbers, price: Numbers) -> Numbers:
    """Largest inventory, long or short: what the loss of one bad period in a hundred allows, and never more than `most`.

    min(q_max, VaR / (2.33 sigma_h S)), MECHANICS 8.

    Args:
        most: q_max, units.
        value_at_risk: VaR, currency that may be lost in that period.
        volatility: sigma_h > 0, standard deviation of the return over the period, as a fraction.
        price: S, currency.
    """
    return np.minimum(most, value_at_risk / (NINETY_NINE * volatility * price))

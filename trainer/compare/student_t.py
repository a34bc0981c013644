"""Quantiles of Student's t distribution, also for degrees of freedom that are no whole number."""

import math

MAX_TERMS = 500


def t_quantile(probability: float, degrees: float) -> float:
    """Return the value below which a t-distributed number lies with `probability`.

    To 1e-9 of its size; above 1e6 degrees of freedom to 1e-6.

    Args:
        probability: above 0.5 and below 1.
        degrees: of freedom, above 0; infinity is the normal distribution.
    """
    if not 0.5 < probability < 1 or not degrees > 0:
        raise ValueError(f"t_quantile({probability}, {degrees}): expected a probability in (0.5, 1), degrees above 0")
    low, high = 0.0, 1.0
    while t_cdf(high, degrees) < probability:
        low, high = high, 2 * high
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if t_cdf(middle, degrees) < probability else (low, middle)
    return (low + high) / 2


def t_cdf(value: float, degrees: float) -> float:
    """Return the probability of a number of at most `value`, which is not negative."""
    if math.isinf(degrees):
        return 1 - math.erfc(value / math.sqrt(2)) / 2
    return 1 - _incomplete_beta(degrees / 2, 0.5, degrees / (degrees + value * value)) / 2


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """Return the regularised incomplete beta function; by its continued fraction, where that converges quickly."""
    if x in (0.0, 1.0):
        return x
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(b, a, 1 - x)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    # Lentz's method: fraction = numerator / denominator, each step a ratio of neighbours.
    ratio_d = 1 / _away_from_zero(1 - (a + b) * x / (a + 1))
    ratio_c, fraction = 1.0, ratio_d
    for m in range(1, MAX_TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        change = 1.0
        for term in (even, odd):
            ratio_d = 1 / _away_from_zero(1 + term * ratio_d)
            ratio_c = _away_from_zero(1 + term / ratio_c)
            change = ratio_c * ratio_d
            fraction *= change
        if abs(change - 1) < 1e-15:
            break
    return math.exp(log_front) * fraction / a


def _away_from_zero(value: float) -> float:
    return value if abs(value) > 1e-300 else 1e-300

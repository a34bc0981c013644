"""The normal distribution, in one and two dimensions, by numpy alone: the same bits wherever numpy's arithmetic is."""

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

NODES, WEIGHTS = np.polynomial.legendre.leggauss(48)
"""Of Gauss and Legendre's rule on [-1, 1]."""

FAR = 8.3
"""Standard deviations beyond which nothing lies in double precision."""

# Coefficients of Wichura's PPND16, the constant first: numerators and denominators in the middle, near and far tail.
_MIDDLE = (
    (3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3, 1.3731693765509461125e4,
     4.5921953931549871457e4, 6.7265770927008700853e4, 3.3430575583588128105e4, 2.5090809287301226727e3),
    (1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3, 2.1213794301586595867e4,
     3.9307895800092710610e4, 2.8729085735721942674e4, 5.2264952788528545610e3),
)  # fmt: skip
_NEAR = (
    (1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0, 3.64784832476320460504e0,
     1.27045825245236838258e0, 2.41780725177450611770e-1, 2.27238449892691845833e-2, 7.74545014278341407640e-4),
    (1.0, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1, 1.48103976427480074590e-1,
     1.51986665636164571966e-2, 5.47593808499534494600e-4, 1.05075007164441684324e-9),
)  # fmt: skip
_FAR = (
    (6.65790464350110377720e0, 5.46378491116411436990e0, 1.78482653991729133580e0, 2.96560571828504891230e-1,
     2.65321895265761230930e-2, 1.24266094738807843860e-3, 2.71155556874348757815e-5, 2.01033439929228813265e-7),
    (1.0, 5.99832206555887937690e-1, 1.36929880922735805310e-1, 1.48753612908506148525e-2, 7.86869131145613259100e-4,
     1.84631831751005468180e-5, 1.42151175831644588870e-7, 2.04426310338993978564e-15),
)  # fmt: skip


def quantile(shares: npt.ArrayLike) -> Floats:
    """Return the points below which these shares of a standard normal variable lie; -inf at 0, inf at 1.

    Source: Wichura, "Algorithm AS 241: The percentage points of the normal distribution", Applied Statistics 1988;
    relative error about 1e-16.
    """
    p = np.asarray(shares, np.float64)
    q = p - 0.5
    with np.errstate(divide="ignore", invalid="ignore"):
        middle = q * _ratio(_MIDDLE, 0.180625 - q * q)
        r = np.sqrt(-np.log(np.minimum(p, 1 - p)))
        tail = np.copysign(np.where(r <= 5, _ratio(_NEAR, r - 1.6), _ratio(_FAR, r - 5)), q)
    found = np.where(np.abs(q) <= 0.425, middle, tail)
    return np.where((p == 0) | (p == 1), np.copysign(np.inf, q), found)


def cdf(points: npt.ArrayLike) -> Floats:
    """Return the shares of a standard normal variable that lie below points."""
    x = np.asarray(points, np.float64)
    shares = [0.5 * math.erfc(-point / math.sqrt(2)) for point in x.ravel().tolist()]
    return np.array(shares, np.float64).reshape(x.shape)


def joint_cdf(first: Floats, second: Floats, correlation: Floats) -> Floats:
    """Return how often two standard normal variables of this correlation lie below a point each, elementwise.

    Args:
        first: points of the one variable.
        second: points of the other, in a shape that broadcasts with it.
        correlation: above -1, below 1; likewise.

    Source: the integral over the correlation of Drezner and Wesolowsky, "On the computation of the bivariate normal
    integral", 1990. The absolute error is below 1e-12 up to a correlation of 0.99 (test).
    """
    h, k, rho = np.broadcast_arrays(np.clip(first, -FAR, FAR), np.clip(second, -FAR, FAR), correlation)
    limit = np.arcsin(rho)[..., None]
    angle = limit * (NODES + 1) / 2
    square = h[..., None] ** 2 + k[..., None] ** 2 - 2 * (h * k)[..., None] * np.sin(angle)
    integral = (np.exp(-square / (2 * np.cos(angle) ** 2)) * WEIGHTS).sum(axis=-1) * limit[..., 0] / 2
    return np.asarray(cdf(h) * cdf(k) + integral / (2 * np.pi))


def _ratio(coefficients: tuple[tuple[float, ...], tuple[float, ...]], x: Floats) -> Floats:
    numerator, denominator = (np.polynomial.polynomial.polyval(x, np.array(part)) for part in coefficients)
    return np.asarray(numerator / denominator)

"""From a chest to a film: attenuation of body, lungs, bones and heart, then exposure, grain and collimation.

Everything is a smooth function of the coordinates, so that the film's size is free and nothing needs antialiasing.
Arrays are float32 [S, S].
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.demo_anatomy import Anatomy, Exposure

FloatArray = NDArray[np.floating[Any]]

LEFT_OF_VIEWER, RIGHT_OF_VIEWER = 0, 1
"""The two sides of a film; the patient's right lung is at the viewer's left."""

HILUM = (0.075, 0.43)
"""Where the vessels of a lung come together, beside the midline."""


@dataclass(frozen=True, kw_only=True)
class Lung:
    """Geometry of one side of the chest, over the whole film."""

    u: FloatArray
    """Distance from the midline towards this side; negative on the other side."""

    lateral: FloatArray
    """u of the inner side of the ribs, by row."""

    dome: FloatArray
    """y of the diaphragm, by column."""

    cavity: FloatArray
    """1 inside the pleural cavity above the diaphragm, 0 outside, soft edges."""

    depth: FloatArray
    """How much air the beam crosses, 0 to 1."""


class Canvas:
    """A film in the making: the attenuation so far and where everything lies."""

    def __init__(self, anatomy: Anatomy, exposure: Exposure, rng: np.random.Generator, size_px: int) -> None:
        self.anatomy, self.exposure, self.rng, self.size_px = anatomy, exposure, rng, size_px
        row, column = np.meshgrid(*[(np.arange(size_px, dtype=np.float32) + 0.5) / size_px] * 2, indexing="ij")
        dx, dy = column - 0.5 - exposure.shift_x, row - 0.5 - exposure.shift_y
        cos, sin = np.cos(exposure.angle_rad) / exposure.scale, np.sin(exposure.angle_rad) / exposure.scale
        self.row, self.column = row, column
        self.x = (cos * dx - sin * dy).astype(np.float32)
        self.y = (sin * dx + cos * dy + 0.5).astype(np.float32)
        self.lungs = (self._lung(-1.0), self._lung(1.0))
        self.attenuation: FloatArray = np.zeros_like(self.x)

    def add(self, opacity: FloatArray) -> None:
        """Add attenuation: positive is whiter."""
        self.attenuation += opacity

    def texture(self, kind: str) -> FloatArray:
        """Return a random piece of a noise field, mean 0 and deviation 1."""
        field = textures(self.size_px)[kind]
        top, left = self.rng.integers(0, self.size_px, 2)
        piece = field[top : top + self.size_px, left : left + self.size_px]
        flipped: FloatArray = piece[:: int(self.rng.choice((-1, 1))), :: int(self.rng.choice((-1, 1)))]
        return flipped

    def _lung(self, sign: float) -> Lung:
        anatomy, u, y = self.anatomy, self.x * np.float32(sign), self.y
        width = anatomy.cage_half_width
        t = np.clip((y - anatomy.apex_y) / 0.56, 0.0, 1.0)
        lateral = width * (1 - (1 - t) ** 2.3) ** 0.62 - 0.02 * np.clip((y - 0.68) / 0.25, 0, 1) ** 2
        top = anatomy.dome_y - self.exposure.inspiration + (anatomy.dome_drop if sign > 0 else 0.0)
        from_top = (u - 0.17) / (width - 0.17)
        dome = top + np.where(from_top > 0, anatomy.dome_fall, 0.04) * from_top**2
        medial = 0.045 + 0.012 * soft_step(y - 0.35, 0.05)
        cavity = soft_step(u - medial, 0.010) * soft_step(lateral - u, 0.006) * soft_step(dome - y, 0.006)
        across = np.clip((u - medial) / np.maximum(lateral - medial, 0.02), 0, 1)
        depth = cavity * (0.62 + 0.38 * np.sqrt(np.clip(4 * across * (1 - across), 0, 1))) * np.clip(0.62 + t, 0, 1)
        return Lung(u=u, lateral=lateral, dome=dome, cavity=cavity, depth=depth)


def soft_step(distance: FloatArray, softness: float) -> FloatArray:
    """Return 0 where the distance is negative, 1 where it is positive, smooth over `softness`."""
    return np.asarray(0.5 + 0.5 * np.tanh(distance / (2 * softness)), dtype=np.float32)


def blob(x: FloatArray, y: FloatArray, centre: tuple[float, float], radii: tuple[float, float]) -> FloatArray:
    """Return a Gaussian hill of height 1."""
    squared = ((x - centre[0]) / radii[0]) ** 2 + ((y - centre[1]) / radii[1]) ** 2
    return np.asarray(np.exp(-squared), dtype=np.float32)


def ball(x: FloatArray, y: FloatArray, centre: tuple[float, float], radii: tuple[float, float]) -> FloatArray:
    """Return the shadow of an ellipsoid with a visible edge: height 1 in the middle, 0 outside."""
    squared = ((x - centre[0]) / radii[0]) ** 2 + ((y - centre[1]) / radii[1]) ** 2
    edge = soft_step((1 - squared) * min(radii), 0.006)
    return np.asarray(edge * (0.55 + 0.45 * np.sqrt(np.clip(1 - squared, 0, 1))))


def draw_chest(canvas: Canvas) -> None:
    """Put the healthy chest on the canvas."""
    for part in (_body, _lungs, _mediastinum, _ribs, _clavicles, _vessels, _breasts, _abdomen):
        part(canvas)


def develop(canvas: Canvas) -> NDArray[np.uint8]:
    """Return the film of a canvas, uint8 [S, S]: white is dense."""
    exposure, rng = canvas.exposure, canvas.rng
    attenuation = canvas.attenuation + 0.03 * canvas.texture("cloud") * (canvas.attenuation > 0.1)
    density = np.maximum(attenuation, 0) * exposure.penetration * (1 + exposure.tilt_x * 2 * canvas.x)
    white = 1 - np.exp(-1.15 * density ** (1.2 if exposure.is_ap else 1.35))
    white = white + exposure.grain * rng.standard_normal(white.shape, dtype=np.float32) * (0.4 + white)
    left, top, right, bottom = exposure.border
    inside = soft_step(canvas.column - left + 0.002, 0.002) * soft_step(1 - right + 0.002 - canvas.column, 0.002)
    inside = inside * soft_step(canvas.row - top + 0.002, 0.002) * soft_step(1 - bottom + 0.002 - canvas.row, 0.002)
    white = np.maximum(white * inside, _marker(canvas))
    return np.asarray(np.clip(white * 250 + 3, 0, 255), dtype=np.uint8)


@cache
def textures(size_px: int) -> dict[str, FloatArray]:
    """Return noise fields [2S, 2S] that do not depend on the release's seed, so that each process makes its own.

    Frequencies are in cycles a film: the same cloud at every size.
    """
    rng = np.random.default_rng(20170501)
    frequency = np.fft.fftfreq(2 * size_px, d=1 / size_px)
    radius = np.hypot(frequency[:, None], frequency[None, :])

    def field(spectrum: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> NDArray[np.float64]:
        white = np.fft.fft2(rng.standard_normal((2 * size_px, 2 * size_px)))
        noise = np.fft.ifft2(white * spectrum(np.maximum(radius, 0.5))).real
        return np.asarray((noise - noise.mean()) / noise.std())

    lines = -np.abs(field(lambda f: np.exp(-(((f - 19) / 7) ** 2))))
    fields = {
        "cloud": field(lambda f: f**-1.6 * (f > 1)),
        "patch": field(lambda f: np.exp(-(((f - 9) / 7) ** 2))),
        "fine": field(lambda f: np.exp(-(((f - 22) / 9) ** 2))),
        "lines": (lines - lines.mean()) / lines.std(),
    }
    return {name: values.astype(np.float32) for name, values in fields.items()}


def _body(canvas: Canvas) -> None:
    anatomy, u, y = canvas.anatomy, np.abs(canvas.x), canvas.y
    out = np.clip((u - 0.10) / 0.36, 0, 1)
    shoulder = 0.035 + anatomy.shoulder_y * out**0.9 - 0.14 * soft_step(0.09 - u, 0.012)
    below_axilla = soft_step(y - 0.40, 0.03)
    side = (anatomy.cage_half_width + 0.035 + anatomy.fat) + 0.35 * (1 - below_axilla)
    inside = soft_step(y - shoulder, 0.006) * soft_step(side - u, 0.006)
    thick = np.sqrt(np.clip(1 - (u / (side + 0.02)) ** 4, 0, 1)) * (1 - np.exp(-np.maximum(y - shoulder, 0) / 0.07))
    canvas.add(inside * (0.12 + (0.92 + 2.2 * anatomy.fat) * thick))
    for x_sign in (-1, 1):
        humerus = blob(canvas.x, y, (0.47 * x_sign, anatomy.shoulder_y + 0.07), (0.045, 0.06))
        scapula = blob(canvas.x * x_sign - 0.10 * (y - 0.3), y, (0.37, 0.30), (0.035, 0.13))
        canvas.add(0.22 * humerus + 0.12 * scapula * (1.6 if canvas.exposure.is_ap else 1.0))


def _lungs(canvas: Canvas) -> None:
    for lung in canvas.lungs:
        canvas.add(-0.80 * canvas.anatomy.lung_air * lung.depth)


def _mediastinum(canvas: Canvas) -> None:
    anatomy, x, y = canvas.anatomy, canvas.x, canvas.y
    spine = x - anatomy.scoliosis * np.sin(6 * y)
    canvas.add(0.34 * soft_step(0.052 - np.abs(spine), 0.008))
    vertebrae = 0.5 + 0.5 * np.cos(2 * np.pi * y / 0.052)
    canvas.add(0.20 * soft_step(0.036 - np.abs(spine), 0.005) * (0.7 + 0.3 * vertebrae**3))
    canvas.add(0.26 * ball(x, y, (0.052, 0.29), (0.034, 0.036)))
    trachea = soft_step(0.017 - np.abs(x + 0.004), 0.004) * soft_step(0.33 - y, 0.02)
    canvas.add(-0.24 * trachea)
    half = anatomy.heart_half_width * (1.07 if canvas.exposure.is_ap else 1.0)
    base = anatomy.dome_y - canvas.exposure.inspiration
    above = base + 0.05 - y
    # Great vessels above, ventricles below: the sum of two soft shapes has no waist and no visible upper edge.
    canvas.add(
        0.30 * soft_step(0.062 + 0.03 * soft_step(y - 0.4, 0.06) - np.abs(x - 0.006), 0.007) * soft_step(above, 0.02)
    )
    lean = (y - base + 0.10) * 0.45
    heart = ball(x - lean, y, (anatomy.heart_x - 0.01, base - 0.085), (half, 0.185 + 0.3 * (half - 0.155)))
    canvas.add(0.55 * heart * soft_step(above, 0.02) * (0.4 + 0.6 * soft_step(y - base + 0.19, 0.03)))
    for sign in (-1, 1):
        centre = (1.15 * HILUM[0] * sign, HILUM[1] - 0.02 * (sign > 0))
        canvas.add(0.17 * anatomy.vessels * blob(x, y, centre, (0.03, 0.06)))


def _ribs(canvas: Canvas) -> None:
    anatomy, y = canvas.anatomy, canvas.y
    for lung in canvas.lungs:
        u = np.maximum(lung.u, 0)
        cage = soft_step(lung.u - 0.02, 0.006) * soft_step(lung.lateral + 0.014 - u, 0.005)
        cage = cage * soft_step(lung.dome + 0.11 - y, 0.03)
        back = (y - 1.05 * u**2 - 3.0 * u**4) / anatomy.rib_spacing + anatomy.rib_phase
        front = (y - 0.62 * (anatomy.cage_half_width - u)) / (1.12 * anatomy.rib_spacing) + 1.7 * anatomy.rib_phase
        canvas.add(anatomy.rib_strength * cage * (0.115 * _rib(back, 0.20) + 0.055 * _rib(front, 0.24)))
        # The ribs are seen edge-on where they turn forward.
        canvas.add(0.16 * cage * np.exp(-(((lung.lateral + 0.004 - u) / 0.011) ** 2)) * (0.5 + 0.5 * _rib(back, 0.3)))


def _rib(phase: FloatArray, half_width: float) -> FloatArray:
    """Return a band in every period with brighter edges: the cortex of a bone."""
    distance = np.abs(phase - np.round(phase))
    band = soft_step(half_width - distance, 0.03)
    return band * (0.6 + 0.4 * np.clip(distance / half_width, 0, 1) ** 2)


def _clavicles(canvas: Canvas) -> None:
    for lung in canvas.lungs:
        u = lung.u
        line = canvas.anatomy.apex_y + 0.065 - 0.10 * (u - 0.04) + 0.022 * np.sin(11 * (u - 0.04))
        band = soft_step(0.0125 - np.abs(canvas.y - line), 0.003) * soft_step(u - 0.035, 0.006)
        canvas.add(0.16 * band * soft_step(0.40 - u, 0.01))


def _vessels(canvas: Canvas) -> None:
    for sign, lung in zip((-1, 1), canvas.lungs, strict=True):
        du, dy = lung.u - (HILUM[0] - 0.02), canvas.y - (HILUM[1] - 0.02 * (sign > 0))
        radius, angle = np.hypot(du, dy), np.arctan2(dy, du)
        total = np.zeros_like(radius)
        for start, bend, length in canvas.anatomy.vessel_bends:
            away = radius * (angle - start - bend * (radius - 0.1) * sign)
            width = 0.0085 - 0.017 * np.minimum(radius, 0.32)
            total += np.exp(-((away / width) ** 2)) * np.clip(1.1 - radius / length, 0, 0.9)
        mottle = 0.03 * canvas.texture("fine")
        canvas.add(canvas.anatomy.vessels * lung.cavity * (0.17 * np.minimum(total, 1.4) + mottle))


def _breasts(canvas: Canvas) -> None:
    if canvas.anatomy.is_female:
        size = 0.09 + canvas.anatomy.fat
        for sign in (-1, 1):
            canvas.add(0.17 * ball(canvas.x, canvas.y, (0.2 * sign, 0.64 + size / 2), (1.35 * size, 1.25 * size)))


def _abdomen(canvas: Canvas) -> None:
    """Liver and spleen below the diaphragm, and often the gas of the stomach at the viewer's right."""
    for lung in canvas.lungs:
        below = soft_step(canvas.y - lung.dome, 0.006) * soft_step(lung.lateral + 0.02 - lung.u, 0.01)
        canvas.add(0.30 * below * soft_step(lung.u, 0.02))
    if canvas.rng.random() < 0.5:
        top = canvas.anatomy.dome_y + canvas.anatomy.dome_drop - canvas.exposure.inspiration
        centre = (float(canvas.rng.uniform(0.14, 0.2)), top + float(canvas.rng.uniform(0.05, 0.08)))
        radii = (float(canvas.rng.uniform(0.035, 0.07)), float(canvas.rng.uniform(0.022, 0.04)))
        canvas.add(-0.38 * ball(canvas.x, canvas.y, centre, radii))


def _marker(canvas: Canvas) -> FloatArray:
    """Return the technician's L, white, in the corner at the viewer's right."""
    x, y = canvas.column - 0.93, canvas.row - (0.16 if canvas.exposure.is_ap else 0.07)
    upright = (np.abs(x) < 0.008) & (np.abs(y) < 0.025)
    foot = (x > -0.008) & (x < 0.024) & (np.abs(y - 0.019) < 0.007)
    return np.where(upright | foot, np.float32(0.93), np.float32(0))

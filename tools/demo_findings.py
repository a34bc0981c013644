"""The 14 findings of ChestX-ray14, drawn on a film so that each can be recognised, and some can be mistaken.

Cardiomegaly and emphysema change the shape of the chest (`tools.demo_anatomy.reshaped`); the others are painted here.
Each painter chooses side, place, extent and strength at random. Faint ones are faint on purpose: a finding that every
model finds would say nothing about models.
"""

from collections.abc import Callable, Collection

import numpy as np

from tools.demo_film import HILUM, Canvas, FloatArray, Lung, ball, blob, soft_step


def paint(canvas: Canvas, findings: Collection[str]) -> None:
    """Draw those of `findings` that are painted, always in the same order."""
    for name, painter in PAINTERS.items():
        if name in findings:
            painter(canvas)


def _atelectasis(canvas: Canvas) -> None:
    """Plates across the lower lung, and volume loss: a haze that draws towards the hilum."""
    lung = _one_lung(canvas)
    for _ in range(int(canvas.rng.integers(1, 4))):
        y0 = canvas.anatomy.dome_y - canvas.rng.uniform(0.03, 0.16)
        line = canvas.y - y0 - canvas.rng.uniform(-0.25, 0.25) * (lung.u - 0.18)
        ends = soft_step(lung.u - 0.07, 0.012) * soft_step(canvas.rng.uniform(0.24, 0.34) - lung.u, 0.012)
        thickness = canvas.rng.uniform(0.008, 0.014)
        canvas.add(canvas.rng.uniform(0.28, 0.42) * lung.cavity * ends * np.exp(-((line / thickness) ** 2)))
    haze = blob(lung.u, canvas.y, (0.13, canvas.anatomy.dome_y - 0.05), (0.10, 0.06))
    canvas.add(canvas.rng.uniform(0.10, 0.2) * lung.cavity * haze)


def _effusion(canvas: Canvas) -> None:
    """Fluid that blunts the costophrenic angle and climbs along the chest wall: a meniscus."""
    for lung in _lungs(canvas, both=0.35):
        level = canvas.anatomy.dome_y + canvas.rng.uniform(-0.14, 0.05)
        climb = 0.10 * np.clip((lung.u - 0.12) / 0.2, 0, 1.2) ** 2.5
        fluid = soft_step(canvas.y - level + climb, 0.010) * lung.cavity
        depth = soft_step(canvas.y - level + climb + 0.03, 0.05)
        canvas.add(canvas.rng.uniform(0.58, 0.75) * fluid * (0.6 + 0.4 * depth))


def _infiltration(canvas: Canvas) -> None:
    """Ill-defined patches, faint, anywhere."""
    for _ in range(int(canvas.rng.integers(2, 5))):
        lung = _one_lung(canvas)
        where = _spot(canvas, low=0.25, high=0.68)
        patch = blob(lung.u, canvas.y, where, (canvas.rng.uniform(0.05, 0.09), canvas.rng.uniform(0.05, 0.09)))
        canvas.add(canvas.rng.uniform(0.22, 0.36) * lung.cavity * patch * _rough(canvas, "patch", 0.45))


def _consolidation(canvas: Canvas) -> None:
    """A dense part of a lobe with a fairly sharp lower border and dark air-filled bronchi in it."""
    lung = _one_lung(canvas)
    where = _spot(canvas, low=0.3, high=0.62)
    outline = blob(lung.u, canvas.y, where, (canvas.rng.uniform(0.10, 0.15), canvas.rng.uniform(0.07, 0.11)))
    body = soft_step(outline + 0.10 * canvas.texture("patch") - 0.45, 0.05)
    bronchi = 0.22 * soft_step(canvas.texture("lines") - 0.9, 0.2)
    canvas.add(canvas.rng.uniform(0.46, 0.6) * lung.cavity * body * (1 - bronchi))


def _pneumonia(canvas: Canvas) -> None:
    """One focus in the lower half, denser towards its middle, ragged."""
    lung = _one_lung(canvas)
    where = _spot(canvas, low=0.48, high=0.68)
    focus = blob(lung.u, canvas.y, where, (canvas.rng.uniform(0.08, 0.12), canvas.rng.uniform(0.07, 0.11)))
    canvas.add(canvas.rng.uniform(0.42, 0.58) * lung.cavity * focus * _rough(canvas, "patch", 0.22))


def _edema(canvas: Canvas) -> None:
    """Bat wings: haze around both hila, with thickened septa."""
    strength = canvas.rng.uniform(0.34, 0.5)
    for lung in canvas.lungs:
        wing = blob(lung.u, canvas.y, (HILUM[0] + 0.05, HILUM[1] + 0.05), (0.115, 0.17))
        septa = 0.10 * np.maximum(canvas.texture("lines"), 0)
        canvas.add(strength * lung.cavity * wing * (_rough(canvas, "cloud", 0.3) + septa))


def _nodule(canvas: Canvas) -> None:
    """One to three round opacities of up to 3 cm."""
    for _ in range(int(canvas.rng.integers(1, 4))):
        lung, radius = _one_lung(canvas), canvas.rng.uniform(0.022, 0.036)
        canvas.add(canvas.rng.uniform(0.34, 0.5) * ball(lung.u, canvas.y, _spot(canvas), (radius, radius)))


def _mass(canvas: Canvas) -> None:
    """One round opacity of more than 3 cm, slightly lobed."""
    lung, radius = _one_lung(canvas), canvas.rng.uniform(0.055, 0.085)
    where = _spot(canvas, low=0.28, high=0.64)
    opacity = ball(lung.u, canvas.y, where, (radius, radius * canvas.rng.uniform(0.85, 1.15)))
    turn = canvas.rng.uniform(0, 2 * np.pi)
    lobe = (where[0] + 0.6 * radius * float(np.cos(turn)), where[1] + 0.6 * radius * float(np.sin(turn)))
    opacity = np.maximum(opacity, 0.9 * ball(lung.u, canvas.y, lobe, (0.65 * radius, 0.65 * radius)))
    canvas.add(canvas.rng.uniform(0.42, 0.58) * opacity)


def _pneumothorax(canvas: Canvas) -> None:
    """A dark rim without markings between the chest wall and the thin line of the pleura, widest at the apex."""
    lung = _one_lung(canvas)
    gap = canvas.rng.uniform(0.035, 0.075) * (1.25 - np.clip((canvas.y - canvas.anatomy.apex_y) / 0.62, 0, 1))
    # The pleura runs parallel to the chest wall: beside it, and below the apex.
    inner = np.minimum(lung.lateral - lung.u - gap, canvas.y - canvas.anatomy.apex_y - 1.3 * gap)
    rim = lung.cavity * soft_step(-inner, 0.004)
    canvas.attenuation = canvas.attenuation * (1 - 0.75 * rim) + 0.75 * rim * np.float32(0.17)
    canvas.add(0.20 * lung.cavity * np.exp(-((inner / 0.006) ** 2)))
    canvas.add(0.07 * lung.cavity * (1 - rim))


def _fibrosis(canvas: Canvas) -> None:
    """A net of lines at the bases and the periphery of both lungs."""
    strength = canvas.rng.uniform(0.16, 0.27)
    for lung in canvas.lungs:
        basal = soft_step(canvas.y - canvas.rng.uniform(0.42, 0.55), 0.05)
        peripheral = np.clip(lung.u / 0.3, 0, 1)
        net = 0.55 + 0.9 * np.maximum(canvas.texture("lines"), -0.6)
        canvas.add(strength * lung.cavity * (0.35 + 0.65 * basal) * peripheral * net)


def _pleural_thickening(canvas: Canvas) -> None:
    """A bright rim along the inner side of the ribs, or a cap over the apex."""
    for lung in _lungs(canvas, both=0.3):
        thickness = canvas.rng.uniform(0.028, 0.046)
        if canvas.rng.random() < 0.35:
            extent = soft_step(canvas.anatomy.apex_y + 0.15 - canvas.y, 0.02)
            thickness *= 1.5
        else:
            middle = canvas.rng.uniform(0.42, 0.62)
            extent = np.exp(-(((canvas.y - middle) / canvas.rng.uniform(0.16, 0.25)) ** 2))
        wavy = thickness * (1 + 0.3 * canvas.texture("patch"))
        rim = soft_step(wavy - (lung.lateral - lung.u), 0.004)
        canvas.add(canvas.rng.uniform(0.55, 0.7) * lung.cavity * rim * extent)


def _hernia(canvas: Canvas) -> None:
    """The stomach behind the heart: a round shadow above the diaphragm with gas over a level of fluid."""
    radius = canvas.rng.uniform(0.075, 0.1)
    centre = (canvas.rng.uniform(0.0, 0.06), canvas.anatomy.dome_y - 0.055)
    sac = ball(canvas.x, canvas.y, centre, (radius, radius * 0.9))
    inside = ball(canvas.x, canvas.y, centre, (0.8 * radius, 0.72 * radius))
    gas = inside * soft_step(centre[1] + 0.1 * radius - canvas.y, 0.005)
    canvas.add(0.3 * sac - canvas.rng.uniform(1.0, 1.3) * gas)


PAINTERS: dict[str, Callable[[Canvas], None]] = {
    "Atelectasis": _atelectasis,
    "Infiltration": _infiltration,
    "Consolidation": _consolidation,
    "Pneumonia": _pneumonia,
    "Edema": _edema,
    "Fibrosis": _fibrosis,
    "Nodule": _nodule,
    "Mass": _mass,
    "Hernia": _hernia,
    "Effusion": _effusion,
    "Pleural_Thickening": _pleural_thickening,
    "Pneumothorax": _pneumothorax,
}
"""Finding -> how it is painted, in the order of painting: what lies in the pleura comes last."""


def _lungs(canvas: Canvas, *, both: float) -> list[Lung]:
    """Return one lung, or with the probability `both` the two of them."""
    first = int(canvas.rng.integers(2))
    return [canvas.lungs[first]] + ([canvas.lungs[1 - first]] if canvas.rng.random() < both else [])


def _one_lung(canvas: Canvas) -> Lung:
    return canvas.lungs[int(canvas.rng.integers(2))]


def _spot(canvas: Canvas, low: float = 0.24, high: float = 0.66) -> tuple[float, float]:
    """Return a place inside a lung: distance from the midline and height."""
    y = float(canvas.rng.uniform(low, high))
    widest = canvas.anatomy.cage_half_width * min(1.0, 0.55 + 1.1 * (y - canvas.anatomy.apex_y)) - 0.05
    return float(canvas.rng.uniform(0.11, max(0.13, widest))), y


def _rough(canvas: Canvas, kind: str, amount: float) -> FloatArray:
    """Return a factor around 1 that makes an opacity uneven."""
    return np.asarray(np.maximum(1 + amount * canvas.texture(kind), 0))

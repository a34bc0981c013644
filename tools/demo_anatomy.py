"""The chest of a drawn patient, and how one film of it was taken.

Lengths are fractions of the film's side. x runs from the midline (0) to the viewer's right, which is the patient's
left; y from the top (0) to the bottom (1).
"""

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """What stays the same from film to film of a patient."""

    is_female: bool
    """Draws breast shadows and a slightly smaller chest."""

    cage_half_width: float
    """Midline to the inner side of the ribs where the chest is widest."""

    apex_y: float
    """Top of the lungs."""

    dome_y: float
    """Top of the right hemidiaphragm (viewer's left) at full inspiration; the left one is `dome_drop` lower."""

    dome_drop: float
    """How much lower the left hemidiaphragm stands."""

    dome_fall: float
    """From the top of the dome down to the costophrenic angle; small: flattened."""

    heart_half_width: float
    """Half the transverse diameter of the heart."""

    heart_x: float
    """Centre of the heart beside the midline."""

    lung_air: float
    """Darkness of the lungs; 1 is usual."""

    vessels: float
    """Strength of the vascular markings; 1 is usual."""

    vessel_bends: tuple[tuple[float, float, float], ...]
    """Each vessel of a lung: angle at the hilum, bend, length."""

    rib_spacing: float
    """From rib to rib at the spine."""

    rib_phase: float
    """Where the first rib lies, in spacings."""

    rib_strength: float
    """How much the ribs stand out; 1 is usual."""

    shoulder_y: float
    """Height of the shoulders at the film's edge."""

    fat: float
    """Soft tissue between the ribs and the skin."""

    scoliosis: float
    """Sideways swing of the spine."""


@dataclass(frozen=True, kw_only=True)
class Exposure:
    """What differs from film to film."""

    is_ap: bool
    """Taken from the front, lying or sitting: larger heart, shallower breath, flatter contrast."""

    angle_rad: float
    """Rotation of the patient in the film's plane."""

    scale: float
    """Magnification."""

    shift_x: float
    """Patient beside the centre of the film."""

    shift_y: float
    """Patient below the centre of the film."""

    inspiration: float
    """How far the diaphragm stands above full inspiration."""

    penetration: float
    """Dark and hard (below 1) or bright and soft (above 1)."""

    tilt_x: float
    """Brightness gradient across the film."""

    grain: float
    """Standard deviation of the film's grain, in units of full white."""

    border: tuple[float, float, float, float]
    """Collimation: black margins at the left, top, right and bottom."""


def draw_anatomy(rng: np.random.Generator, *, is_female: bool) -> Anatomy:
    """Return the chest of one patient."""
    width = float(np.clip(rng.normal(0.352, 0.017), 0.315, 0.39)) - 0.012 * is_female
    angles = np.linspace(-1.2, 1.35, 9) + rng.normal(0, 0.22, 9)
    bends = np.stack([angles, rng.normal(0, 2.0, 9), rng.uniform(0.10, 0.30, 9)], axis=1)
    return Anatomy(
        is_female=is_female,
        cage_half_width=width,
        apex_y=float(np.clip(rng.normal(0.115, 0.018), 0.08, 0.16)),
        dome_y=float(np.clip(rng.normal(0.735, 0.03), 0.66, 0.80)),
        dome_drop=float(rng.uniform(0.01, 0.04)),
        dome_fall=float(rng.uniform(0.09, 0.14)),
        heart_half_width=width * float(np.clip(rng.normal(0.445, 0.03), 0.37, 0.51)),
        heart_x=float(rng.uniform(0.035, 0.06)),
        lung_air=float(np.clip(rng.normal(1.0, 0.06), 0.85, 1.15)),
        vessels=float(rng.uniform(0.7, 1.2)),
        vessel_bends=tuple((float(a), float(b), float(c)) for a, b, c in bends),
        rib_spacing=float(rng.uniform(0.068, 0.08)),
        rib_phase=float(rng.random()),
        rib_strength=float(rng.uniform(0.7, 1.2)),
        shoulder_y=float(rng.uniform(0.09, 0.17)),
        fat=float(rng.gamma(4.0, 0.012)),
        scoliosis=float(rng.normal(0, 0.008)),
    )


def draw_exposure(rng: np.random.Generator, *, is_ap: bool) -> Exposure:
    """Return how one film was taken."""
    border = rng.uniform(0.0, 0.07, 4) * (rng.random(4) < 0.3)
    return Exposure(
        is_ap=is_ap,
        angle_rad=float(np.radians(rng.normal(0, 2.4 if is_ap else 1.2))),
        scale=float(rng.normal(1.0, 0.03)),
        shift_x=float(rng.normal(0, 0.015)),
        shift_y=float(rng.normal(0, 0.015)),
        inspiration=float(abs(rng.normal(0.03 if is_ap else 0.0, 0.02))),
        penetration=float(np.exp(rng.normal(0.08 if is_ap else 0.0, 0.13))),
        tilt_x=float(rng.normal(0, 0.08 if is_ap else 0.04)),
        grain=float(rng.uniform(0.012, 0.028)),
        border=(float(border[0]), float(border[1]), float(border[2]), float(border[3])),
    )


def reshaped(anatomy: Anatomy, rng: np.random.Generator, findings: Collection[str]) -> Anatomy:
    """Return the chest as these findings change its shape: a wide heart, wide and flattened lungs."""
    if "Cardiomegaly" in findings:
        anatomy = replace(
            anatomy,
            heart_half_width=anatomy.cage_half_width * float(rng.uniform(0.58, 0.70)),
            heart_x=anatomy.heart_x + 0.02,
        )
    if "Emphysema" in findings:
        anatomy = replace(
            anatomy,
            lung_air=anatomy.lung_air * float(rng.uniform(1.2, 1.32)),
            vessels=anatomy.vessels * 0.45,
            dome_y=anatomy.dome_y + float(rng.uniform(0.05, 0.08)),
            dome_fall=anatomy.dome_fall * 0.3,
            heart_half_width=anatomy.heart_half_width * 0.86,
            cage_half_width=anatomy.cage_half_width * 1.04,
        )
    return anatomy

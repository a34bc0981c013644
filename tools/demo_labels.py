"""Who is in the demo's release, what they have, and what a label tool that is often wrong says of it.

Prevalences are those of ChestX-ray14, with a floor: a few thousand images hold too few of its rare findings to measure
anything. Everything here is decided before a pixel is drawn.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manifests.errors import ConfigError
from manifests.findings import NO_FINDING
from manifests.label_spaces import NIH14

FINDINGS = NIH14.findings

NIH_IMAGES = 112_120
NIH_POSITIVES = {
    "Atelectasis": 11_559, "Cardiomegaly": 2_776, "Effusion": 13_317, "Infiltration": 19_894, "Mass": 5_782,
    "Nodule": 6_331, "Pneumonia": 1_431, "Pneumothorax": 5_302, "Consolidation": 4_667, "Edema": 2_303,
    "Emphysema": 2_516, "Fibrosis": 1_686, "Pleural_Thickening": 3_385, "Hernia": 227,
}  # fmt: skip
"""Images of ChestX-ray14 with each finding, counted in its label file."""

IMAGES_PER_PATIENT = 3.6
"""Mean of ChestX-ray14: 112,120 images of 30,805 patients."""

SICK = 0.62
"""Share of patients who have anything; they share all findings, so that findings come together, as in life."""

PERSISTENCE = 0.6
"""Chance that a finding which a patient has is there on one of the films."""

TEST_SHARE = 0.25
"""Share of patients in the test list; ChestX-ray14 has 23 % of its images there."""


@dataclass(frozen=True, kw_only=True)
class LabelNoise:
    """How often the labels are right, the same for every finding."""

    ppv: float = 0.5
    """Share of the labels "present" that are right."""

    sensitivity: float = 0.5
    """Share of what is present that is labelled so."""

    def __post_init__(self) -> None:
        for name, value in (("ppv", self.ppv), ("sensitivity", self.sensitivity)):
            if not 0 < value <= 1:
                raise ConfigError(f"--{name}={value}: expected a share above 0 and up to 1")


@dataclass(frozen=True, kw_only=True)
class Film:
    """One image of the release."""

    patient: int
    """Number of the patient, from 1."""

    follow_up: int
    """Number of the film among the patient's, from 0."""

    age_years: int
    """Age at the time."""

    is_female: bool
    """Sex as in the label file."""

    is_ap: bool
    """View position AP (else PA)."""

    is_test: bool
    """In the test list; the same for all films of a patient."""

    @property
    def image_id(self) -> str:
        """File name as ChestX-ray14 writes it."""
        return f"{self.patient:08d}_{self.follow_up:03d}.png"


def prevalence_C(floor: float) -> NDArray[np.float64]:
    """Return the share of images with each finding, [C] in the order of `FINDINGS`."""
    nih_C = np.array([NIH_POSITIVES[name] / NIH_IMAGES for name in FINDINGS])
    return np.asarray(np.maximum(nih_C, floor))


def draw_cohort(*, num_images: int, floor: float, seed: int) -> tuple[list[Film], NDArray[np.bool_]]:
    """Return the films in the order of the label file and what is truly on them, bool [N, C].

    Raises:
        ConfigError: too few images for a test and a training list, or a floor that the model of sickness cannot give.
    """
    if num_images < 20:
        raise ConfigError(f"--num-images={num_images}: expected at least 20, for a training and a test list")
    trait_C = prevalence_C(floor) / (SICK * PERSISTENCE)
    if floor < 0 or trait_C.max() > 1:
        raise ConfigError(f"--floor={floor}: expected a share from 0 to {SICK * PERSISTENCE:.2f}")
    films: list[Film] = []
    present: list[NDArray[np.bool_]] = []
    patient = 0
    while len(films) < num_images:
        patient += 1
        rng = np.random.default_rng((seed, 1, patient))
        num_films = min(int(rng.geometric(1 / IMAGES_PER_PATIENT)), 30, num_images - len(films))
        # At least one patient on either side, also in the smallest release.
        is_test = patient == 2 or (patient != 1 and bool(rng.random() < TEST_SHARE))
        if patient <= 2:
            num_films = min(num_films, 5)
        is_female, age = bool(rng.random() < 0.435), int(np.clip(rng.normal(47, 17), 2, 94))
        is_sick = rng.random() < SICK
        traits_C = is_sick & (rng.random(len(FINDINGS)) < trait_C)
        for follow_up in range(num_films):
            is_ap = bool(rng.random() < (0.45 if is_sick else 0.3))
            films.append(
                Film(
                    patient=patient, follow_up=follow_up, age_years=age + follow_up // 4, is_female=is_female,
                    is_ap=is_ap, is_test=is_test,
                )
            )  # fmt: skip
            present.append(traits_C & (rng.random(len(FINDINGS)) < PERSISTENCE))
    return films, np.stack(present)


def with_noise(clean_NC: NDArray[np.bool_], noise: LabelNoise, *, seed: int) -> NDArray[np.bool_]:
    """Return labels of which each finding has, in expectation, the asked PPV and sensitivity.

    A positive keeps its label with the probability `sensitivity`; negatives get it at the rate at which as many labels
    are wrong as `ppv` says. Images and findings are independent of each other.
    """
    rng = np.random.default_rng((seed, 3))
    kept_NC = clean_NC & (rng.random(clean_NC.shape) < noise.sensitivity)
    num_wrong_C = clean_NC.sum(axis=0) * noise.sensitivity * (1 - noise.ppv) / noise.ppv
    rate_C = np.minimum(num_wrong_C / np.maximum((~clean_NC).sum(axis=0), 1), 1.0)
    return np.asarray(kept_NC | (~clean_NC & (rng.random(clean_NC.shape) < rate_C)))


def finding_labels(present_C: NDArray[np.bool_]) -> str:
    """Return the field `Finding Labels` of a row: names in alphabetical order, or `No Finding`."""
    return "|".join(sorted(np.array(FINDINGS)[present_C])) or NO_FINDING

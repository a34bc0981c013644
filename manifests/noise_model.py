"""Wrong labels by a stated model: how often, and which of them come together.

Of a finding c with the prevalence pi, the sensitivity s and the positive predictive value v that the labels shall have,

    f = s pi (1 - v) / (v (1 - pi))                     rate of false positives
    label present  <=>  z_ic < q(s) where the finding is there, z_ic < q(f) where it is not      (q: normal quantile)
    z_i = sqrt(rho) a_patient(i) + sqrt(1 - rho) e_i    a, e ~ N(0, R)

Each z_ic is standard normal, so that s and f, and with them the PPV, hold whatever rho and R are.

- rho, the patient's share: the same finding is missed, or seen where it is not, on film after film of a patient. It is
  the intraclass correlation of z over the films of a patient.
- R, between findings: with R = I ("ignore") flips of two findings are independent, and the noisy labels' association is
  a faint copy of the clean ones'. "keep" chooses each R_cd such that the noisy labels of c and d have, in expectation,
  the odds ratio of the clean ones (which does not depend on how frequent the findings are). Where no R_cd up to 0.99
  gives that, it is the one that comes nearest; and where the R of all pairs is no correlation matrix, having a negative
  eigenvalue, a near one takes its place. What was reached is reported.

Shapes in names: n rows, C findings, K pairs of findings.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from manifests.normal import Floats, joint_cdf, quantile
from manifests.table import BoolArray, Int8Array

CoOccurrence = Literal["keep", "ignore"]

LARGEST = 0.99
"""Largest correlation of the noise of two findings."""

HALVINGS = 40
"""Of the interval in which a correlation is looked for: its width is then below 1e-11."""

SMALLEST_EIGENVALUE = 1e-6


@dataclass(frozen=True, kw_only=True)
class NoiseModel:
    """The model's numbers for the rows of one manifest."""

    hit_C: Floats
    """Below this point of z a finding that is there is labelled so."""

    false_C: Floats
    """Below this point of z a finding that is not there is labelled all the same."""

    factor_CC: Floats
    """Lower triangle L with R = L L^T."""

    patient_correlation: float
    """rho."""

    def noisy_labels(self, clean_nC: BoolArray, patient_nC: Floats, image_nC: Floats) -> BoolArray:
        """Return bool [n, C]: the labels with noise.

        Args:
            clean_nC: what is there.
            patient_nC: independent standard normal numbers, the same for all rows of a patient.
            image_nC: independent standard normal numbers of each row.
        """
        rho = self.patient_correlation
        drawn_nC = np.sqrt(rho) * patient_nC + np.sqrt(1 - rho) * image_nC
        return np.asarray(drawn_nC @ self.factor_CC.T < np.where(clean_nC, self.hit_C, self.false_C))


def false_positive_rate(prevalence: Floats, sensitivity: Floats, ppv: Floats) -> Floats:
    """Return f elementwise; above 1 where not enough is absent for so many wrong labels "present"."""
    absent = 1 - prevalence
    wrong = sensitivity * prevalence * (1 - ppv) / ppv
    return np.where(wrong > 0, wrong / np.where(absent > 0, absent, np.finfo(np.float64).tiny), 0.0)


def correlation_of_noise(
    clean_nC: BoolArray, known_nC: BoolArray, sensitivity_C: Floats, false_positive_C: Floats
) -> tuple[Floats, int]:
    """Return R [C, C] that keeps the clean labels' odds ratios, and for how many pairs of findings none could.

    Args:
        clean_nC: what is there.
        known_nC: where that is known; a pair is counted over rows where both are.
        sensitivity_C: of the noisy labels.
        false_positive_C: their rate of false positives.
    """
    num_findings = clean_nC.shape[1]
    first_K, second_K = np.triu_indices(num_findings, 1)
    # Half a row more in every cell: an odds ratio is then finite, also of findings that never come together.
    both_K4 = (counts_of_pairs(clean_nC, known_nC) + 0.5)[:, first_K, second_K].T
    clean_K4 = both_K4 / both_K4.sum(axis=1, keepdims=True)
    rates_C2 = np.stack([sensitivity_C, false_positive_C], axis=1)
    points_C2 = quantile(np.clip(rates_C2, 0, 1))
    point_K4, other_K4 = points_C2[first_K][:, [0, 0, 1, 1]], points_C2[second_K][:, [0, 1, 0, 1]]

    def together(correlation_K: Floats) -> Floats:
        """Return how often both labels are present."""
        return np.asarray((clean_K4 * joint_cdf(point_K4, other_K4, correlation_K[:, None])).sum(axis=1))

    present_K = (clean_K4 * rates_C2[first_K][:, [0, 0, 1, 1]]).sum(axis=1)
    other_K = (clean_K4 * rates_C2[second_K][:, [0, 1, 0, 1]]).sum(axis=1)
    odds_K = clean_K4[:, 0] * clean_K4[:, 3] / (clean_K4[:, 1] * clean_K4[:, 2])
    wanted_K = with_odds_ratio(present_K, other_K, odds_K)
    low_K, high_K = np.full(len(first_K), -LARGEST), np.full(len(first_K), LARGEST)
    least_K, most_K = together(low_K), together(high_K)
    for _ in range(HALVINGS):
        middle_K = (low_K + high_K) / 2
        is_less_K = together(middle_K) < wanted_K
        low_K, high_K = np.where(is_less_K, middle_K, low_K), np.where(is_less_K, high_K, middle_K)
    # Where labels of one of the two have no noise, nothing depends on R.
    correlation_K = np.where(most_K - least_K > 1e-9, (low_K + high_K) / 2, 0.0)
    correlation_CC = np.eye(num_findings)
    correlation_CC[first_K, second_K] = correlation_CC[second_K, first_K] = correlation_K
    has_noise_K = ((rates_C2 != [1, 0]).any(axis=1)[[first_K, second_K]]).any(axis=0)
    is_out_of_reach_K = has_noise_K & ((wanted_K < least_K - 1e-9) | (wanted_K > most_K + 1e-9))
    return nearest_correlation(correlation_CC), int(is_out_of_reach_K.sum())


def counts_of_pairs(present_nC: BoolArray, known_nC: BoolArray) -> npt.NDArray[np.int64]:
    """Return int64 [4, C, C]: rows that bear both findings, the one only, the other only, neither; of known rows."""
    there = (present_nC & known_nC).astype(np.float64)
    absent = (~present_nC & known_nC).astype(np.float64)
    pairs = (there.T @ there, there.T @ absent, absent.T @ there, absent.T @ absent)
    return np.rint(np.stack(pairs)).astype(np.int64)


def odds_ratios(present_nC: BoolArray, known_nC: BoolArray) -> Floats:
    """Return [C, C]: how associated two findings are, half a row being added to each cell of their table."""
    both, first, second, neither = counts_of_pairs(present_nC, known_nC) + 0.5
    return np.asarray(both * neither / (first * second))


def with_odds_ratio(first: Floats, second: Floats, odds_ratio: Floats) -> Floats:
    """Return how often two events of these probabilities happen together if that is their odds ratio.

    Source: Plackett, "A class of bivariate distributions", JASA 1965.
    """
    excess = odds_ratio - 1
    is_independent = np.abs(excess) < 1e-9
    divisor = np.where(is_independent, 1.0, excess)
    s = 1 + (first + second) * divisor
    root = np.sqrt(np.maximum(s * s - 4 * odds_ratio * divisor * first * second, 0))
    return np.where(is_independent, first * second, (s - root) / (2 * divisor))


def nearest_correlation(matrix_CC: Floats) -> Floats:
    """Return a correlation matrix near a symmetric one with a diagonal of 1: negative eigenvalues become about 0."""
    values_C, vectors_CC = np.linalg.eigh(matrix_CC)
    if values_C[0] < SMALLEST_EIGENVALUE:
        matrix_CC = (vectors_CC * np.maximum(values_C, SMALLEST_EIGENVALUE)) @ vectors_CC.T
        scale_C = 1 / np.sqrt(np.diag(matrix_CC))
        matrix_CC = matrix_CC * scale_C[:, None] * scale_C
    return np.asarray((matrix_CC + matrix_CC.T) / 2)


def known_and_present(values_nC: Int8Array, labelled_nC: BoolArray) -> tuple[BoolArray, BoolArray]:
    """Return where labels are certain, and where they say that a finding is there."""
    known_nC = labelled_nC & (values_nC >= 0)
    return known_nC, known_nC & (values_nC == 1)

"""Two runs on the same images: differences of AUROC with paired bootstrap intervals and DeLong's test.

Letters of the shapes: n images, m positives, k negatives, C findings, D draws.
"""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from manifests.atomic import write_bytes_atomically
from manifests.errors import ConfigError
from manifests.findings import NO_FINDING
from trainer.evaluation.bootstrap import BootstrapConfig, bootstrap
from trainer.evaluation.calibration import Interval
from trainer.evaluation.intervals import with_intervals
from trainer.evaluation.metrics import SplitMetrics, measure
from trainer.evaluation.predictions import Predictions, read_predictions
from trainer.evaluation.rate_intervals import percentiles

FloatArray = NDArray[np.float64]
SAME_IMAGES = ("findings", "image_id_n", "targets_nC", "mask_nC")


class DeLong(NamedTuple):
    """Two correlated AUROCs."""

    auroc_2: FloatArray
    """Of the first and of the second scores."""

    covariance_22: FloatArray
    """Their estimated covariance."""

    p_value: float
    """Two-sided, of the hypothesis that they are equal; 1 where the difference has no variance and is 0."""


@dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """First run less second run, for one finding or the mean."""

    name: str
    """Finding, or `mean` (over the findings with enough positives, without No Finding)."""

    first: float | None
    """AUROC of the first run; None as in `FindingMetrics`."""

    second: float | None
    """AUROC of the second run."""

    difference: float | None
    """First less second."""

    interval: Interval | None
    """Of the difference, over the same draws for both; None where one of the two has none."""

    delong_p: float | None
    """DeLong's test, which takes images for independent; None for the mean and where there is no interval."""


def compare_runs(
    run: Path, against: Path, file: str, config: BootstrapConfig, *, min_positives: int
) -> tuple[list[PairedDifference], Path]:
    """Compare the predictions `file` of two runs; return the differences and the file in `run` that has them.

    Raises:
        ConfigError: the other run has no such predictions, they are of other images or labels, or the file cannot be
            written.
    """
    if not (against / file).is_file():
        raise ConfigError(
            f"--against {against}: no {file} in it; evaluate that run in the same way first: "
            f"cxr-train evaluate --run {against}"
        )
    found = paired(read_predictions(run / file), read_predictions(against / file), config, min_positives=min_positives)
    path = run / f"{Path(file).stem}-against-{against.resolve().name}.json"
    content = {
        "first": run.resolve().name,
        "second": against.resolve().name,
        "min_positives": min_positives,
        "bootstrap": asdict(config),
        "differences": [asdict(difference) for difference in found],
    }
    try:
        write_bytes_atomically(path, (json.dumps(content, indent=2) + "\n").encode())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error})") from error
    return found, path


def paired(
    first: Predictions, second: Predictions, config: BootstrapConfig, *, min_positives: int
) -> list[PairedDifference]:
    """Return the difference of each finding, then that of the mean over findings of at least `min_positives`.

    Raises:
        ConfigError: not the same images, findings and labels; or draws that are not of patients.
    """
    for name in SAME_IMAGES:
        if not np.array_equal(getattr(first, name), getattr(second, name)):
            raise ConfigError(f"the two runs were evaluated on different {name.split('_')[0]}s; expected the same")
    if config.resampling != "patient" or not config.draws:
        raise ConfigError("a paired comparison draws patients; expected resampling patient and at least 100 draws")
    metrics, draws = zip(*(_measured(run, config, min_positives) for run in (first, second)), strict=True)
    positive_nC = first.targets_nC > 0.5
    rows, in_mean = [], []
    for column, (one, other) in enumerate(zip(metrics[0].findings, metrics[1].findings, strict=True)):
        has_interval = one.auroc_interval is not None and other.auroc_interval is not None
        kept_n = first.mask_nC[:, column]
        p_value = None
        if has_interval:
            scores_2n = np.stack([run.probs_nC[kept_n, column] for run in (first, second)])
            p_value = delong(scores_2n, positive_nC[kept_n, column]).p_value
        difference_D = draws[0][:, column] - draws[1][:, column]
        interval = percentiles(difference_D, config) if has_interval else None
        rows.append(_row(one.finding, one.auroc, other.auroc, interval, p_value))
        if one.finding != NO_FINDING and one.positives >= min_positives:
            in_mean.append(column)
    interval = None
    if in_mean and all(rows[column].interval is not None for column in in_mean):
        interval = percentiles((draws[0] - draws[1])[:, in_mean].mean(axis=1), config)
    means = [m.supported.mean_auroc if m.supported is not None else None for m in metrics]
    return [*rows, _row("mean", means[0], means[1], interval, None)]


def delong(scores_2n: NDArray[np.floating], positive_n: NDArray[np.bool_]) -> DeLong:
    """Return two AUROCs on the same images, their covariance, and the test that they are equal.

    DeLong et al., Biometrics 1988, by midranks as in Sun and Xu, IEEE Signal Processing Letters 2014.

    Args:
        scores_2n: scores of both models for each image.
        positive_n: at least two positives and two negatives.
    """
    num_positives, num_negatives = int(positive_n.sum()), int((~positive_n).sum())
    if min(num_positives, num_negatives) < 2:
        raise ValueError(f"delong: {num_positives} positives, {num_negatives} negatives; expected at least 2 of each")
    beaten_2m, beating_2k = [], []
    for scores_n in scores_2n:
        ranks_n = midranks(scores_n)
        beaten_2m.append((ranks_n[positive_n] - midranks(scores_n[positive_n])) / num_negatives)
        beating_2k.append(1 - (ranks_n[~positive_n] - midranks(scores_n[~positive_n])) / num_positives)
    covariance_22 = np.cov(beaten_2m) / num_positives + np.cov(beating_2k) / num_negatives
    auroc_2 = np.mean(beaten_2m, axis=1)
    variance = covariance_22[0, 0] + covariance_22[1, 1] - 2 * covariance_22[0, 1]
    difference = abs(auroc_2[0] - auroc_2[1])
    if variance <= 1e-15:
        return DeLong(auroc_2, covariance_22, 1.0 if difference < 1e-12 else 0.0)
    return DeLong(auroc_2, covariance_22, math.erfc(difference / math.sqrt(2 * variance)))


def midranks(values_n: NDArray[np.floating]) -> FloatArray:
    """Return the rank of each value from 1, tied ones with the middle of theirs."""
    _, level_n, count_g = np.unique(values_n, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(count_g) - (count_g - 1) / 2)[level_n], dtype=np.float64)


def _measured(run: Predictions, config: BootstrapConfig, min_positives: int) -> tuple[SplitMetrics, FloatArray]:
    arrays = (run.probs_nC, run.targets_nC, run.mask_nC)
    metrics = measure(*arrays, run.findings)
    patient_n = np.unique(np.asarray(run.patient_id_n, dtype=str), return_inverse=True)[1].astype(np.int64)
    metrics = with_intervals(metrics, *arrays, run.patient_id_n, config, min_positives=min_positives)
    return metrics, bootstrap(*arrays, patient_n, config).auroc_DC


def _row(
    name: str, first: float | None, second: float | None, interval: Interval | None, p_value: float | None
) -> PairedDifference:
    difference = None if first is None or second is None else first - second
    return PairedDifference(
        name=name, first=first, second=second, difference=difference, interval=interval, delong_p=p_value
    )

"""Percentile intervals of the metrics of a split, and means over the findings that have enough positives.

Letters of the shapes: n images, C findings, D draws, K values that are added up in a draw.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from manifests.findings import NO_FINDING
from trainer.evaluation.bootstrap import BootstrapConfig, bootstrap
from trainer.evaluation.calibration import Interval
from trainer.evaluation.metrics import SplitMetrics, SupportedMeans, mean_of
from trainer.evaluation.rate_intervals import Sums, percentiles, summands, with_rate_intervals

FEWEST_CASES = 5
"""Patients (stratified: images) with a finding, and as many without, below which nothing is said about how far its
number may be off: 1 draw of 150 then has no positive at all, and what is left is a handful of orders of few cases."""


def with_intervals(
    metrics: SplitMetrics,
    scores_nC: NDArray[np.floating],
    targets_nC: NDArray[np.floating],
    mask_nC: NDArray[np.bool_],
    patient_id_n: Sequence[str],
    config: BootstrapConfig,
    *,
    min_positives: int,
) -> SplitMetrics:
    """Return the metrics with intervals and with the means over findings of at least `min_positives` positives.

    A finding has intervals where at least `FEWEST_CASES` patients (stratified: images) are positive and as many are
    negative. A mean has them where each of its findings does, over the draws in which each has both classes;
    stratified draws are drawn finding by finding and say nothing about a mean.

    Args:
        metrics: what `trainer.evaluation.metrics.measure` returned for the arrays.
        scores_nC: as for `measure`.
        targets_nC: as for `measure`.
        mask_nC: as for `measure`.
        patient_id_n: patient of each image.
        config: how to draw; 0 draws: no intervals.
        min_positives: fewest positive images of a finding that is in the second mean.
    """
    patient_n = np.unique(np.asarray(patient_id_n, dtype=str), return_inverse=True)[1].astype(np.int64)
    values_nCK = np.stack(
        [
            np.stack(summands(entry, *columns), axis=1)
            for entry, *columns in zip(metrics.findings, scores_nC.T, targets_nC.T, mask_nC.T, strict=True)
        ],
        axis=1,
    )
    draws = bootstrap(scores_nC, targets_nC, mask_nC, patient_n, config, values_nCK)
    unit_n = patient_n if config.resampling == "patient" else np.arange(len(patient_n))
    positive_nC = (targets_nC > 0.5) & mask_nC
    has_interval_C = np.array(
        [
            config.draws > 0
            and entry.auroc is not None
            and min(len(np.unique(unit_n[is_class_n])) for is_class_n in (positive_n, mask_n & ~positive_n))
            >= FEWEST_CASES
            for entry, positive_n, mask_n in zip(metrics.findings, positive_nC.T, mask_nC.T, strict=True)
        ]
    )

    def interval(draws_DC: NDArray[np.float64], columns: list[int]) -> Interval | None:
        of_one = len(columns) == 1
        if not columns or not has_interval_C[columns].all() or (config.resampling == "stratified" and not of_one):
            return None
        return percentiles(draws_DC[:, columns].mean(axis=1), config)

    in_mean = [
        column
        for column, entry in enumerate(metrics.findings)
        if entry.finding != NO_FINDING and entry.auroc is not None
    ]
    enough = [column for column in in_mean if metrics.findings[column].positives >= min_positives]
    return replace(
        metrics,
        findings=tuple(
            replace(
                with_rate_intervals(entry, Sums(*draws.sums_DCK[:, column].T), config) if has_interval else entry,
                auroc_interval=interval(draws.auroc_DC, [column]),
                average_precision_interval=interval(draws.average_precision_DC, [column]),
            )
            for column, (entry, has_interval) in enumerate(zip(metrics.findings, has_interval_C, strict=True))
        ),
        mean_auroc_interval=interval(draws.auroc_DC, in_mean),
        mean_average_precision_interval=interval(draws.average_precision_DC, in_mean),
        supported=SupportedMeans(
            min_positives=min_positives,
            num_findings=len(enough),
            mean_auroc=mean_of([metrics.findings[column].auroc for column in enough]),
            mean_auroc_interval=interval(draws.auroc_DC, enough),
            mean_average_precision=mean_of([metrics.findings[column].average_precision for column in enough]),
            mean_average_precision_interval=interval(draws.average_precision_DC, enough),
        ),
    )

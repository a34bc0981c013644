"""Noisy labels from trusted ones: a manifest of the same images whose labels are wrong as often as one says.

The noisy manifest has the rows of the trusted one, in their order, so that the same pack serves both
(`cxr-train --labels NOISY`). Beside it lies ``<noisy>.flips.csv``, one line a label that was changed: dataset,
image_id, patient_id, split, finding, clean, noisy. How labels are drawn: `manifests.noise_model`.

- Only labels of the chosen splits change, and of them only 1 and 0: null stays null, -1 (uncertain) stays -1.
- No Finding has no noise of its own. Where another one of its row changed, it is 1 if none is left (present or
  uncertain; Support Devices and Tube are no findings in this sense), else 0.
- What is drawn for an image depends on the seed, its dataset, image_id, patient_id and the finding alone, through the
  hash of `manifests.fraction`; the thresholds depend on all rows that get noise.
"""

from collections.abc import Mapping
from typing import Any
from zlib import crc32

import numpy as np
import polars as pl

from manifests.build import check_out, write_manifest
from manifests.errors import ConfigError, ManifestError
from manifests.findings import FINDINGS, NO_FINDING
from manifests.fraction import FRACTION_VERSION, NUM_HASHES, seeded
from manifests.noise_config import NoiseConfig, Rates
from manifests.noise_model import (
    NoiseModel,
    correlation_of_noise,
    false_positive_rate,
    known_and_present,
    odds_ratios,
)
from manifests.noise_report import NoiseReport, counted, geometric_mean
from manifests.normal import Floats, quantile
from manifests.schema import FINDING_TYPE
from manifests.side_tables import side_table_path, written_beside
from manifests.table import BoolArray, Int8Array, ManifestTable, labels_NC, read_manifest

FLIPS = "flips"
"""Name of the side table of what was changed."""

DEVICES = ("Support Devices", "Tube")
"""Findings beside which a source may say No Finding."""


def inject_noise(config: NoiseConfig) -> NoiseReport:
    """Write the noisy manifest and the table of its flips; return what was reached.

    The same manifest and settings give the same bytes.

    Raises:
        ConfigError: a finding that the manifest does not label, or an `out` that cannot be replaced.
        ManifestError: no manifest, no label that could change, or rates that no labels of these rows can have.
    """
    check_out(config.out)
    table = read_manifest(config.manifest)
    findings = tuple(name for name in table.findings if name != NO_FINDING)
    rates = {name: config.by_finding.get(name, config.rates) for name in findings}
    if unknown := [name for name in config.by_finding if name not in rates]:
        raise ConfigError(
            f"--finding {unknown[0]}: not labelled by {config.manifest} (there are: {', '.join(findings)})"
        )
    values_NC, labelled_NC = labels_NC(table, findings)
    rows_n = np.flatnonzero(table.is_any_of("split", config.splits))
    known_nC, clean_nC = known_and_present(values_NC[rows_n], labelled_NC[rows_n])
    if not known_nC.any():
        raise ManifestError(f"{config.manifest}: no label of the splits {', '.join(config.splits)} is 1 or 0")
    model, num_out_of_reach = model_for(config, rates, clean_nC, known_nC)
    noisy_nC = known_nC & model.noisy_labels(clean_nC, *drawn(table, rows_n, findings, config.seed))
    noisy_NC = values_NC.copy()
    noisy_NC[rows_n] = np.where(known_nC, noisy_nC.astype(np.int8), values_NC[rows_n])
    columns = {name: (noisy_NC[:, c], labelled_NC[:, c]) for c, name in enumerate(findings)}
    reached = [counted(name, clean_nC[:, c], noisy_nC[:, c], known_nC[:, c]) for c, name in enumerate(findings)]
    if NO_FINDING in table.findings:
        before_N1, told_N1 = labels_NC(table, (NO_FINDING,))
        after_N = no_finding(before_N1[:, 0], values_NC, noisy_NC, findings)
        columns[NO_FINDING] = (after_N, told_N1[:, 0])
        known_n, present_n = known_and_present(before_N1[rows_n, 0], told_N1[rows_n, 0])
        reached.append(counted(NO_FINDING, present_n, after_N[rows_n] == 1, known_n))
    write(config, table, columns)
    first, second = np.triu_indices(len(findings), 1)
    associations = [odds_ratios(labels, known_nC)[first, second] for labels in (clean_nC, noisy_nC)]
    return NoiseReport(
        out=config.out,
        flips=side_table_path(config.out, FLIPS),
        num_rows=len(rows_n),
        reached=tuple(reached),
        odds_ratio=(geometric_mean(associations[0]), geometric_mean(associations[1])),
        num_out_of_reach=num_out_of_reach,
    )


def model_for(
    config: NoiseConfig, rates: Mapping[str, Rates], clean_nC: BoolArray, known_nC: BoolArray
) -> tuple[NoiseModel, int]:
    """Return the model for these rows, and for how many pairs of findings it cannot keep the association.

    Raises:
        ManifestError: a PPV so low that there are not enough absent findings to be wrong about.
    """
    prevalence_C = clean_nC.sum(axis=0) / np.maximum(known_nC.sum(axis=0), 1)
    sensitivity_C = np.array([rate.sensitivity for rate in rates.values()])
    ppv_C = np.array([rate.ppv for rate in rates.values()])
    false_C = false_positive_rate(prevalence_C, sensitivity_C, ppv_C)
    problems = [
        f"{name}: present in {prevalence:.1%} of the rows, so with sensitivity {rate.sensitivity:g} the PPV is "
        f"{least:.3f} or more; found {rate.ppv:g}"
        for (name, rate), prevalence, false in zip(rates.items(), prevalence_C, false_C, strict=True)
        if false > 1
        for least in [rate.sensitivity * prevalence / (rate.sensitivity * prevalence + 1 - prevalence)]
    ]
    if problems:
        raise ManifestError(f"{config.manifest}: rates that no labels of these rows can have", problems)
    correlation_CC, num_out_of_reach = np.eye(len(rates)), 0
    if config.co_occurrence == "keep":
        correlation_CC, num_out_of_reach = correlation_of_noise(clean_nC, known_nC, sensitivity_C, false_C)
    model = NoiseModel(
        hit_C=quantile(sensitivity_C),
        false_C=quantile(false_C),
        factor_CC=np.asarray(np.linalg.cholesky(correlation_CC), np.float64),
        patient_correlation=config.patient_correlation,
    )
    return model, num_out_of_reach


def drawn(table: ManifestTable, rows_n: np.ndarray, findings: tuple[str, ...], seed: int) -> tuple[Floats, Floats]:
    """Return independent standard normal numbers [n, C] of each row's patient and of each row."""
    names = table.table.select(["dataset", "image_id", "patient_id"]).take(rows_n).to_pydict()
    patients = [f"patient:{patient}" for patient in names["patient_id"]]
    images = [f"image:{dataset}:{image}" for dataset, image in zip(names["dataset"], names["image_id"], strict=True)]
    distinct, back_n = np.unique(patients, return_inverse=True)
    return _normal(distinct.tolist(), findings, seed)[back_n], _normal(images, findings, seed)


def _normal(names: list[str], findings: tuple[str, ...], seed: int) -> Floats:
    endings = [f":{finding}".encode() for finding in findings]
    checksums = (crc32(ending, begun) for begun in (crc32(name.encode()) for name in names) for ending in endings)
    hashes = seeded(np.fromiter(checksums, np.uint64, count=len(names) * len(findings)), seed)
    return quantile((hashes.astype(np.float64) + 0.5) / NUM_HASHES).reshape(len(names), len(findings))


def no_finding(before_N: Int8Array, clean_NC: Int8Array, noisy_NC: Int8Array, findings: tuple[str, ...]) -> Int8Array:
    """Return the labels of No Finding that go with the noisy ones; a row without a flip keeps its own."""
    counts_C = np.array([name not in DEVICES for name in findings], np.bool_)
    is_changed_N = (clean_NC != noisy_NC)[:, counts_C].any(axis=1)
    is_free_N = (noisy_NC[:, counts_C] == 0).all(axis=1)
    return np.where(is_changed_N, is_free_N, before_N).astype(np.int8)


def write(config: NoiseConfig, table: ManifestTable, columns: Mapping[str, tuple[Int8Array, BoolArray]]) -> None:
    """Write the manifest with other values in its finding columns, and the table of what differs."""
    frame = pl.DataFrame(pl.from_arrow(table.table))
    noisy = frame.with_columns(
        pl.select(pl.when(pl.Series(labelled_N)).then(pl.Series(values_N)).otherwise(None))
        .to_series()
        .cast(getattr(pl, FINDING_TYPE))
        .alias(name)
        for name, (values_N, labelled_N) in columns.items()
    )
    keys = ["dataset", "image_id", "patient_id", "split"]
    flips = pl.concat(
        frame.select(
            *keys, finding=pl.lit(name), clean=pl.col(name), noisy=noisy[name], place=pl.int_range(pl.len())
        ).filter(pl.col("clean") != pl.col("noisy"))
        for name in (name for name in FINDINGS if name in columns)
    )
    flips = flips.sort("place", maintain_order=True).drop("place")
    try:
        config.out.parent.mkdir(parents=True, exist_ok=True)
        with written_beside(config.out, {FLIPS: flips}):
            write_manifest(config.out, noisy, dict(table.metadata) | {"noise": describe(config)})
    except (OSError, pl.exceptions.ComputeError) as error:  # the latter is how Polars tells of a full disk
        raise ManifestError(
            f"--out {config.out}: cannot be written ({getattr(error, 'strerror', None) or error})"
        ) from error


def describe(config: NoiseConfig) -> dict[str, Any]:
    """Return the model as the noisy manifest's metadata tells it."""
    named = {"": config.rates, **config.by_finding}
    return {
        "rates": {name: {"sensitivity": rate.sensitivity, "ppv": rate.ppv} for name, rate in named.items()},
        "co_occurrence": config.co_occurrence,
        "patient_correlation": config.patient_correlation,
        "splits": list(config.splits),
        "seed": config.seed,
        "fraction_version": FRACTION_VERSION,
    }

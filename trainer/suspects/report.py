"""Suspected labels of a run: asked, ranked, listed, and measured where clean labels are named."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from manifests.atomic import write_bytes_atomically
from manifests.errors import ConfigError, ManifestError
from manifests.noise_model import known_and_present
from manifests.table import labels_NC, read_manifest
from trainer.relabel import relabelled
from trainer.report.record import read_record
from trainer.suspects.found import Found, found
from trainer.suspects.listing import Suspect, Truth, list_suspects, write_tables
from trainer.suspects.opinions import Opinions, Source, read_opinions
from trainer.suspects.page import suspects_page
from trainer.suspects.scores import suspicion, with_prior


@dataclass(frozen=True, kw_only=True)
class SuspectsConfig:
    """What is asked of a run."""

    run: Path
    """Its folder; the tables and the page are written there."""

    top: int = 100
    """Labels of each finding and side that are listed."""

    findings: tuple[str, ...] = ()
    """Which; none: all outputs of the run."""

    clean: Path | None = None
    """Manifest of labels that are right, to tell how many wrong ones are found."""

    source: Source = "auto"
    """Whose opinion counts; see `read_opinions`."""

    device: str = "auto"
    """Where the model is asked."""


@dataclass(frozen=True, kw_only=True)
class SuspectsReport:
    """What came out."""

    opinions: Opinions
    suspects: Sequence[Suspect]
    findings: tuple[str, ...]
    """Those of the list."""

    found: Found | None
    """None: nobody knows which labels are wrong."""

    notes: tuple[str, ...]
    """What a reader must know."""

    files: tuple[Path, ...]
    """Page, CSV, Parquet, and what was found as JSON."""


def report_suspects(config: SuspectsConfig, on_step: Callable[[int, int], None] | None = None) -> SuspectsReport:
    """List the suspected labels of a run; write suspects.html, .csv and .parquet, and with clean labels .json.

    Args:
        config: what is asked.
        on_step: called with (images done, images in all) while the model is asked.

    Raises:
        UserError: whatever the user can repair; nothing is written then.
    """
    opinions = read_opinions(config.run, source=config.source, device=config.device, on_step=on_step)
    unknown = [name for name in config.findings if name not in opinions.findings]
    if unknown:
        raise ConfigError(
            f"--finding {unknown[0]}: no output of {config.run} (there are: {', '.join(opinions.findings)})"
        )
    findings = config.findings or opinions.findings
    truth = None if config.clean is None else truth_of(opinions, config.clean)
    probs_nC = with_prior(opinions.probs_nC, opinions.labels_nC, opinions.mask_nC)
    suspicion_nC = suspicion(probs_nC, opinions.labels_nC, opinions.mask_nC)
    suspects = list_suspects(opinions, probs_nC, suspicion_nC, findings=findings, top=config.top, truth=truth)
    measured = None if truth is None else found(suspicion_nC, truth.is_wrong_nC, truth.known_nC, opinions.findings)
    notes = notes_on(opinions)
    epochs = read_record(config.run).of_kind("epoch")
    scores = [epoch["valid_mean_auroc"] for epoch in epochs if epoch.get("valid_mean_auroc") is not None]
    html = suspects_page(
        config.run.resolve().name, opinions, suspects, findings=findings, found=measured, notes=notes,
        valid_mean_auroc=max(scores, default=None),
    )  # fmt: skip
    parquet, csv = write_tables(config.run, suspects, with_truth=truth is not None)
    files = {"suspects.html": html.encode()}
    if measured is not None:
        told = {"source": opinions.source, "num_epochs": opinions.num_epochs, **measured.as_dict()}
        files["suspects.json"] = (json.dumps(told, indent=2) + "\n").encode()
    try:
        for name, content in files.items():
            write_bytes_atomically(config.run / name, content)
    except OSError as error:
        raise ConfigError(f"{config.run}: cannot be written ({error})") from error
    return SuspectsReport(
        opinions=opinions,
        suspects=suspects,
        findings=findings,
        found=measured,
        notes=notes,
        files=(config.run / "suspects.html", csv, parquet, *(config.run / name for name in files if "json" in name)),
    )


def truth_of(opinions: Opinions, clean: Path) -> Truth:
    """Return which training labels are wrong, told by a manifest of labels that are right.

    Raises:
        ManifestError: it cannot be read, or knows none of the labels.
    """
    try:
        table = relabelled(opinions.pack.manifest(), read_manifest(clean))
    except ManifestError as error:
        raise ManifestError(f"--clean {clean}: {error}", error.problems) from error
    values_NC, labelled_NC = labels_NC(table, opinions.findings)
    rows_n = opinions.sample_index_n
    known_nC, clean_nC = known_and_present(values_NC[rows_n], labelled_NC[rows_n])
    known_nC = known_nC & opinions.mask_nC
    if not known_nC.any():
        raise ManifestError(f"--clean {clean}: has no label of a training image for any output of the run")
    return Truth(is_wrong_nC=known_nC & (clean_nC != opinions.labels_nC), known_nC=known_nC)


def notes_on(opinions: Opinions) -> tuple[str, ...]:
    """Return what a reader must know before trusting the list."""
    notes = []
    if opinions.source == "model":
        notes.append(
            "The opinion is that of the model itself on images that it was trained on: a wrong label that it has "
            "learned by heart is not suspicious to it. A loss with a memory (--loss nvum, elr, relay) remembers what "
            "the model thought before."
        )
    num_silent = int(np.isnan(opinions.probs_nC).any(axis=1).sum())
    if num_silent:
        notes.append(f"Of {num_silent:,} training images there is no opinion (never read, or not decodable).")
    return tuple(notes)

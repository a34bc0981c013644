"""The study on images: releases of the demo's films, trained and measured through the project's own command lines.

A seed draws its own release: patients, films, label noise, and the training's order and first weights.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import mkdtemp

from manifests.findings import NO_FINDING
from tools.demo import FULL, Size
from tools.demo_commands import command
from tools.demo_comparison import MIN_POSITIVES, RECIPE
from tools.demo_data import write_release
from tools.noise_study.methods import StudyMethod, Value
from tools.noise_study.records import Outcome
from trainer.evaluation.metrics import mean_of
from trainer.events import read_events

PRECISION = "bf16"
"""On a CPU that has instructions for it, a training takes two thirds of the time that it takes in float32."""


def train_on_films(
    method: StudyMethod,
    settings: Mapping[str, Value],
    seed: int,
    *,
    folder: Path,
    size: Size = FULL,
    min_positives: int = MIN_POSITIVES,
) -> Outcome:
    """Return what a training on the films of a seed came to.

    The network has no dropout: that setting of a trial is not used. AdamW, as on the probe, and products in bfloat16;
    what else is fixed is in tools/demo.toml.

    Args:
        method: what is trained.
        settings: of one trial.
        seed: of release and training.
        folder: where releases and runs lie; a release that is there is used again.
        size: how many films, how large, how many epochs.
        min_positives: fewest positives of a finding that is in the mean.

    Raises:
        CommandError: a command failed.
    """
    home = released(folder / f"seed-{seed}", seed=seed, size=size)
    clean = home.parent / "clean.parquet"
    arguments = [
        "--recipe", str(RECIPE), "--epochs", str(size.num_epochs), "--loss", method.loss,
        "--set", f"run.seed={seed}", "--set", "optim.name=adamw", "--set", f"step.precision={PRECISION}",
        "--set", f"optim.weight_decay={settings['weight_decay']}",
        "--set", f"ema.enabled={'on' if method.teacher else 'off'}",
    ]  # fmt: skip
    if "ema_lag" in settings:
        arguments += ["--set", f"ema.decay={1 - float(settings['ema_lag'])}"]
    own = {**method.settings, **{name: settings[name] for name in method.space}}
    for name, value in own.items():
        arguments += ["--set", f"loss.{name}={json.dumps(value) if isinstance(value, bool) else value}"]
    if method.clean:
        arguments += ["--labels", str(clean)]
    run = Path(mkdtemp(prefix="run-", dir=home.parent)) / "run"  # several studies may run at a time
    command("trainer.cli", *arguments, "--out", str(run), home=home)
    command(
        "trainer.cli", "evaluate", "--run", str(run), "--labels", str(clean), "--bootstrap", "0",
        "--checkpoint", "best", "--checkpoint", "last", home=home,
    )  # fmt: skip
    return outcome_of(run, min_positives=min_positives)


def released(folder: Path, *, seed: int, size: Size) -> Path:
    """Return the workspace of a seed, with a release, its manifest and its pack; what is there is used again."""
    home, clean = folder / "cxr-data", folder / "clean.parquet"
    if (folder / "complete").exists():
        return home
    release = write_release(folder / "nih", num_images=size.num_images, size_px=size.film_px, seed=seed, workers=1)
    command(
        "pipeline.cli", "build-manifest", "--dataset", "nih", "--root", str(release.clean), "--allow-missing-images",
        "--out", str(clean), home=home,
    )  # fmt: skip
    command("pipeline.cli", "build-manifest", "--dataset", "nih", "--root", str(release.folder), home=home)
    command(
        "pipeline.cli", "pack", "--size", str(size.pack_px), "--out", str(home / "packs" / f"nih-{size.pack_px}-raw"),
        home=home,
    )  # fmt: skip
    (folder / "complete").touch()
    return home


def outcome_of(run: Path, *, min_positives: int) -> Outcome:
    """Return what the files of a run tell: the epoch that noisy validation chose, and AUROCs on clean test labels."""
    epochs = [event for event in read_events(run / "events.jsonl") if event["event"] == "epoch"]
    best_epoch, best_valid = next(
        (event["epoch"], event["valid_mean_auroc"]) for event in epochs[::-1] if event["is_best"]
    )
    entries = json.loads((run / "metrics.json").read_text(encoding="utf-8"))["evaluations"]
    means = {
        entry["checkpoint"]: mean_of(
            [
                finding["auroc"]
                for finding in entry["findings"]
                if finding["finding"] != NO_FINDING and min(finding["positives"], finding["negatives"]) >= min_positives
            ]
        )
        for entry in entries
    }
    best, last = means["best"], means["last"]
    assert best is not None
    return Outcome(valid=best_valid, test=best, last=last, epoch=best_epoch + 1)

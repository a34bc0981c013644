"""Wrong labels that are found by reading as many images again: the memory's ranking beside cleanlab's.

    python -m tools.bench_suspects               # 5 seeds x (1 + 3 folds) trainings; 15 minutes on two quiet cores
    python -m tools.bench_suspects --folds 0     # without out-of-fold predictions: a third of the time

5,000 films of the demo, trained with NVUM and the settings of tools/demo.toml. A seed is other wrong labels
(`manifests.noise`: sensitivity and PPV 50 %, flips independent, as in the demo) and another training; the films stay.
Training images are ranked by each of these opinions,

    memory        NVUM's memory after the last epoch
    last, best    the same run's model, of the last epoch and of the best one on (noisy) validation
    out-of-fold   models of the best epoch, each trained without one of the folds (of patients) and asked about it: what
                  cleanlab's authors advise, for as many more trainings, each of the same number of epochs

in each of these orders,

    ours          by the sum over findings of |label - probability|: `trainer.suspects.scores`
    cleanlab      cleanlab.multilabel_classification.rank.get_label_quality_scores, with its defaults

and the first 1, 5 and 10 % of the images are read again, all findings of each: how many of the wrong labels are found?
Beside that, a finding at a time: AUROC of the label's score against being wrong, and precision among the first 5 %;
with cleanlab's scores a class. Differences to cleanlab on out-of-fold probabilities (without folds: on the best
model's) are paired by seed, with 95 % t intervals. One row an opinion and order goes to tools/results/suspects.csv.
"""

import argparse
import math
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from manifests.build import write_manifest
from manifests.fraction import fraction_of
from manifests.noise import inject_noise
from manifests.noise_config import NoiseConfig
from manifests.table import read_manifest
from pipeline.cores import usable_cores
from tools.benchmark import RESULTS, append_row
from tools.demo_commands import command
from tools.demo_comparison import RECIPE
from tools.demo_data import write_release
from trainer.compare.student_t import t_quantile
from trainer.run_folder import RunFolder
from trainer.suspects.found import SHARES, Found, found, num_read
from trainer.suspects.listing import Truth
from trainer.suspects.opinions import Opinions, ask_model, read_opinions
from trainer.suspects.report import truth_of
from trainer.suspects.scores import suspicion, with_prior
from trainer.trained_model import load_trained_model

BASELINES = (("out-of-fold", "cleanlab"), ("best", "cleanlab"))
"""Opinions and orders: the others are compared with the first of them that is there."""


@dataclass(frozen=True, kw_only=True)
class Films:
    """What is trained on."""

    pack: Path
    clean: Path
    """Manifest of the clean labels."""

    home: Path
    """Workspace of the command lines."""

    epochs: int

    def folder(self, seed: int) -> Path:
        """Return where labels and runs of a seed lie."""
        return self.home / "runs" / f"seed-{seed}"


class Ranked(NamedTuple):
    """What a ranking finds."""

    num_found: list[int]
    """Wrong labels in the first images, for each of `SHARES`."""

    mean_auroc: float
    """Of the labels' scores, mean over findings."""

    mean_precision: float
    """Among the first 5 % of a finding's labels, mean over findings."""


Results = dict[tuple[str, str], Ranked]
"""(opinion, order) -> what it finds."""


def main() -> None:
    """Run the benchmark and append its rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--folds", type=int, default=3, help="folds of the out-of-fold predictions; 0: none")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--size", type=int, default=64, help="side of an image in the pack, in pixels")
    parser.add_argument("--keep", type=Path, help="folder for films and runs; what is there already is used again")
    arguments = parser.parse_args()
    if arguments.folds == 1:
        parser.error("--folds 1: expected 0, or 2 and more")
    with tempfile.TemporaryDirectory() as temporary:
        films = drawn(arguments.keep or Path(temporary), arguments.images, arguments.size, arguments.epochs)
        train_all(films, arguments.seeds, arguments.folds)
        results = {seed: results_of(films, seed, arguments.folds) for seed in arguments.seeds}
    report(results, num_images=arguments.images, num_epochs=arguments.epochs, num_folds=arguments.folds)


def drawn(folder: Path, num_images: int, size_px: int, epochs: int) -> Films:
    """Return films, packed, and their clean labels."""
    home, clean = folder / "cxr-data", folder / "clean.parquet"
    films = Films(pack=home / "packs" / "films", clean=clean, home=home, epochs=epochs)
    if not films.pack.is_dir():
        release = write_release(folder / "nih", num_images=num_images, size_px=2 * size_px)
        build = ("build-manifest", "--dataset", "nih", "--root")
        command("pipeline.cli", *build, str(release.clean), "--allow-missing-images", "--out", str(clean), home=home)
        command("pipeline.cli", *build, str(release.folder), home=home)
        command("pipeline.cli", "pack", "--size", str(size_px), "--out", str(films.pack), home=home)
    return films


def train_all(films: Films, seeds: Sequence[int], num_folds: int) -> None:
    """Train every seed on all patients of the split train, and without each fold of them."""
    jobs: list[tuple[int, Path, Path]] = []
    for seed in seeds:
        folder = films.folder(seed)
        folder.mkdir(parents=True, exist_ok=True)
        noisy = folder / "noisy.parquet"
        inject_noise(NoiseConfig(manifest=films.clean, out=noisy, co_occurrence="ignore", seed=seed))
        jobs.append((seed, noisy, folder / "whole"))
        for fold in range(num_folds):
            labels = without_fold(noisy, fold, num_folds, folder / f"labels-{fold}.parquet")
            jobs.append((seed, labels, folder / f"fold-{fold}"))
    # One thread each and one a core, as in the demo: the threads of so small a step mostly wait for each other.
    with ThreadPoolExecutor(usable_cores()) as pool:
        list(pool.map(lambda job: train(films, *job), jobs))


def results_of(films: Films, seed: int, num_folds: int) -> Results:
    """Return what each ranking finds with the wrong labels and the trainings of one seed."""
    memory = read_opinions(films.folder(seed) / "whole", source="memory")
    truth = truth_of(memory, films.clean)
    return {
        (opinion, order): ranked(memory, probs_nC, truth, order)
        for opinion, probs_nC in opinions_of(memory, films.folder(seed), num_folds).items()
        for order in ("ours", "cleanlab")
    }


def train(films: Films, seed: int, labels: Path, out: Path) -> None:
    """Train a run, go on with it, or leave it alone where it is done."""
    folder = RunFolder(folder=out)
    if folder.config_file.is_file() and folder.is_finished and folder.read_config().run.epochs == films.epochs:
        return
    command(
        "trainer.cli", "--recipe", str(RECIPE), "--loss", "nvum", "--label-space", "nih14", "--pack", str(films.pack),
        "--labels", str(labels), "--epochs", str(films.epochs), "--set", f"run.seed={seed}", "--out", str(out),
        "--resume", "auto", home=films.home,
    )  # fmt: skip


def without_fold(labels: Path, fold: int, num_folds: int, out: Path) -> Path:
    """Write labels without those of the training patients of one fold; return `out`."""
    table = read_manifest(labels)
    frame = pl.DataFrame(pl.from_arrow(table.table))
    is_left_out = [
        split == "train" and fold_of(patient, num_folds) == fold
        for split, patient in frame.select("split", "patient_id").iter_rows()
    ]
    write_manifest(out, frame.filter(~pl.Series(is_left_out)), table.metadata)
    return out


def fold_of(patient: str, num_folds: int) -> int:
    """Return the fold of a patient."""
    return int(fraction_of(f"fold:{patient}") * num_folds)


def opinions_of(memory: Opinions, folder: Path, num_folds: int) -> dict[str, np.ndarray]:
    """Return opinion -> probabilities [n, C] of the training rows."""
    rows_n, pack = memory.sample_index_n, memory.pack
    whole = folder / "whole"
    opinions = {"memory": memory.probs_nC}
    for checkpoint in ("last", "best"):
        opinions[checkpoint] = ask_model(load_trained_model(whole, checkpoint=checkpoint), pack, rows_n)
    if num_folds:
        patients = pack.manifest().strings("patient_id")
        fold_n = np.array([fold_of(str(patients[row]), num_folds) for row in rows_n.tolist()])
        opinions["out-of-fold"] = np.empty_like(memory.probs_nC)
        for fold in range(num_folds):
            model = load_trained_model(folder / f"fold-{fold}")
            opinions["out-of-fold"][fold_n == fold] = ask_model(model, pack, rows_n[fold_n == fold])
    return opinions


def ranked(images: Opinions, probs_nC: np.ndarray, truth: Truth, order: str) -> Ranked:
    """Return what is found in one order of the images and, a finding at a time, of their labels."""
    labels_nC = images.labels_nC
    if order == "ours":
        scores_nC = suspicion(with_prior(probs_nC, labels_nC, images.mask_nC), labels_nC, images.mask_nC)
        by_image = found(scores_nC, truth.is_wrong_nC, truth.known_nC, images.findings)
        return Ranked([by_image.found[str(share)] for share in SHARES], *_by_finding(by_image))
    quality_n, quality_nC = cleanlab_scores(labels_nC, probs_nC)
    by_finding = found(1 - quality_nC, truth.is_wrong_nC, truth.known_nC, images.findings)
    order_n = np.argsort(quality_n, kind="stable")
    wrong_n = truth.is_wrong_nC[order_n].sum(axis=1)
    num_found = [int(wrong_n[: num_read(share, len(order_n))].sum()) for share in SHARES]
    return Ranked(num_found, *_by_finding(by_finding))


def cleanlab_scores(labels_nC: np.ndarray, probs_nC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return cleanlab's label quality of each image [n], and of each label [n, C]; low ones are suspicious."""
    from cleanlab.multilabel_classification.rank import (
        get_label_quality_scores,
        get_label_quality_scores_per_class,
    )

    labels = [np.flatnonzero(row_C).tolist() for row_C in labels_nC]
    probs_nC = probs_nC.astype(np.float64)
    return get_label_quality_scores(labels, probs_nC), get_label_quality_scores_per_class(labels, probs_nC)


def _by_finding(result: Found) -> tuple[float, float]:
    precision = [row.precision["0.05"] for row in result.findings if row.wrong]
    assert result.mean_auroc is not None
    return result.mean_auroc, statistics.fmean(value for value in precision if value is not None)


def report(results: dict[int, Results], *, num_images: int, num_epochs: int, num_folds: int) -> None:
    """Print a line and append a row an opinion and order."""
    keys = list(next(iter(results.values())))
    base = next(key for key in BASELINES if key in keys)
    for key in keys:
        row: dict[str, object] = {
            "opinion": key[0], "order": key[1], "images": num_images, "epochs": num_epochs, "folds": num_folds,
            "seeds": " ".join(map(str, results)), "compared_with": " ".join(base),
        }  # fmt: skip
        shown = []
        for name, values, others in _columns(results, key, base):
            mean = statistics.fmean(values)
            row[name] = f"{mean:.4g}"
            shown.append(f"{name} {mean:.4g}")
            if key != base:
                difference, half_width = paired(values, others)
                row[f"{name}_difference"] = f"{difference:.4g}"
                row[f"{name}_half_width"] = f"{half_width:.4g}"
                shown[-1] += f" ({difference:+.3g} +- {half_width:.2g})"
        append_row(RESULTS / "suspects.csv", row)
        print(f"{key[0]:<11} {key[1]:<8} {', '.join(shown)}")


def _columns(
    results: dict[int, Results], key: tuple[str, str], base_key: tuple[str, str]
) -> Iterator[tuple[str, list[float], list[float]]]:
    """Yield the name of a measure, its values a seed, and those of the baseline."""
    own, base = ([result[chosen] for result in results.values()] for chosen in (key, base_key))
    for place, share in enumerate(SHARES):
        name = f"found_{share * 100:g}_percent"
        yield name, [float(one.num_found[place]) for one in own], [float(one.num_found[place]) for one in base]
    yield "auroc", [one.mean_auroc for one in own], [one.mean_auroc for one in base]
    yield "precision_5_percent", [one.mean_precision for one in own], [one.mean_precision for one in base]


def paired(values: Sequence[float], others: Sequence[float]) -> tuple[float, float]:
    """Return the mean difference, and half the width of its 95 % t interval; nan of a single seed."""
    differences = [one - other for one, other in zip(values, others, strict=True)]
    if len(differences) < 2:
        return differences[0], math.nan
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    return statistics.fmean(differences), t_quantile(0.975, len(differences) - 1) * error


if __name__ == "__main__":
    main()

"""Which measure of suspicion finds most wrong labels, on features instead of films: how `trainer.suspects.scores` came.

    python -m tools.suspect_scores               # seeds 100 to 103; seconds a seed on a quiet core

The probe of `tools.noise_probe` (perceptron, 8 findings, PPV = sensitivity = 50 %), 2,500 rows, NVUM, 20 epochs; a seed
is another world. Opinions are the memory's and the last model's, the prior put back. Measures of a label y, with p:

    distance      |y - p|
    rank          share of rows with a smaller p, for y = 0; of those with a larger one, for y = 1
    rates 0.3     how likely y is wrong if labels are right so far beyond chance (`trainer.relay`); also 0.5, 0.8
    cleanlab      its label quality, with its defaults

Each row says: wrong labels among the first 1, 5 and 10 % of the rows (by the sum of their labels' scores), mean AUROC
of a label's score against being wrong, mean precision among the first 5 %; in tools/results/suspect_scores.csv too.
These seeds choose; `tools.bench_suspects` reports others.
"""

import argparse
import statistics
from typing import NamedTuple

import numpy as np
import torch

from tools.bench_suspects import Ranked, cleanlab_scores
from tools.benchmark import RESULTS, append_row
from tools.noise_probe import draw_rows
from tools.noise_study.training import Step, network
from trainer.config import TrainConfig
from trainer.ema import EMATeacher
from trainer.optim import OptimConfig, build_optimiser
from trainer.remembered import Memory, remembered_probs
from trainer.sections import build
from trainer.suspects.found import SHARES, found, num_read
from trainer.suspects.scores import suspicion, with_prior

NUM_ROWS, NUM_EPOCHS = 2500, 20
RATES = (0.3, 0.5, 0.8)


class Case(NamedTuple):
    """Labels, truth, and opinion -> probabilities; all [N, C]."""

    labels_NC: np.ndarray
    is_wrong_NC: np.ndarray
    opinions: dict[str, np.ndarray]


def main() -> None:
    """Train, rank, append rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 101, 102, 103])
    parser.add_argument("--epochs", type=int, default=NUM_EPOCHS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cases = [trained(seed, arguments.epochs) for seed in arguments.seeds]
    for opinion in cases[0].opinions:
        for measure in ("distance", "rank", *(f"rates {rate:g}" for rate in RATES), "cleanlab"):
            results = [ranked(case, opinion, measure) for case in cases]
            row: dict[str, object] = {"opinion": opinion, "measure": measure, "epochs": arguments.epochs}
            row["seeds"] = " ".join(map(str, arguments.seeds))
            for place, share in enumerate(SHARES):
                row[f"found_{share * 100:g}_percent"] = statistics.fmean(result.num_found[place] for result in results)
            row["auroc"] = round(statistics.fmean(result.mean_auroc for result in results), 4)
            row["precision_5_percent"] = round(statistics.fmean(result.mean_precision for result in results), 4)
            append_row(RESULTS / "suspect_scores.csv", row)
            print(", ".join(f"{name} {value}" for name, value in row.items() if name not in ("epochs", "seeds")))


def trained(seed: int, num_epochs: int) -> Case:
    """Return labels of a world, and what memory and last model of an NVUM run think of them."""
    (rows,) = draw_rows(seed, NUM_ROWS, num_draws=1)
    torch.manual_seed(seed)
    student = network(dropout=0.0)
    teacher = EMATeacher(student, 0.99)
    values = {"loss": {"name": "nvum"}, "run": {"epochs": num_epochs}, "schedule": {"warmup_epochs": 0.0}}
    config = build(TrainConfig, values, source="tools.suspect_scores")
    optimiser = build_optimiser(student.parameters(), OptimConfig(name="adamw", weight_decay=0.01))
    step = Step(config.loss, rows.noisy, student, teacher, optimiser, seed)
    for epoch in range(num_epochs):
        step.train_epoch(rows, epoch, num_epochs)
    assert step.memory is not None
    memory = Memory(step.memory.previous_NC, rows.noisy.double().mean(dim=0).numpy(), num_epochs, config)
    with torch.no_grad():
        last_NC = torch.sigmoid(teacher.module.eval()(rows.features)).numpy()
    labels_NC, clean_NC = rows.noisy.numpy() > 0.5, rows.clean.numpy() > 0.5
    return Case(labels_NC, labels_NC != clean_NC, {"memory": remembered_probs(memory).numpy(), "last": last_NC})


def ranked(case: Case, opinion: str, measure: str) -> Ranked:
    """Return what a measure finds."""
    labels_NC, wrong_NC = case.labels_NC, case.is_wrong_NC
    known_NC = np.ones_like(labels_NC)
    probs_NC = with_prior(case.opinions[opinion], labels_NC, known_NC)
    of_rows_N = None
    if measure == "distance":
        scores_NC = suspicion(probs_NC, labels_NC, known_NC)
    elif measure == "rank":
        place_NC = (probs_NC.argsort(axis=0).argsort(axis=0) + 0.5) / len(probs_NC)
        scores_NC = np.where(labels_NC, 1 - place_NC, place_NC)
    elif measure == "cleanlab":
        quality_N, quality_NC = cleanlab_scores(labels_NC, case.opinions[opinion])
        scores_NC, of_rows_N = 1 - quality_NC, 1 - quality_N
    else:
        scores_NC = with_rates(probs_NC, labels_NC, float(measure.removeprefix("rates ")))
    of_rows_N = scores_NC.sum(axis=1) if of_rows_N is None else of_rows_N
    wrong_N = wrong_NC.sum(axis=1)[np.argsort(-of_rows_N, kind="stable")]
    result = found(scores_NC, wrong_NC, known_NC, tuple(map(str, range(labels_NC.shape[1]))))
    precision = [row.precision["0.05"] or 0.0 for row in result.findings]
    assert result.mean_auroc is not None
    counts = [int(wrong_N[: num_read(share, len(wrong_N))].sum()) for share in SHARES]
    return Ranked(counts, result.mean_auroc, statistics.fmean(precision))


def with_rates(probs_NC: np.ndarray, labels_NC: np.ndarray, rate: float) -> np.ndarray:
    """Return how likely each label is wrong if p is the chance of a label "present", and labels are so right.

    Sensitivity and PPV of a finding with the share q of labels present are q + (1 - q) * rate; t, the chance that it is
    there, follows from p = s t + f (1 - t).
    """
    share_C = labels_NC.mean(axis=0)
    hit_C = share_C + (1 - share_C) * rate
    false_C = share_C * (1 - hit_C) / (1 - share_C)
    there_NC = np.clip((probs_NC - false_C) / (hit_C - false_C), 1e-3, 1 - 1e-3)
    present_NC = false_C * (1 - there_NC) / (hit_C * there_NC + false_C * (1 - there_NC))
    missed_NC = (1 - hit_C) * there_NC
    absent_NC = missed_NC / (missed_NC + (1 - false_C) * (1 - there_NC))
    return np.asarray(np.where(labels_NC, present_NC, absent_NC))


if __name__ == "__main__":
    main()

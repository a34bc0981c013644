"""Tuning, ten seeds and table of the noise study; see `tools.noise_study`."""

import argparse
import time
from pathlib import Path

import torch

from tools.noise_study.methods import METHODS
from tools.noise_study.records import SEEDS, TRIALS, Row, append, chosen_trial, read
from tools.noise_study.tables import tables
from tools.noise_study.training import NUM_EPOCHS, History, train

TUNING_SEEDS = [100, 101]
REPORTED_SEEDS = list(range(10))

PATIENCE = 12
"""Epochs without a better validation after which a run of the tuning ends; those of the ten seeds go on to the end."""


def main() -> None:
    """Do one part of the study."""
    parser = argparse.ArgumentParser(prog="python -m tools.noise_study", description=__doc__)
    parser.add_argument("part", choices=("tune", "seeds", "table"))
    parser.add_argument("--method", action="append", choices=list(METHODS), help="only these (default: all)")
    parser.add_argument("--trials", type=int, default=8, help="trials of each method (default: %(default)s)")
    arguments = parser.parse_args()
    num_trials: int = arguments.trials
    torch.set_num_threads(1)
    names = arguments.method or list(METHODS)
    if arguments.part == "tune":
        for trial in range(num_trials):
            for name in names:
                for seed in TUNING_SEEDS:
                    run_once(TRIALS, name, trial, seed, patience=None if METHODS[name].loss == "relay" else PATIENCE)
    elif arguments.part == "seeds":
        trials = read(TRIALS)
        for seed in REPORTED_SEEDS:
            for name in names:
                trial = chosen_trial(trials, name, num_trials=num_trials, seeds=TUNING_SEEDS)
                run_once(SEEDS, name, trial, seed, patience=None)
    else:
        print(tables(read(TRIALS), read(SEEDS), num_trials=num_trials, tuning_seeds=TUNING_SEEDS))


def run_once(path: Path, name: str, trial: int, seed: int, *, patience: int | None) -> None:
    """Do a run and write its row, unless it is there."""
    if (name, trial, seed) in read(path):
        return
    begin_s = time.perf_counter()
    settings = METHODS[name].trial(trial)
    history = train(METHODS[name], settings, seed, patience=patience)
    row = as_row(name, trial, seed, history)
    append(path, row, {"elapsed_s": f"{time.perf_counter() - begin_s:.1f}"})
    print(f"{name}, trial {trial}, seed {seed}: valid {row.valid:.4f}, clean test {row.test:.4f}", flush=True)


def as_row(name: str, trial: int, seed: int, history: History) -> Row:
    """Return what is kept of a run."""
    settings = METHODS[name].trial(trial)
    return Row(
        method=name,
        trial=trial,
        seed=seed,
        valid=history.valid[history.best_epoch],
        test=history.chosen_test,
        last=history.test[-1] if len(history.test) == NUM_EPOCHS else None,
        epoch=history.best_epoch + 1,
        settings=" ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in settings.items()),
    )


if __name__ == "__main__":
    main()

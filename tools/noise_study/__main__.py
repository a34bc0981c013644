"""Tuning, seeds and table of the noise study; see `tools.noise_study`."""

import argparse
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from tools.benchmark import RESULTS
from tools.noise_study.films import train_on_films
from tools.noise_study.methods import METHODS, StudyMethod, Value
from tools.noise_study.records import Outcome, Row, append, chosen_trial, read
from tools.noise_study.tables import tables
from tools.noise_study.training import NUM_EPOCHS, train

FIRST_SEED = 10
"""Of those that are reported; a few below were looked at while `relay` was made."""

PATIENCE = 12
"""Epochs without a better validation after which a run of the probe's tuning ends; those of the seeds never do, nor
those of losses whose weights begin anew."""

Training = Callable[[StudyMethod, Mapping[str, Value], int], Outcome]
"""From method, settings of a trial and seed to what came out."""


@dataclass(frozen=True, kw_only=True)
class Ground:
    """Where methods are compared."""

    trials: Path
    """Rows of the tuning."""

    seeds: Path
    """Rows of the reported seeds."""

    tuning_seeds: list[int]
    """Seeds that choose the settings; none of them is reported."""

    tuned: Training
    """A training of the tuning."""

    reported: Training
    """A training of the reported seeds."""


def grounds(films: Path) -> dict[str, Ground]:
    """Return the probe and the films; the latter lie in a folder."""
    on_films = partial(train_on_films, folder=films)
    return {
        "probe": Ground(
            trials=RESULTS / "noise_study_trials.csv",
            seeds=RESULTS / "noise_study_seeds.csv",
            tuning_seeds=[100, 101],
            tuned=partial(on_probe, patience=PATIENCE),
            reported=on_probe,
        ),
        "films": Ground(
            trials=RESULTS / "noise_study_film_trials.csv",
            seeds=RESULTS / "noise_study_film_seeds.csv",
            tuning_seeds=[100],
            tuned=on_films,
            reported=on_films,
        ),
    }


def main() -> None:
    """Do one part of the study."""
    parser = argparse.ArgumentParser(prog="python -m tools.noise_study", description=__doc__)
    parser.add_argument("part", choices=("tune", "seeds", "table"))
    parser.add_argument("--on", choices=("probe", "films"), default="probe", help="features or images (default: probe)")
    parser.add_argument("--method", action="append", choices=list(METHODS), help="only these (default: all)")
    parser.add_argument("--trials", type=int, default=6, help="trials of each method (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=10, help="reported seeds (default: %(default)s)")
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED, help="the first of them (default: %(default)s)")
    parser.add_argument("--rows", type=Path, help="table of this file instead, of the trials that it has")
    parser.add_argument("--films", type=Path, default=Path("noise-study"), help="folder of films and their runs")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    names = arguments.method or list(METHODS)
    ground, num_trials = grounds(arguments.films)[arguments.on], arguments.trials
    if arguments.part == "tune":
        for trial in range(num_trials):
            for name in names:
                for seed in ground.tuning_seeds:
                    run_once(ground.trials, ground.tuned, name, trial, seed)
    elif arguments.part == "seeds":
        trials = read(ground.trials)
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
            for name in names:
                trial = chosen_trial(trials, name, num_trials=num_trials, seeds=ground.tuning_seeds)
                run_once(ground.seeds, ground.reported, name, trial, seed)
    else:
        trials, seeds = read(ground.trials), read(arguments.rows or ground.seeds)
        if arguments.rows:
            chosen = {name: trial for name, trial, _ in seeds}
        else:
            chosen = {
                name: chosen_trial(trials, name, num_trials=num_trials, seeds=ground.tuning_seeds)
                for name in {key[0] for key in seeds}
            }
        print(tables(seeds, chosen))


def on_probe(method: StudyMethod, settings: Mapping[str, Value], seed: int, *, patience: int | None = None) -> Outcome:
    """Return what a training on the probe came to."""
    history = train(method, settings, seed, patience=None if method.loss == "relay" else patience)
    return Outcome(
        valid=history.valid[history.best_epoch],
        test=history.chosen_test,
        last=history.test[-1] if len(history.test) == NUM_EPOCHS else None,
        epoch=history.best_epoch + 1,
    )


def run_once(path: Path, training: Training, name: str, trial: int, seed: int) -> None:
    """Do a run and write its row, unless it is there."""
    if (name, trial, seed) in read(path):
        return
    begin_s = time.perf_counter()
    settings = METHODS[name].trial(trial)
    outcome = training(METHODS[name], settings, seed)
    shown = " ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in settings.items())
    append(
        path,
        Row(method=name, trial=trial, seed=seed, outcome=outcome, settings=shown),
        {"elapsed_s": f"{time.perf_counter() - begin_s:.1f}"},
    )
    print(f"{name}, trial {trial}, seed {seed}: valid {outcome.valid:.4f}, clean test {outcome.test:.4f}", flush=True)


if __name__ == "__main__":
    main()

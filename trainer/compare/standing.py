"""Where each planned run stands: to be trained, to be gone on with, done; or no longer what the plan asks for."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase
from pathlib import Path

from manifests.errors import ConfigError
from pipeline.errors import PackError
from pipeline.pack import open_pack
from trainer.checkpoint import read_checkpoint
from trainer.compare.plan import Plan, PlannedRun
from trainer.config import TrainConfig
from trainer.distributed import ALONE
from trainer.parts import identities_of, settled
from trainer.resume import differing_settings
from trainer.run_folder import RunFolder
from trainer.sections import build


class Standing(Enum):
    """How far a run is."""

    NEW = "new"
    UNFINISHED = "unfinished"
    FINISHED = "finished"


@dataclass(frozen=True, kw_only=True)
class StandingRun:
    """A planned run and how far it is."""

    run: PlannedRun
    """The run."""

    standing: Standing
    """How far it is."""

    config: TrainConfig
    """Its configuration without open choices, as it would begin here."""

    num_train: int
    """Images of an epoch."""


def standing_of(plan: Plan) -> list[StandingRun]:
    """Return how far each run is; whatever cannot be trained is found here, before anything begins.

    Raises:
        UserError: settings, a pack or labels that cannot work.
        ConfigError: folders of runs that were begun with other settings or data; all of them are named.
    """
    found, changed = [], []
    for run in plan.runs():
        try:
            asked = build(TrainConfig, run.settings, source=f"{plan.file}: run {run.name}")
            config, data = settled(asked, ALONE)
        except ConfigError as error:
            raise ConfigError(f"run {run.name}: {error}") from error
        folder = RunFolder(folder=run.folder)
        standing = Standing.NEW
        if folder.config_file.is_file():
            standing = Standing.FINISHED if folder.is_finished else Standing.UNFINISHED
            problems = [
                f"{name}={now}, it was begun with {before}"
                for name, before, now in differing_settings(folder.read_config(), config)
            ]
            newest = folder.checkpoints.newest_first()
            if newest and not problems:
                try:
                    identities_of(config, data).check(read_checkpoint(newest[0])["identities"], newest[0])
                except ConfigError as error:
                    problems.append(str(error).partition(": ")[2].partition(";")[0])
            if problems:
                changed.append(f"{run.name}: {'; '.join(problems)}")
        elif run.folder.exists() and any(run.folder.iterdir()):
            raise ConfigError(f"{run.folder}: there already, and no run; remove it, or choose another --out")
        found.append(
            StandingRun(run=run, standing=standing, config=config, num_train=data.train.num_selected)
        )  # fmt: skip
    if changed:
        shown = "".join(f"\n  {problem}" for problem in changed)
        raise ConfigError(
            f"{plan.file}: {len(changed)} runs in {plan.runs_folder} were begun with something else:{shown}\n"
            "undo the change, train them anew by --restart NAME (or a pattern: --restart 'nvum-*'), or choose another "
            "--out"
        )
    return found


def set_aside(plan: Plan, patterns: Sequence[str]) -> list[Path]:
    """Move the folders of the runs whose names match one of the patterns to ``replaced/``; return where they are.

    Raises:
        ConfigError: a pattern that no run of the plan matches.
    """
    names = [run.name for run in plan.runs()]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ConfigError(f"--restart {pattern}: no such run (there are: {', '.join(names)})")
    moved = []
    for run in plan.runs():
        if run.folder.exists() and any(fnmatchcase(run.name, pattern) for pattern in patterns):
            moved.append(_free_name(plan.out / "replaced", run.name))
            moved[-1].parent.mkdir(parents=True, exist_ok=True)
            with RunFolder(folder=run.folder).lock():
                shutil.move(run.folder, moved[-1])
    return moved


def _free_name(folder: Path, name: str) -> Path:
    number = 1
    while (path := folder / f"{name}-{number}").exists():
        number += 1
    return path


def refuse_missing_tests(plan: Plan) -> None:
    """Refuse test sets that are not there, before hours are spent on training.

    Raises:
        UserError: names the test set.
    """
    for test in plan.tests:
        if test.pack is not None:
            try:
                open_pack(Path(test.pack))
            except PackError as error:
                raise PackError(f"{plan.file}: test set {test.title!r}: {error}") from error
        for path in test.label_files:
            if not path.is_file():
                raise ConfigError(f"{plan.file}: test set {test.title!r}: {path}: no such file of labels")

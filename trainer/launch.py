"""From what a command line asks for to a run that trained: settle, open, build, run, close."""

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from manifests.errors import ConfigError
from manifests.workspace import Workspace
from pipeline.pack import Pack
from pipeline.prepare import slower_path
from trainer.checkpoint import Identities
from trainer.config import TrainConfig
from trainer.display import Display
from trainer.distributed import ALONE, Ranks
from trainer.events import EventLog, SilentLog
from trainer.loop import TrainingLoop
from trainer.methods import METHODS
from trainer.nvum import cpu_implementation
from trainer.parts import Parts, identities_of, opened, settled
from trainer.preprocessing import Preprocessing
from trainer.resume import (
    Resumption,
    cut_history,
    differences_of_process,
    newest_readable,
    refuse_other_results,
)
from trainer.run_folder import RunFolder, next_run_name, only_unfinished
from trainer.sections import Values, as_values, build
from trainer.signals import StopRequest
from trainer.sinks import open_sinks

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run was left."""

    run: Path
    """Its folder."""

    finished: bool
    """Whether its last epoch is done; otherwise `--resume` goes on."""

    exit_code: int = 0
    """0, and 130 where Ctrl-C stopped it."""


def train(given: Values, *, out: Path | None = None, ranks: Ranks = ALONE) -> Outcome:
    """Train a new run.

    Args:
        given: what was asked for, over the defaults.
        out: the run's folder; by default one of the workspace, named by pack, loss and model, and numbered.
        ranks: the processes that train it together; all of them call this.

    Raises:
        UserError: whatever the user can repair; no folder is made for a run that could not begin.
    """
    with ExitStack() as stack:
        with ranks.together():
            if ranks.is_first and out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
                raise ConfigError(
                    f"{out}: exists already; go on with it by `cxr-train --resume --out {out}`, or choose another --out"
                )
            config, data = settled(build(TrainConfig, given, source="configuration"), ranks)
        parts = opened(stack, config, data, ranks, load_weights=True)
        run = ranks.from_first(lambda: _created(stack, config, data.pack, out))
        return _run(run, parts)


def resume(given: Values, *, out: Path | None = None, ranks: Ranks = ALONE) -> Outcome:
    """Go on with a run from its newest checkpoint, or from its beginning where it has none yet.

    Args:
        given: what was asked for; it may differ from the run only where its results do not depend on it.
        out: the run's folder; by default the only unfinished one of the workspace.
        ranks: the processes that go on with it together, as many as before or not; all of them call this.

    Raises:
        UserError: as for `train`; or the checkpoint belongs to something else.
    """
    run, begun, is_finished = ranks.from_first(lambda: _begun(out))
    if is_finished and not given:
        return _finished_already(run)
    values = as_values(begun)
    for section, keys in given.items():
        values[section] |= keys
    with ExitStack() as stack:
        with ranks.together():
            config, data = settled(build(TrainConfig, values, source="configuration"), ranks)
            refuse_other_results(begun, config, run)
        if is_finished:
            return _finished_already(run)
        resumed = ranks.from_first(lambda: _taken_over(stack, run, identities_of(config, data)))
        parts = opened(stack, config, data, ranks, load_weights=resumed is None)
        warnings: list[str] = []
        if resumed is not None:
            parts.state.restore(resumed.checkpoint, ranks)
            warnings = differences_of_process(resumed.checkpoint, ranks, batch_size=config.loader.batch_size)
        ranks.from_first(lambda: _brought_up_to_date(run, begun, config, resumed))
        return _run(run, parts, resumed_from=None if resumed is None else resumed.path, warnings=warnings)


def train_or_resume(given: Values, *, out: Path, ranks: Ranks = ALONE) -> Outcome:
    """Go on with the run in `out` where there is one, else train it: what a job that may be started again does."""
    there = ranks.from_first(lambda: RunFolder(folder=out).config_file.is_file())
    return (resume if there else train)(given, out=out, ranks=ranks)


def _created(stack: ExitStack, config: TrainConfig, pack: Pack, out: Path | None) -> RunFolder:
    """Return a new run, locked."""
    run = RunFolder.create(out, config) if out is not None else _create_numbered(config, pack)
    stack.enter_context(run.lock())
    return run


def _begun(out: Path | None) -> tuple[RunFolder, TrainConfig, bool]:
    """Return a run that was begun, its configuration, and whether it is finished."""
    run = RunFolder(folder=out) if out is not None else only_unfinished(Workspace.current())
    return run, run.read_config(), run.is_finished


def _taken_over(stack: ExitStack, run: RunFolder, identities: Identities) -> Resumption | None:
    """Return where a run goes on from, the run being locked."""
    stack.enter_context(run.lock())
    run.checkpoints.remove_partial()
    return newest_readable(run, identities)


def _brought_up_to_date(run: RunFolder, begun: TrainConfig, config: TrainConfig, resumed: Resumption | None) -> None:
    """Cut the history back to the checkpoint, and remember where pack and labels are now."""
    if begun.data != config.data:
        run.write_config(replace(begun, data=config.data))
    cut_history(run, resumed)


def _finished_already(run: RunFolder) -> Outcome:
    logger.warning("%s: this run is finished; nothing is left to train", run.folder)
    return Outcome(run=run.folder, finished=True)


def _run(run: RunFolder, parts: Parts, *, resumed_from: Path | None = None, warnings: Sequence[str] = ()) -> Outcome:
    """Run the loop with history, display and signals, which close whatever happens."""
    config, state, ranks = parts.config, parts.state, parts.ranks
    with (
        _history(run, config, state.cursor.step) if ranks.is_first else SilentLog() as log,
        Display(num_epochs=config.run.epochs, steps_per_epoch=parts.train_loader.num_steps()) as display,
        StopRequest() as stop,
    ):
        if resumed_from is None:
            log.write(
                "start",
                seed=config.run.seed,
                device=config.run.device,
                num_threads=torch.get_num_threads(),
                world_size=ranks.world_size,
                num_train=parts.data.train.num_selected,
                num_valid=parts.data.valid.num_selected,
                preprocessing=Preprocessing.of_pack(parts.data.pack).as_values(),
                torch=torch.__version__,
                cpu_nvum_step=cpu_implementation(),
            )
        else:
            log.write(
                "resume",
                epoch=state.cursor.epoch,
                step=state.cursor.step,
                checkpoint=resumed_from.name,
                preprocessing=Preprocessing.of_pack(parts.data.pack).as_values(),
                num_threads=torch.get_num_threads(),
                world_size=ranks.world_size,
                cpu_nvum_step=cpu_implementation(),
            )
        loop = TrainingLoop(
            config=config,
            data=parts.data,
            state=state,
            run=run,
            log=log,
            train_loader=parts.train_loader,
            valid_loader=parts.valid_loader,
            clean=parts.clean,
            clean_loader=parts.clean_loader,
            stop=stop,
            display=display,
            identities=identities_of(config, parts.data),
            ranks=ranks,
        )
        slower = slower_path(torch.device(config.run.device))
        for message in [*warnings, *filter(None, (slower, config.loader.caution))]:
            loop.warn(message)
        finished = loop.run_to_end()
        return Outcome(run=run.folder, finished=finished, exit_code=0 if finished else stop.exit_code)


def _history(run: RunFolder, config: TrainConfig, step: int) -> EventLog:
    """Return the run's history, open, with the sinks that see it too."""
    return EventLog(run.events_file, open_sinks(run.folder, config.run, values=as_values(config), step=step))


def _create_numbered(config: TrainConfig, pack: Pack) -> RunFolder:
    """Return a new run under the next number; where another process took it meanwhile, under the one after."""
    while True:
        folder = _default_folder(config, pack)
        try:
            return RunFolder.create(folder, config)
        except ConfigError:
            if not folder.exists():
                raise


def _default_folder(config: TrainConfig, pack: Pack) -> Path:
    """Return a free folder of the workspace: ``nih-256-raw-nvum-densenet121-001``."""
    reads_teacher = METHODS[config.loss.name].reads_teacher
    loss = config.loss.name + ("-ema" if config.has_teacher and not reads_teacher else "")
    runs = Workspace.current().runs
    return runs / next_run_name(runs, f"{pack.folder.name}-{loss}-{config.model.name.replace(':', '-')}")

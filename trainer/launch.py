"""From what a command line asks for to a run that trained: settle, open, build, run, close."""

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from manifests.errors import ConfigError
from manifests.selection import Selection
from manifests.workspace import Workspace
from pipeline.loaders import Loader, open_loader
from pipeline.order import step_sizes
from pipeline.pack import Pack
from trainer.checkpoint import Identities
from trainer.config import TrainConfig
from trainer.data import TrainingData, find_pack, open_training_data
from trainer.display import Display
from trainer.events import EventLog
from trainer.loop import TrainingLoop
from trainer.models.registry import refuse_small_images_alone
from trainer.resume import cut_history, newest_readable, refuse_other_results
from trainer.rng import seed_generators
from trainer.run_folder import RunFolder, next_run_name, only_unfinished
from trainer.sections import Values, as_values, build
from trainer.settle import refuse_several_processes, settle
from trainer.signals import StopRequest
from trainer.state import TrainState, new_state

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run was left."""

    run: Path
    """Its folder."""

    finished: bool
    """Whether its last epoch is done; otherwise `--resume` goes on."""

    exit_code: int = 0
    """128 + the signal that stopped it, or 0."""


class _Parts(NamedTuple):
    """What a run is made of, open."""

    config: TrainConfig
    data: TrainingData
    state: TrainState
    train_loader: Loader
    valid_loader: Loader | None


def train(given: Values, *, out: Path | None = None) -> Outcome:
    """Train a new run.

    Args:
        given: what was asked for, over the defaults.
        out: the run's folder; by default one of the workspace, named by pack, loss and model, and numbered.

    Raises:
        UserError: whatever the user can repair; no folder is made for a run that could not begin.
    """
    refuse_several_processes()
    if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(
            f"{out}: exists already; go on with it by `cxr-train --resume --out {out}`, or choose another --out"
        )
    with ExitStack() as stack:
        config, data = _settled(build(TrainConfig, given, source="configuration"))
        parts = _opened(stack, config, data, load_weights=True)
        run = RunFolder.create(out, config) if out is not None else _create_numbered(config, data.pack)
        stack.enter_context(run.lock())
        return _run(run, parts)


def resume(given: Values, *, out: Path | None = None) -> Outcome:
    """Go on with a run from its newest checkpoint, or from its beginning where it has none yet.

    Args:
        given: what was asked for; it may differ from the run only where its results do not depend on it.
        out: the run's folder; by default the only unfinished one of the workspace.

    Raises:
        UserError: as for `train`; or the checkpoint belongs to something else.
    """
    refuse_several_processes()
    run = RunFolder(folder=out) if out is not None else only_unfinished(Workspace.current())
    begun = run.read_config()
    is_finished = run.is_finished
    if is_finished and not given:
        return _finished_already(run)
    values = as_values(begun)
    for section, keys in given.items():
        values[section] |= keys
    with ExitStack() as stack:
        config, data = _settled(build(TrainConfig, values, source="configuration"))
        refuse_other_results(begun, config, run)
        if is_finished:
            return _finished_already(run)
        stack.enter_context(run.lock())
        run.checkpoints.remove_partial()
        resumed = newest_readable(run, _identities(config, data))
        parts = _opened(stack, config, data, load_weights=resumed is None)
        warnings: list[str] = []
        if resumed is not None:
            parts.state.restore(resumed.checkpoint)
            before, now = resumed.checkpoint["num_threads"], torch.get_num_threads()
            if before != now:
                warnings.append(
                    f"run.num_threads={now}, the checkpoint was written with {before}: on the CPU the results go on "
                    "with other bits than those of an undisturbed run"
                )
        cut_history(run, resumed)
        return _run(run, parts, resumed_from=None if resumed is None else resumed.path, warnings=warnings)


def _finished_already(run: RunFolder) -> Outcome:
    logger.warning("%s: this run is finished; nothing is left to train", run.folder)
    return Outcome(run=run.folder, finished=True)


def _settled(config: TrainConfig) -> tuple[TrainConfig, TrainingData]:
    """Return the configuration without open choices, and its data."""
    folder = find_pack(config.data, backend=config.loader.backend, workspace=Workspace.current())
    data = open_training_data(folder, space_name=config.data.label_space, prior_form=config.loss.prior_form)
    config = settle(config, data.pack)
    refuse_small_images_alone(
        config.model.name,
        input_size_px=config.model.input_size_px,
        step_sizes=step_sizes(data.train.num_selected, batch_size=config.loader.batch_size),
    )
    return config, data


def _opened(stack: ExitStack, config: TrainConfig, data: TrainingData, *, load_weights: bool) -> _Parts:
    """Return state and loaders; the stack closes the loaders."""
    device = torch.device(config.run.device)
    torch.set_num_threads(config.run.num_threads)
    seed_generators(config.run.seed)

    def loader(selection: Selection) -> Loader:
        return stack.enter_context(
            open_loader(
                config.loader,
                pack=data.pack,
                sample_index_n=selection.sample_index_n,
                seed=config.run.seed,
                device=device,
            )
        )

    return _Parts(
        config=config,
        data=data,
        state=new_state(
            config,
            num_rows=data.pack.num_samples,
            num_outputs=len(data.space.findings),
            device=device,
            load_weights=load_weights,
        ),
        train_loader=loader(data.train),
        valid_loader=loader(data.valid) if data.valid.num_selected else None,
    )


def _run(run: RunFolder, parts: _Parts, *, resumed_from: Path | None = None, warnings: Sequence[str] = ()) -> Outcome:
    """Run the loop with history, display and signals, which close whatever happens."""
    config, state = parts.config, parts.state
    with (
        EventLog(run.events_file) as log,
        Display(num_epochs=config.run.epochs) as display,
        StopRequest() as stop,
    ):
        if resumed_from is None:
            log.write(
                "start",
                seed=config.run.seed,
                device=config.run.device,
                num_threads=torch.get_num_threads(),
                num_train=parts.data.train.num_selected,
                num_valid=parts.data.valid.num_selected,
                torch=torch.__version__,
            )
        else:
            log.write(
                "resume",
                epoch=state.cursor.epoch,
                step=state.cursor.step,
                checkpoint=resumed_from.name,
                num_threads=torch.get_num_threads(),
            )
        loop = TrainingLoop(
            config=config,
            data=parts.data,
            state=state,
            run=run,
            log=log,
            train_loader=parts.train_loader,
            valid_loader=parts.valid_loader,
            stop=stop,
            display=display,
            identities=_identities(config, parts.data),
        )
        for message in warnings:
            loop.warn(message)
        finished = loop.run_to_end()
        return Outcome(run=run.folder, finished=finished, exit_code=0 if finished else stop.exit_code)


def _identities(config: TrainConfig, data: TrainingData) -> Identities:
    return data.identities(model=config.model.name, input_size_px=config.model.input_size_px)


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
    loss = config.loss.name + ("-ema" if config.loss.name == "bce" and config.has_teacher else "")
    runs = Workspace.current().runs
    return runs / next_run_name(runs, f"{pack.folder.name}-{loss}-{config.model.name}")

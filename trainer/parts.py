"""What a run is made of: its configuration without open choices, its data, state and loaders, open."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from manifests.selection import Selection
from manifests.workspace import Workspace
from pipeline.loaders import Loader, LoaderConfig, open_loader
from pipeline.order import step_sizes
from trainer.checkpoint import Identities
from trainer.config import TrainConfig
from trainer.data import TrainingData, find_pack, open_training_data
from trainer.distributed import Ranks
from trainer.memorisation import CleanSample, clean_sample
from trainer.models.registry import refuse_small_images_alone
from trainer.resume import what_ranks_share
from trainer.rng import seed_generators, stream_seed
from trainer.settle import device_of_rank, settle
from trainer.sinks import refuse_missing_sinks
from trainer.state import TrainState, new_state
from trainer.step import part_sizes


class Parts(NamedTuple):
    """What a run is made of, open."""

    config: TrainConfig
    data: TrainingData
    ranks: Ranks
    state: TrainState
    train_loader: Loader
    valid_loader: Loader | None
    clean: CleanSample | None
    clean_loader: Loader | None


def settled(config: TrainConfig, ranks: Ranks) -> tuple[TrainConfig, TrainingData]:
    """Return the configuration without open choices, and its data."""
    folder = find_pack(config.data, backend=config.loader.backend, workspace=Workspace.current())
    data = open_training_data(
        folder,
        space_name=config.data.label_space,
        prior_form=config.loss.prior_form,
        labels=None if config.data.labels is None else Path(config.data.labels),
    )
    config = settle(config, data.pack, ranks)
    refuse_missing_sinks(config.run)
    refuse_small_images_alone(
        config.model.name,
        input_size_px=config.model.input_size_px,
        step_sizes=(
            size
            for share in _shares(data.train.num_selected, config.loader.batch_size, ranks.world_size)
            for size in part_sizes(share, config.step.accumulate)
        ),
    )
    return config, data


def opened(stack: ExitStack, config: TrainConfig, data: TrainingData, ranks: Ranks, *, load_weights: bool) -> Parts:
    """Return state and loaders; the stack closes the loaders."""
    ranks.refuse_differences(what_ranks_share(config, identities_of(config, data)))
    device = device_of_rank(config.run.device, ranks)
    if device.type == "cuda" and not ranks.is_alone:
        torch.cuda.set_device(device)
    ranks = ranks.for_device(device)
    torch.set_num_threads(config.run.num_threads)
    seed_generators(config.run.seed)

    def loader(selection: Selection, loader_config: LoaderConfig) -> Loader:
        return stack.enter_context(
            open_loader(
                loader_config,
                pack=data.pack,
                sample_index_n=selection.sample_index_n,
                seed=config.run.seed,
                device=device,
                rank=ranks.rank,
                world_size=ranks.world_size,
            )
        )

    with ranks.together():
        state = new_state(
            config,
            num_rows=data.pack.num_samples,
            num_outputs=len(data.space.findings),
            device=device,
            load_weights=load_weights,
            ranks=ranks,
        )
        # Whole shards are compared by the training loader, samples of a tar by the loader that reads them.
        valid_config = replace(config.loader, verify=config.loader.verify and data.pack.format == "tar")
        clean = clean_sample(data, config.lab)
        parts = Parts(
            config=config,
            data=data,
            ranks=ranks,
            state=state,
            train_loader=loader(data.train, config.loader),
            valid_loader=loader(data.valid, valid_config) if data.valid.num_selected else None,
            clean=clean,
            clean_loader=None if clean is None else loader(clean.selection, valid_config),
        )
    if not ranks.is_alone:  # weights are equal on all ranks, what is drawn from here on (dropout) is not
        seed_generators(stream_seed(config.run.seed, ranks.rank))
    return parts


def identities_of(config: TrainConfig, data: TrainingData) -> Identities:
    """Return what a checkpoint of the run belongs to."""
    return data.identities(model=config.model.name, input_size_px=config.model.input_size_px)


def _shares(n: int, batch_size: int, world_size: int) -> Iterator[int]:
    """Yield how many samples of each step a rank has: the larger share and the smaller one, where it has any."""
    for size in step_sizes(n, batch_size=batch_size, world_size=world_size):
        yield from {-(-size // world_size), size // world_size} - {0}

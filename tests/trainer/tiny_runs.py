"""Runs of seconds on the tiny pack, and what it means that two of them have the same bits."""

import multiprocessing
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from pipeline.image_spec import ImageSpec
from pipeline.packing.config import PackConfig
from pipeline.packing.packer import pack_manifest
from tests.factories import make_manifest, make_release
from trainer import launch
from trainer.checkpoint import read_checkpoint
from trainer.events import TIMING_FIELDS, read_events
from trainer.run_folder import RunFolder
from trainer.sections import Values

# The server imports torch once; a training process is forked from it, before any thread was started.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.trainer.tiny_runs", "trainer.launch", "torch._dynamo"])

BCE: Values = {"loss": {"name": "bce"}}
BCE_EMA: Values = {"loss": {"name": "bce"}, "ema": {"enabled": "on"}}
NVUM: Values = {"loss": {"name": "nvum"}}
METHODS = {"bce": BCE, "bce-ema": BCE_EMA, "nvum": NVUM}
"""The three methods that are told apart; nvum with teacher, memory mixup and augmentation, as by default."""


def trained_small(pack: Path, out: Path) -> Path:
    """Train the small network for one epoch with cross-entropy; return the run's folder."""
    settings: Values = {
        "data": {"pack": str(pack)},
        "model": {"name": "small"},
        "loss": {"name": "bce"},
        "run": {"epochs": 1, "num_threads": 1, "device": "cpu"},
    }
    return launch.train(settings, out=out).run


OWN_EVENTS = {"train", "epoch", "end"}
"""Events that tell what was computed; the others tell how the run went."""

OF_THE_PROCESS = {"elapsed_s", "events_num_bytes"}
"""What a checkpoint holds that depends on the clock."""


def settings(pack: Path, *others: Values, **sections: dict[str, Any]) -> Values:
    """Settings of a run of two epochs of four steps; `others` and `sections` go over them in turn."""
    values: Values = {
        "data": {"pack": str(pack)},
        "loader": {"batch_size": 8},
        "model": {"name": "small"},
        "optim": {"lr": 0.01},
        "run": {"epochs": 2, "num_threads": 1, "log_every_steps": 3, "device": "cpu"},
    }
    for other in (*others, sections):
        for section, keys in other.items():
            values[section] = values.get(section, {}) | keys
    return values


def repacked(folder: Path, change: Callable[[pa.Table], pa.Table]) -> Path:
    """Folder of a pack of 32 images whose manifest was changed before they were packed."""
    root, manifest = make_release(folder, num_images=32, size_px=32), make_manifest(folder, num_images=32)
    pq.write_table(change(pq.read_table(manifest)), manifest)
    config = PackConfig(spec=ImageSpec.square(32))
    return pack_manifest(manifest, root=root, out=folder / "pack", config=config).pack.folder


def with_column(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    """The table with other values in one column."""
    return table.set_column(table.column_names.index(name), name, values)


def own_events(run: Path) -> list[dict[str, Any]]:
    """What a run computed, event by event, without the clock."""
    return [
        {name: value for name, value in event.items() if name not in TIMING_FIELDS}
        for event in read_events(run / "events.jsonl")
        if event["event"] in OWN_EVENTS
    ]


def newest_checkpoint(run: Path) -> dict[str, Any]:
    """What the newest checkpoint of a run holds."""
    return read_checkpoint(RunFolder(folder=run).checkpoints.newest_first()[0])


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every tensor and plain value of a nested checkpoint, with where it is."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, f"{name}.{key}")
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from leaves(item, f"{name}.{number}")
    else:
        yield name, value


def different_leaves(one: dict[str, Any], other: dict[str, Any], *, besides: set[str] = OF_THE_PROCESS) -> list[str]:
    """Names of what is not the same to the last bit in two checkpoints."""
    ones, others = (
        dict(leaves({key: value for key, value in content.items() if key not in besides})) for content in (one, other)
    )
    return sorted(ones.keys() ^ others.keys()) + [
        name for name in ones.keys() & others.keys() if not same_bits(ones[name], others[name])
    ]


def same_bits(one: Any, other: Any) -> bool:
    """Whether two leaves are of one type and the same bits."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return (
            one.dtype == other.dtype and one.shape == other.shape and one.numpy().tobytes() == other.numpy().tobytes()
        )
    return type(one) is type(other) and one == other


def assert_same_run(one: Path, other: Path) -> None:
    """Assert that two runs ended in the same bits: the last checkpoint, the best one, every event."""
    folders = [RunFolder(folder=run).checkpoints for run in (one, other)]
    assert folders[0].newest_first()[0].name == folders[1].newest_first()[0].name
    assert different_leaves(newest_checkpoint(one), newest_checkpoint(other)) == []
    assert different_leaves(*(read_checkpoint(folder.best) for folder in folders)) == []
    assert own_events(one) == own_events(other)


@contextmanager
def largest_file(num_bytes: int) -> Iterator[None]:
    """Let no file grow beyond `num_bytes`: writing fails as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def before_step(number: int, act: Callable[[], None], step: Callable[..., Any]) -> Callable[..., Any]:
    """`TrainStep.__call__` that acts before the step after `number` steps, once."""
    done = False

    def call(self: Any, *arguments: Any) -> Any:
        nonlocal done
        if self.state.cursor.step == number and not done:
            done = True
            act()
        return step(self, *arguments)

    return call

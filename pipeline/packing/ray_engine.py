"""`--engine ray`: the same shard function as tasks of a Ray cluster whose machines share a file system.

Ray is imported only here and only when it is asked for. A task that dies with its machine is run again by Ray; whoever
runs it, and how often, its bytes are the same, and a file appears whole or not at all.
"""

import logging
import os
import platform
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pipeline.errors import MissingBackendError, PackError
from pipeline.packing.pixels import PIXEL_RULE
from pipeline.packing.shard import ImagesDone, PackedShard, ShardTask, pack_shard

MAX_RETRIES = 8
"""Times that Ray runs a task again whose machine or process died."""

TASKS_PER_CORE = 2
"""Tasks handed to Ray at a time: enough that no core waits, and those of millions of shards are never in memory."""


def pack_shards_on_ray(
    tasks: Iterable[ShardTask], num_tasks: int, num_workers: int, on_images: Callable[[ImagesDone], None]
) -> Iterator[PackedShard]:
    """Yield each shard when it is done, in any order; `on_images` gets each finished shard as one step of progress.

    The cluster is that of `RAY_ADDRESS` (`auto`: the one that runs on this machine), as large as it is; without it, Ray
    is started here with `num_workers` processes, for as long as this takes.

    Raises:
        MissingBackendError: ray is not installed.
        OSError: a shard could not be written.
        WorkerDiedError: a task died more often than Ray tries, or the cluster is gone.
        PackError: no cluster at `RAY_ADDRESS`, or one of its machines has another version of this package.
    """
    try:
        import ray
        from ray.exceptions import RayError, RayTaskError
    except ImportError as error:
        raise MissingBackendError("--engine ray needs the extra: pip install 'cxr-nvum[ray]'") from error
    from pipeline.packing.workers import WorkerDiedError

    if not num_tasks:
        return
    was_running = ray.is_initialized()
    if not was_running:
        connect(ray, num_workers)
    try:
        remote = ray.remote(num_cpus=1, max_retries=MAX_RETRIES)(pack_one)
        most = TASKS_PER_CORE * max(int(ray.cluster_resources().get("CPU", 1)), 1)
        waiting = iter(tasks)
        running: dict[Any, ShardTask] = {}
        while True:
            while len(running) < most and (task := next(waiting, None)) is not None:
                running[remote.remote(task, PIXEL_RULE)] = task
            if not running:
                return
            done, _ = ray.wait(list(running), num_returns=1)
            for reference in done:
                task = running.pop(reference)
                try:
                    packed = ray.get(reference)
                except RayTaskError as error:
                    raise error.cause from error
                except RayError as error:  # a machine, a process or the cluster itself
                    first_line = str(error).strip().partition("\n")[0]
                    raise WorkerDiedError(f"{task.file.name}: Ray gave it up ({first_line})") from error
                rejected = tuple((image.sample_index, image.reason) for image in packed.rejected)
                on_images(ImagesDone(count=packed.num_samples, rejected=rejected))
                yield packed
    finally:
        if not was_running:
            ray.shutdown()


def connect(ray: Any, num_workers: int) -> None:
    """Connect to the cluster of `RAY_ADDRESS`, or start one on this machine.

    Raises:
        PackError: `RAY_ADDRESS` names a cluster that does not answer.
    """
    options = {"logging_level": logging.WARNING, "log_to_driver": False}
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # what is packed here is nobody's business
        ray.init(address="local", num_cpus=num_workers, include_dashboard=False, **options)
        return
    try:
        ray.init(address=address, **options)
    except ConnectionError as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise PackError(
            f"RAY_ADDRESS={address}: no Ray cluster answers ({reason}); start it, or unset RAY_ADDRESS; a cluster that "
            "asks for a token (Ray's default) wants RAY_AUTH_MODE=token as well"
        ) from error


def pack_one(task: ShardTask, pixel_rule: str) -> PackedShard:
    """Pack one shard on whatever machine this runs.

    Raises:
        PackError: another version of this package is installed here.
    """
    if pixel_rule != PIXEL_RULE:
        raise PackError(
            f"{platform.node()}: makes pixels by rule {PIXEL_RULE}, the others by rule {pixel_rule}; install the same "
            "version of cxr-nvum on all machines"
        )
    return pack_shard(task, lambda rejected: None)

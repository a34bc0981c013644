"""The parallel runner: processes that pack shards, and a parent that notices when one dies.

Plain processes on pipes rather than `concurrent.futures`: its workers would import the command line's main module,
report nothing until a whole shard is done, could not be stopped at Ctrl-C before their shard is, and would wait for
ever for a parent that was killed.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from types import TracebackType

from pipeline.errors import PackError
from pipeline.packing.shard import (
    Failure,
    ImagesDone,
    PackedShard,
    RejectedImage,
    ShardTask,
    WrittenShard,
    finish_shard,
    pack_shard,
)

OnImages = Callable[[ImagesDone], None]
"""Gets progress within shards; what it raises ends the run."""

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""Packing multiplies no matrices: numpy's thread pools would only cost start-up time and memory."""


class WorkerDiedError(PackError):
    """A packing process was killed or crashed; the shards that were finished stay."""


class Worker:
    """One packing process and the parent's end of its pipe."""

    def __init__(self) -> None:
        self.connection, theirs = Pipe()
        module_path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)  # noqa: PTH109 - an entry is a str
        # Ctrl-C reaches the whole process group, but the parent ends its workers itself. A process inherits what is
        # blocked, so not even one that is still importing prints a traceback.
        blocked_before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "pipeline.packing.worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=os.environ | ONE_THREAD | {"PYTHONPATH": module_path},
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked_before)
            theirs.close()

    def death(self) -> str:
        """Say how the process ended, which it has."""
        code = self.process.wait()
        if code >= 0:
            return f"ended with exit code {code}"
        hint = "; out of memory? then take fewer --workers" if code == -signal.SIGKILL else ""
        return f"was killed by {signal.Signals(-code).name}{hint}"

    def stop(self) -> None:
        """End the process now; what it was writing stays a temporary file."""
        self.process.kill()
        self.process.wait()
        self.connection.close()


class WorkerPool:
    """Context manager that holds `num_workers` processes; none outlives it."""

    def __init__(self, num_workers: int) -> None:
        self.num_workers = num_workers
        self.workers: list[Worker] = []

    def __enter__(self) -> "WorkerPool":
        self.workers = [Worker() for _ in range(self.num_workers)]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self.workers:
            worker.stop()

    def pack(self, tasks: Iterable[ShardTask], on_images: OnImages) -> Iterator[PackedShard]:
        """Yield each shard when it is done, in any order; `on_images` gets progress while they work.

        A task is taken from `tasks` when a process is free for it, so that only those at work are in memory.

        Raises:
            WorkerDiedError: a process died.
            OSError: a shard could not be written.
            RuntimeError: a fault of ours, with the traceback of the process.
        """
        waiting = iter(tasks)
        idle = list(self.workers)
        busy: dict[Connection[object, object], tuple[Worker, ShardTask]] = {}

        def keep_busy() -> None:
            while idle and (task := next(waiting, None)) is not None:
                worker = idle.pop()
                busy[worker.connection] = (worker, task)
                send(worker, task)

        keep_busy()
        while busy:
            for connection in wait(list(busy)):
                assert isinstance(connection, Connection)
                worker, task = busy[connection]
                answer = receive(worker, task)
                if isinstance(answer, ImagesDone):
                    on_images(answer)
                else:
                    del busy[connection]
                    idle.append(worker)
                    keep_busy()  # the next shard is decoded while the disk takes this one
                    yield finish_shard(task, answer)


def send(worker: Worker, task: ShardTask) -> None:
    """Give `task` to an idle worker."""
    try:
        worker.connection.send(task)
    except ConnectionError as error:
        raise WorkerDiedError(f"{task.file.name}: the process that was to pack it {worker.death()}") from error


def receive(worker: Worker, task: ShardTask) -> ImagesDone | WrittenShard:
    """Return a worker's next answer: progress, or the shard that it wrote."""
    try:
        answer = worker.connection.recv()
    except (EOFError, ConnectionError) as error:
        raise WorkerDiedError(f"{task.file.name}: the process that packed it {worker.death()}") from error
    if isinstance(answer, Failure):
        if answer.error is not None:
            raise answer.error
        raise RuntimeError(f"{task.file.name}: a packing process failed\n{answer.trace}")
    assert isinstance(answer, ImagesDone | WrittenShard)
    return answer


def pack_shards(
    tasks: Iterable[ShardTask], num_tasks: int, num_workers: int, on_images: OnImages
) -> Generator[PackedShard, None, None]:
    """Yield each shard when it is done: packed in this process where one worker is enough, else by a pool.

    Closing the generator ends the processes.

    Raises:
        WorkerDiedError, OSError, RuntimeError: see `WorkerPool.pack`.
    """
    num_workers = min(num_workers, num_tasks)
    if num_workers <= 1:
        for task in tasks:
            yield pack_shard(task, lambda rejected: on_images(images_done(rejected)))
        return
    with WorkerPool(num_workers) as pool:
        yield from pool.pack(tasks, on_images)


def images_done(rejected: RejectedImage | None) -> ImagesDone:
    """Return the progress of one image."""
    return ImagesDone(count=1, rejected=() if rejected is None else ((rejected.sample_index, rejected.reason),))

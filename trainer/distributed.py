"""The processes of one run: which one this is, and what they say to each other; rank 0 speaks for all.

::

    torchrun --nproc-per-node 2 -m trainer.cli ...

    rank 0   reads the run's folder, writes it, prints        control group: gloo, for words (errors, signals, clocks)
    rank 1   computes its share, says nothing                 data group: NCCL on GPUs, gloo on CPUs, for tensors

One process alone is `ALONE`: everything here then is the identity and no process group exists.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from manifests.errors import ConfigError, UserError
from trainer.quiet_start import connections_left_open, speak
from trainer.rank_endings import SaidByRankZero, ending_in_order

T = TypeVar("T")

TIMEOUT = timedelta(minutes=30)
"""How long a rank waits for the others: longer than the slowest checkpoint, shorter than a night."""


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """One process among those of a run; every method but the properties is called by all of them, in the same order."""

    rank: int = 0
    """This process among all."""

    world_size: int = 1
    """Processes of the run."""

    local_rank: int = 0
    """This process among those of this machine: the number of its GPU."""

    local_world_size: int = 1
    """Processes on this machine, which share its cores."""

    control: dist.ProcessGroup | None = None
    """Group for words."""

    data: dist.ProcessGroup | None = None
    """Group for tensors; see `for_device`."""

    @property
    def is_first(self) -> bool:
        """Tell whether this is rank 0, which reads, writes and prints."""
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        """Tell whether there is only this process."""
        return self.world_size == 1

    @property
    def program(self) -> str:
        """How these processes are started, as one types it."""
        return "cxr-train" if self.is_alone else f"torchrun --nproc-per-node {self.local_world_size} -m trainer.cli"

    def for_device(self, device: torch.device) -> "Ranks":
        """Return these ranks with a data group for tensors of `device`."""
        if self.is_alone:
            return self
        backend = "nccl" if device.type == "cuda" else "gloo"
        return replace(self, data=dist.new_group(backend=backend, timeout=TIMEOUT))

    def gather(self, value: T) -> list[T]:
        """Return every rank's `value`, by rank, on every rank."""
        if self.is_alone:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value, group=self.control)
        return values

    def gather_first(self, value: T) -> list[T]:
        """Return every rank's `value`, by rank, on rank 0; an empty list on the others."""
        if self.is_alone:
            return [value]
        values: list[Any] | None = [None] * self.world_size if self.is_first else None
        dist.gather_object(value, values, dst=0, group=self.control)
        return values or []

    def from_first(self, make: Callable[[], T]) -> T:
        """Return on every rank what `make` returns on rank 0, the only one to call it.

        Raises:
            UserError: `make` raised it; on the other ranks `SaidByRankZero`.
        """
        if self.is_alone:
            return make()
        with self.together():
            values = [make() if self.is_first else None]
        dist.broadcast_object_list(values, src=0, group=self.control)
        return cast("T", values[0])

    @contextmanager
    def together(self) -> Iterator[None]:
        """Go on after the block only where no rank met a user error in it; the block says nothing to other ranks.

        Raises:
            UserError: on rank 0, the first rank's that met one; on the others `SaidByRankZero`.
        """
        if self.is_alone:
            yield
            return
        met: UserError | None = None
        try:
            yield
        except UserError as error:
            met = error
        for rank, message in enumerate(self.gather(None if met is None else str(met))):
            if message is not None:
                own = met if rank == self.rank else None
                raise self.shared(own or UserError(f"rank {rank}: {message}"))

    def shared(self, error: Exception) -> Exception:
        """Return what each rank raises for an error that all of them meet: rank 0 says it once."""
        return error if self.is_first else SaidByRankZero()

    def refuse_differences(self, what: Sequence[tuple[str, object]]) -> None:
        """Refuse to go on where a rank has another value than rank 0 for one of the named things.

        Raises:
            ConfigError: names the first difference, and the rank.
        """
        first, *others = self.gather(list(what))
        for rank, values in enumerate(others, start=1):
            for (name, expected), (_, found) in zip(first, values, strict=True):
                if found != expected:
                    message = (
                        f"rank {rank}: another {name} than rank 0: found {found}, expected {expected}; "
                        "all processes of a run need the same command, settings, pack and versions"
                    )
                    raise self.shared(ConfigError(message))

    def largest(self, *numbers: int) -> tuple[int, ...]:
        """Return the largest of all ranks for each of some numbers, which are on the host."""
        if self.is_alone:
            return numbers
        found = torch.tensor(numbers, dtype=torch.int64)
        dist.all_reduce(found, dist.ReduceOp.MAX, group=self.control)
        return tuple(found.tolist())

    def sum_(self, tensor: torch.Tensor) -> torch.Tensor:
        """Add up a tensor over all ranks, in place; the host does not wait for a GPU."""
        if not self.is_alone:
            dist.all_reduce(tensor, dist.ReduceOp.SUM, group=self.data)
        return tensor

    def all_true(self, flag: torch.Tensor) -> torch.Tensor:
        """Return a bool scalar on the device: whether `flag` holds on every rank; the host does not wait for a GPU."""
        if self.is_alone:
            return flag
        number = flag.to(torch.int32)
        dist.all_reduce(number, dist.ReduceOp.MIN, group=self.data)
        return number.bool()


ALONE = Ranks()
"""A run of one process."""


@contextmanager
def joined_ranks(ranks: Ranks | None = None, *, init_method: str = "env://") -> Iterator[Ranks]:
    """Join the processes that torchrun started and yield this one's place; `ALONE` where it did not.

    Ranks other than 0 say nothing meanwhile, unless a fault is theirs alone.

    Args:
        ranks: who this is; by default as the environment says.
        init_method: where the ranks meet, in torch's notation.

    Raises:
        ConfigError: the environment says that there are several, but not how to meet them.
    """
    ranks = ranks or launched_ranks(os.environ)
    speak()
    if ranks.is_alone:
        yield ranks
        return
    with ending_in_order(ranks.rank):
        store, rank, world_size = next(rendezvous(init_method, ranks.rank, ranks.world_size, timeout=TIMEOUT))
        # torchrun that starts a run again (--max-restarts) may keep its store, with addresses of those who are gone.
        attempt = f"start {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
        store = dist.PrefixStore(attempt, store)  # type: ignore[attr-defined]
        dist.init_process_group("gloo", store=store, rank=rank, world_size=world_size, timeout=TIMEOUT)
        try:
            yield replace(ranks, control=dist.group.WORLD)
        except BaseException:
            connections_left_open.set()
            raise
        dist.destroy_process_group()


def launched_ranks(environment: Mapping[str, str]) -> Ranks:
    """Return the place that torchrun's variables give this process; groups come with `joined_ranks`.

    Raises:
        ConfigError: variables that are missing or make no sense.
    """
    repair = "start several processes by `torchrun --nproc-per-node N -m trainer.cli`, one process by `cxr-train`"
    if environment.get("WORLD_SIZE", "1") == "1":
        return ALONE
    missing = [name for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if not environment.get(name)]
    if missing:
        raise ConfigError(f"WORLD_SIZE={environment['WORLD_SIZE']}, but {', '.join(missing)} not set; {repair}")
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    try:
        rank, world_size, local_rank, local_world_size = (int(environment.get(name) or 1) for name in names)
    except ValueError as error:
        raise ConfigError(f"{', '.join(names)}: expected whole numbers ({error}); {repair}") from error
    if not 0 <= rank < world_size:
        raise ConfigError(f"RANK={rank}, WORLD_SIZE={world_size}: expected 0 <= RANK < WORLD_SIZE; {repair}")
    return Ranks(rank=rank, world_size=world_size, local_rank=local_rank, local_world_size=local_world_size)

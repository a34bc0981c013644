"""What a profile measured, rank by rank, as plain values that JSON can hold: verdict and prediction follow from these.

::

    Measurements
      subject       what was profiled
      environment   where
      ranks[r]      stages: each by itself       epoch: steps as they run       synthetic: steps on a constant batch
"""

import dataclasses
import types
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from trainer.profile.environment import Environment

SCHEMA = "cxr-profile/1"

StageName = Literal["disk", "page cache", "decode", "gather", "host to device", "normalise", "augment", "loader"]
PartName = Literal[
    "data wait", "augment", "forward", "teacher", "backward", "loss + memory", "optimiser + EMA", "all-reduce", "idle",
    "other",
]  # fmt: skip

PARTS: tuple[PartName, ...] = get_args(PartName)
"""Parts of a step in the order in which they come; `idle` is told apart from `all-reduce` by looking at all ranks."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage that ran by itself on one rank."""

    num_images: int
    """Images that went through it."""

    wall_s: float
    """Seconds that they took together."""

    core_s: float
    """Seconds of processor cores, all threads of the process together; 0 where nobody measured them."""

    num_bytes: int = 0
    """Bytes read or copied; 0 where they say nothing."""

    note: str = ""
    """What a reader of the number must know."""

    @property
    def image_s(self) -> float:
        """Seconds an image."""
        return self.wall_s / self.num_images

    @property
    def image_core_s(self) -> float:
        """Core seconds an image."""
        return self.core_s / self.num_images

    @property
    def images_per_s(self) -> float:
        """Images a second."""
        return self.num_images / self.wall_s


@dataclass(frozen=True, kw_only=True)
class Span:
    """A stretch of a step that one part took."""

    part: PartName
    """Which part."""

    begin_s: float
    """Since the first step that was measured began."""

    end_s: float
    """Where the next span begins."""

    core_s: float = 0.0
    """Seconds of cores meanwhile; 0 on a GPU's timeline."""

    @property
    def wall_s(self) -> float:
        """Seconds that it took."""
        return self.end_s - self.begin_s


@dataclass(frozen=True, kw_only=True)
class StepTimes:
    """One step of one rank: spans without gaps from asking for the batch to asking for the next."""

    num_images: int
    """Of this rank."""

    spans: tuple[Span, ...]
    """In the order of time; a part may come several times."""

    is_first: bool = False
    """Whether it is the first of an epoch, whose batch nobody could read ahead."""

    @property
    def wall_s(self) -> float:
        """Seconds that it took."""
        return self.spans[-1].end_s - self.spans[0].begin_s


@dataclass(frozen=True, kw_only=True)
class RankMeasurements:
    """What one process measured; all of them measured at the same time."""

    rank: int
    """Which one."""

    host: str
    """Name of its machine."""

    num_cores: float
    """Its share of the cores that its machine lets the run use."""

    stages: dict[StageName, Stage]
    """Those that exist for this loader and device."""

    epoch: tuple[StepTimes, ...]
    """Steps as they run, after the first ones, which warm up."""

    synthetic: tuple[StepTimes, ...]
    """The same steps on a constant batch that is there already."""

    first_batch_s: float
    """What the first batch of an epoch was waited for."""

    device_busy: float | None = None
    """Share of the time in which a GPU computed or copied, as torch's profiler sees it; None on a CPU."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What was profiled: two profiles can be compared where these agree."""

    loader: str
    """Backend."""

    pack_format: str
    """`raw`, `tar` or `beton`."""

    pack_size_px: int
    """Side of the packed images."""

    input_size_px: int
    """Side of the images that the network sees."""

    batch_size: int
    """Images a step and rank."""

    loader_threads: int
    """Threads that read."""

    torch_threads: int
    """Threads that compute on a CPU."""

    model: str
    """Network."""

    loss: str
    """Method."""

    teacher: bool
    """Whether a teacher follows."""

    precision: str
    """Number format of the forward passes."""

    device: str
    """`cpu` or `cuda`."""

    world_size: int
    """Processes."""

    augmented: bool
    """Whether images are augmented."""


@dataclass(frozen=True, kw_only=True)
class Measurements:
    """A whole profile before anybody judges it."""

    subject: Subject
    """What was profiled."""

    environment: Environment
    """Where, with what."""

    ranks: tuple[RankMeasurements, ...]
    """By rank."""

    num_train: int
    """Images of an epoch."""

    epochs: int
    """Of the run."""

    num_params: int
    """Of the network: what is reduced over ranks, four bytes each."""

    train_bytes: int
    """What an epoch reads."""

    free_bytes: int
    """Memory of the host that a page cache may take."""

    program: str = "cxr-train"
    """How the run is started."""

    slower_path: str | None = None
    """What `pipeline.prepare` says where images are prepared in a slower way than they could be."""


def as_values(measurements: Measurements) -> dict[str, Any]:
    """Return measurements as JSON holds them."""
    return asdict(measurements)


def from_values(values: Mapping[str, Any]) -> Measurements:
    """Return the measurements that `as_values` turned into plain values.

    Raises:
        KeyError, TypeError, ValueError: they are others.
    """
    found = _built(Measurements, values)
    if not found.ranks or not all(rank.epoch and rank.synthetic for rank in found.ranks):
        raise ValueError("no steps in it")
    return found


def _built(kind: type[T], values: Mapping[str, Any]) -> T:
    if not isinstance(values, Mapping):
        raise TypeError(f"{values!r} is no {kind.__name__}")
    hints = get_type_hints(kind)
    unknown = values.keys() - hints.keys()
    if unknown:
        raise KeyError(f"{kind.__name__}: {', '.join(sorted(unknown))}")
    return kind(**{name: _value(hints[name], value) for name, value in values.items()})


def _value(expected: Any, value: Any) -> Any:
    origin, arguments = get_origin(expected), get_args(expected)
    if dataclasses.is_dataclass(expected) and isinstance(expected, type):
        return _built(expected, value)
    if origin in (tuple, dict) and not isinstance(value, list if origin is tuple else dict):
        raise TypeError(f"{value!r} is no {origin.__name__}")
    if origin is tuple:
        return tuple(_value(arguments[0], item) for item in value)
    if origin is dict:
        return {key: _value(arguments[1], item) for key, item in value.items()}
    if origin in (Literal, types.UnionType):
        return value
    if not isinstance(value, (int, float) if expected is float else expected):
        raise TypeError(f"{value!r} is no {expected.__name__}")
    return value

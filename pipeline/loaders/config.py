"""What a user can say about loading."""

from dataclasses import dataclass
from typing import Literal, get_args

from manifests.errors import ConfigError

OnCorrupt = Literal["error", "skip"]


@dataclass(frozen=True, kw_only=True)
class LoaderConfig:
    """How batches are read; never what is in them: the order and the pixels are the same for every setting."""

    backend: str = "raw"
    """Name of the backend, a key of `pipeline.loaders.BACKENDS`; checked when the loader is opened."""

    batch_size: int = 16
    """Samples a step on one rank; the tail of an epoch may be smaller (see `pipeline.order`)."""

    num_threads: int = 2
    """Threads that read in the background; backends without threads ignore it."""

    prefetch: int = 4
    """Batches that are read ahead of the consumer, at least; small batches are read some at a time."""

    verify: bool = True
    """Compare checksums once: of raw and beton shards in the background of the first epoch, where one that differs ends
    the run; of each sample of a tar when it is read for the first time, where `on_corrupt` decides."""

    on_corrupt: OnCorrupt = "error"
    """What a sample of a tar pack does that is damaged or cannot be decoded: end the run (`error`), or become black
    pixels under the index -1, which counts nowhere (`skip`)."""

    def __post_init__(self) -> None:
        """Refuse impossible values.

        Raises:
            ConfigError: naming the option, what was found and what was expected.
        """
        for name in ("batch_size", "num_threads", "prefetch"):
            value = getattr(self, name)
            if value < 1:
                raise ConfigError(f"loader: {name} = {value}, expected at least 1")
        if self.on_corrupt not in get_args(OnCorrupt):
            raise ConfigError(f"loader: on_corrupt = {self.on_corrupt!r}, expected {' or '.join(get_args(OnCorrupt))}")

    @property
    def caution(self) -> str | None:
        """What must be said to a person before numbers are believed; None for backends that read pixels."""
        if self.backend != "synthetic":
            return None
        return "--loader synthetic reads no pixel: speeds are real, losses and AUROCs mean nothing"

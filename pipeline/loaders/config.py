"""What a user can say about loading."""

from dataclasses import dataclass

from manifests.errors import ConfigError


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

    def __post_init__(self) -> None:
        """Refuse impossible values.

        Raises:
            ConfigError: naming the option, what was found and what was expected.
        """
        for name in ("batch_size", "num_threads", "prefetch"):
            value = getattr(self, name)
            if value < 1:
                raise ConfigError(f"loader: {name} = {value}, expected at least 1")

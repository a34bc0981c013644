"""The backends by name, and the door to them."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import cast

import numpy as np
import numpy.typing as npt
import torch

from manifests.errors import ConfigError
from pipeline.errors import MissingBackendError, PackError
from pipeline.loaders.config import LoaderConfig
from pipeline.loaders.contract import Feed, Loader
from pipeline.pack import Pack


@dataclass(frozen=True, kw_only=True)
class Backend:
    """One way to read a pack."""

    target: str
    """``module:callable`` that makes the loader of a `Feed`, imported when it is chosen."""

    formats: tuple[str, ...]
    """Formats of a pack that it reads, the best first."""

    summary: str
    """What it is for, in one line."""

    package: str | None = None
    """What it needs beside torch, numpy and pyarrow: the module's name."""

    extras: tuple[str, ...] = ()
    """Extras of this project that bring it."""


BACKENDS: dict[str, Backend] = {
    "raw": Backend(
        target="pipeline.loaders.raw:RawLoader",
        formats=("raw",),
        summary="memory map of uint8 shards, gathered by threads: packs larger than memory, any machine",
    ),
    "resident": Backend(
        target="pipeline.loaders.resident:open_resident",
        formats=("raw", "beton"),
        summary="all images of the selection in the memory of the GPU (or of the host): the fastest where they fit",
    ),
    "dali": Backend(
        target="pipeline.loaders.dali:DaliLoader",
        formats=("tar",),
        summary="JPEG or PNG decoded by NVIDIA DALI, on the GPU where there is one: the smallest packs",
        package="nvidia.dali",
        extras=("dali-cuda12", "dali-cuda13"),
    ),
    "ffcv": Backend(
        target="pipeline.loaders.ffcv:FFCVLoader",
        formats=("beton",),
        summary="FFCV's reader over one beton file, which other FFCV code reads too",
        package="ffcv",
        extras=("ffcv",),
    ),
    "reference": Backend(
        target="pipeline.loaders.reference:ReferenceLoader",
        formats=("raw", "tar", "beton"),
        summary="one sample after the other, slow and obviously right: the oracle of the others",
    ),
    "synthetic": Backend(
        target="pipeline.loaders.synthetic:SyntheticLoader",
        formats=("raw", "tar", "beton"),
        summary="a constant batch under the right indices: what training could reach if reading cost nothing",
    ),
}
"""Name -> backend, for `LoaderConfig.backend`."""


def backend_named(name: str) -> Backend:
    """Return a backend.

    Raises:
        ConfigError: no backend bears that name.
    """
    if name not in BACKENDS:
        guesses = difflib.get_close_matches(name, BACKENDS, n=1)
        hint = f"did you mean {guesses[0]!r}? " if guesses else ""
        raise ConfigError(f"loader: backend = {name!r} is unknown; {hint}expected one of: {', '.join(BACKENDS)}")
    return BACKENDS[name]


def open_loader(
    config: LoaderConfig,
    *,
    pack: Pack,
    sample_index_n: npt.NDArray[np.int64],
    seed: int,
    device: torch.device | str = "cpu",
    rank: int = 0,
    world_size: int = 1,
) -> Loader:
    """Return the loader that `config` names, over the rows `sample_index_n` (int64 [n], distinct) of `pack`.

    Close it when done, or use it as a context manager.

    Raises:
        ConfigError: an unknown backend, an empty selection, an impossible rank, images that do not fit into memory.
        MissingBackendError: a backend whose package is not installed.
        PackError: a pack of another format, damaged, or of another length than the selection was made for.
    """
    backend = backend_named(config.backend)
    if pack.format not in backend.formats:
        readable = ", ".join(backend.formats)
        readers = " or ".join(f"--loader {name}" for name, other in BACKENDS.items() if pack.format in other.formats)
        raise PackError(
            f"{pack.folder}: a pack of format {pack.format!r}, which the loader {config.backend!r} does not read "
            f"(it reads {readable}); run `cxr-prep pack --format {backend.formats[0]}`, or choose {readers}"
        )
    if not 0 <= rank < world_size:
        raise ConfigError(f"loader: rank {rank} of world_size {world_size}, expected 0 <= rank < world_size")
    device = torch.device(device)
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"loader: device = {str(device)!r}, expected cpu or cuda")
    feed = Feed(
        config=config,
        pack=pack,
        sample_index_n=_checked(sample_index_n, pack),
        seed=seed,
        device=device,
        rank=rank,
        world_size=world_size,
    )
    return _imported(config.backend)(feed)


def _imported(name: str) -> Callable[[Feed], Loader]:
    backend = BACKENDS[name]
    module, _, attribute = backend.target.partition(":")
    try:
        imported = import_module(module)
    except ImportError as error:
        if backend.package is None:
            raise
        extras = " or ".join(f"`pip install '.[{extra}]'`" for extra in backend.extras)
        raise MissingBackendError(
            f"loader: backend = {name!r} needs {backend.package}, which is not installed or does not load ({error}); "
            f"run {extras} in this project's folder, or choose another --loader"
        ) from error
    return cast("Callable[[Feed], Loader]", getattr(imported, attribute))


def _checked(sample_index_n: npt.NDArray[np.int64], pack: Pack) -> npt.NDArray[np.int64]:
    index_n = np.array(sample_index_n, dtype=np.int64)  # a copy: nobody changes it under a running epoch
    if index_n.ndim != 1 or index_n.size == 0:
        raise ConfigError(f"loader: the selection is empty (sample_index_n has the shape {index_n.shape})")
    if index_n.min() < 0 or index_n.max() >= pack.num_samples:
        raise PackError(
            f"{pack.folder}: holds the samples 0..{pack.num_samples - 1}, the selection asks for "
            f"{index_n.min()}..{index_n.max()}: it was made from another manifest; select from this pack's own"
        )
    if np.unique(index_n).size != index_n.size:
        raise ConfigError("loader: a sample_index occurs twice in the selection, expected each once")
    return index_n

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

    target: str | None
    """``module:class`` of the loader, imported when it is chosen; None for a name that a later version will fill."""

    formats: tuple[str, ...]
    """Formats of a pack that it reads, the best first."""

    summary: str
    """What it is for, in one line."""


BACKENDS: dict[str, Backend] = {
    "raw": Backend(
        target="pipeline.loaders.raw:RawLoader",
        formats=("raw",),
        summary="memory map of uint8 shards, gathered by threads: the fastest on a CPU",
    ),
    "reference": Backend(
        target="pipeline.loaders.reference:ReferenceLoader",
        formats=("raw",),
        summary="one sample after the other, slow and obviously right: the oracle of the others",
    ),
    "synthetic": Backend(
        target="pipeline.loaders.synthetic:SyntheticLoader",
        formats=("raw", "tar", "beton"),
        summary="a constant batch under the right indices: what training could reach if reading cost nothing",
    ),
    "dali": Backend(target=None, formats=("tar",), summary="JPEG decode on the GPU through NVIDIA DALI"),
    "ffcv": Backend(target=None, formats=("beton",), summary="FFCV's reader over one beton file"),
    "resident": Backend(target=None, formats=("raw",), summary="the whole pack in the memory of the GPU"),
}
"""Name -> backend, for `LoaderConfig.backend`."""


def backend_named(name: str) -> Backend:
    """Return a backend that this version has.

    Raises:
        ConfigError: no backend bears that name.
        MissingBackendError: the name is reserved, and this version has nothing behind it.
    """
    working = [known for known, backend in BACKENDS.items() if backend.target is not None]
    if name not in BACKENDS:
        guesses = difflib.get_close_matches(name, BACKENDS, n=1)
        hint = f"did you mean {guesses[0]!r}? " if guesses else ""
        raise ConfigError(f"loader: backend = {name!r} is unknown; {hint}expected one of: {', '.join(working)}")
    if BACKENDS[name].target is None:
        raise MissingBackendError(
            f"loader: backend = {name!r} is not in this version yet; these are: {', '.join(working)} "
            f"(`--loader raw` reads packs of `cxr-prep pack --format raw`)"
        )
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
        ConfigError: an unknown backend, an empty selection, an impossible rank.
        MissingBackendError: a backend that this version lacks.
        PackError: a pack of another format, damaged, or of another length than the selection was made for.
    """
    backend = backend_named(config.backend)
    if pack.format not in backend.formats:
        readable = ", ".join(backend.formats)
        raise PackError(
            f"{pack.folder}: a pack of format {pack.format!r}, which the loader {config.backend!r} does not read "
            f"(it reads {readable}); run `cxr-prep pack --format {backend.formats[0]}`, or choose another --loader"
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
    assert backend.target is not None
    module, name = backend.target.split(":")
    loader_class = cast("Callable[[Feed], Loader]", getattr(import_module(module), name))
    return loader_class(feed)


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

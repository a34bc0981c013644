"""Every backend with every format that it reads, and packs of all formats for them: what tests of loaders run over."""

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from pipeline.encoding import Encoding
from pipeline.loaders import BACKENDS, Loader, LoaderConfig, open_loader
from pipeline.pack import Pack
from pipeline.pack_format import PackFormat
from tests.pack_writer import FORMATS, write_pack

Packs = dict[PackFormat, Pack]


LOSSLESS: dict[PackFormat, Encoding] = {"tar": Encoding(image="png")}
"""How a format keeps every pixel, where it does not anyway."""


class Case(NamedTuple):
    """A backend and the format of the pack that it is to read."""

    backend: str
    pack_format: PackFormat


CASES = [
    Case(name, pack_format)
    for name, known in BACKENDS.items()
    for pack_format in FORMATS
    if pack_format in known.formats
]
CASES_WITH_PIXELS = [case for case in CASES if case.backend != "synthetic"]


def over(cases: Collection[Case]) -> pytest.MarkDecorator:
    """Return the mark of a test that runs once for each case, as its argument `case`."""
    return pytest.mark.parametrize("case", cases, ids=["-".join(case) for case in cases])


def write_packs(
    folder: Path, images_NHW: npt.NDArray[np.uint8], *, rows_per_shard: int, rejected: Collection[int] = ()
) -> Packs:
    """Write the same images as packs of all formats, without loss; a beton is one file."""
    return {
        pack_format: write_pack(
            folder / pack_format,
            images_NHW,
            pack_format=pack_format,
            encoding=LOSSLESS.get(pack_format),
            rows_per_shard=rows_per_shard,
            rejected=rejected,
        )
        for pack_format in FORMATS
    }


def opened(
    packs: Packs,
    case: Case,
    sample_index_n: npt.NDArray[np.int64] | None = None,
    *,
    batch_size: int = 4,
    rank: int = 0,
    world_size: int = 1,
    num_threads: int = 2,
    seed: int = 11,
    device: str = "cpu",
    **options: object,
) -> Loader:
    """Return the loader of a case over some rows of its pack, all by default; `options`: fields of `LoaderConfig`."""
    pack = packs[case.pack_format]
    config = LoaderConfig(
        backend=case.backend,
        batch_size=batch_size,
        num_threads=num_threads,
        prefetch=3,
        **options,  # type: ignore[arg-type]
    )
    return open_loader(
        config,
        pack=pack,
        sample_index_n=np.arange(pack.num_samples) if sample_index_n is None else sample_index_n,
        seed=seed,
        device=device,
        rank=rank,
        world_size=world_size,
    )

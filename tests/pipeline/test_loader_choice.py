"""What is refused before anything is read, and what an import brings in."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from manifests.errors import ConfigError
from pipeline.errors import MissingBackendError, PackError
from pipeline.loaders import BACKENDS, LoaderConfig, backend_named, open_loader
from pipeline.pack import Pack
from pipeline.pack_format import PackFormat
from tests.loader_cases import CASES
from tests.raw_pack import numbered_images, write_raw_pack


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    return write_raw_pack(tmp_path, numbered_images(10, 4), rows_per_shard=4)


@pytest.mark.parametrize("option", ["batch_size", "num_threads", "prefetch"])
def test_impossible_values_are_refused_by_name(option: str) -> None:
    with pytest.raises(ConfigError, match=f"loader: {option} = 0, expected at least 1"):
        LoaderConfig(**{option: 0})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="loader: on_corrupt = 'ignore', expected error or skip"):
        LoaderConfig(on_corrupt="ignore")  # type: ignore[arg-type]


def test_an_unknown_backend_is_answered_with_a_guess() -> None:
    with pytest.raises(ConfigError, match="backend = 'refrence' is unknown; did you mean 'reference'"):
        backend_named("refrence")
    with pytest.raises(
        ConfigError, match=r"'x' is unknown; expected one of: raw, resident, dali, ffcv, reference, synthetic$"
    ):
        backend_named("x")


@pytest.mark.parametrize(
    ("backend", "extras"), [("dali", r"'\.\[dali-cuda12\]'` or `.*'\.\[dali-cuda13\]'"), ("ffcv", r"'\.\[ffcv\]'")]
)
def test_a_backend_that_is_not_installed_names_its_extra(
    backend: str, extras: str, pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = BACKENDS[backend].package
    assert package is not None
    for module in [name for name in sys.modules if name.startswith(("pipeline.loaders.dali", "pipeline.loaders.ffcv"))]:
        monkeypatch.delitem(sys.modules, module)
    for module in [name for name in sys.modules if name.partition(".")[0] == package.partition(".")[0]] + [package]:
        monkeypatch.setitem(sys.modules, module, None)  # importing it fails as if it were not there
    other = replace(pack, format=next(case.pack_format for case in CASES if case.backend == backend))
    with pytest.raises(MissingBackendError, match=f"backend = '{backend}' needs {package}.*{extras}"):
        open_loader(LoaderConfig(backend=backend), pack=other, sample_index_n=np.arange(10), seed=0)


@pytest.mark.parametrize(
    ("backend", "pack_format", "repair"),
    [
        ("raw", "tar", r"cxr-prep pack --format raw.*--loader dali or --loader reference or --loader synthetic"),
        ("raw", "beton", r"cxr-prep pack --format raw.*--loader resident or --loader ffcv"),
        ("resident", "tar", r"cxr-prep pack --format raw.*--loader dali"),
        ("dali", "raw", r"cxr-prep pack --format tar.*--loader raw or --loader resident"),
        ("ffcv", "raw", r"cxr-prep pack --format beton.*--loader raw"),
    ],
)
def test_a_pack_of_another_format_is_refused_with_the_command_to_run(
    backend: str, pack_format: PackFormat, repair: str, pack: Pack
) -> None:
    other = replace(pack, format=pack_format)
    with pytest.raises(PackError, match=rf"format '{pack_format}', which the loader '{backend}' does not.*{repair}"):
        open_loader(LoaderConfig(backend=backend), pack=other, sample_index_n=np.arange(10), seed=0)


def test_a_selection_of_another_manifest_is_refused(pack: Pack) -> None:
    for wrong in (np.arange(11), np.array([-1, 3])):
        with pytest.raises(PackError, match=r"holds the samples 0\.\.9, the selection asks for"):
            open_loader(LoaderConfig(), pack=pack, sample_index_n=wrong, seed=0)


def test_a_selection_that_is_empty_or_repeats_is_refused(pack: Pack) -> None:
    with pytest.raises(ConfigError, match="the selection is empty"):
        open_loader(LoaderConfig(), pack=pack, sample_index_n=np.empty(0, np.int64), seed=0)
    with pytest.raises(ConfigError, match="occurs twice"):
        open_loader(LoaderConfig(), pack=pack, sample_index_n=np.array([1, 2, 1]), seed=0)


def test_an_impossible_rank_device_or_cursor_is_refused(pack: Pack) -> None:
    with pytest.raises(ConfigError, match="rank 2 of world_size 2"):
        open_loader(LoaderConfig(), pack=pack, sample_index_n=np.arange(10), seed=0, rank=2, world_size=2)
    with pytest.raises(ConfigError, match="device = 'mps', expected cpu or cuda"):
        open_loader(LoaderConfig(), pack=pack, sample_index_n=np.arange(10), seed=0, device="mps")
    with (
        open_loader(LoaderConfig(), pack=pack, sample_index_n=np.arange(10), seed=0) as loader,
        pytest.raises(ConfigError, match="start = 11"),
    ):
        loader.train_batches(0, 11)


def test_every_backend_says_what_it_reads() -> None:
    for name, backend in BACKENDS.items():
        assert backend.formats, name
        assert backend.summary, name


def test_importing_the_loaders_brings_in_no_packing_code(pack: Pack) -> None:
    """A GPU machine has torch, numpy and pyarrow, nothing else."""
    program = f"""
import sys
import numpy as np
import pipeline.loaders
from pipeline.loaders import LoaderConfig, open_loader
from pipeline.encoding import Encoding
from pipeline.image_spec import ImageSpec
from pipeline.pack import Pack, Shard
import pipeline.augment, pipeline.prepare, pipeline.order
from pathlib import Path
pack = {pack!r}
with open_loader(LoaderConfig(backend="raw"), pack=pack, sample_index_n=np.arange(10), seed=0) as loader:
    assert sum(len(step.batch.sample_index_B) for step in loader.train_batches(0)) == 10
unwanted = ("polars", "PIL", "typer", "rich", "sklearn", "matplotlib", "ffcv", "numba", "nvidia.dali")
unwanted = [name for name in unwanted if name in sys.modules]
unwanted += [name for name in sys.modules if name.startswith("pipeline.packing")]
assert not unwanted, unwanted
"""
    program = program.replace("PosixPath(", "Path(")
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120, cwd=Path(__file__).parents[2])

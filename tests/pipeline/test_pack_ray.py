"""`--engine ray` on a real Ray of this machine: same bytes, also when its processes are killed."""

import os
import signal
import sys
from pathlib import Path

import pytest

from pipeline.errors import MissingBackendError, PackError
from pipeline.image_spec import ImageSpec
from pipeline.packing.config import PackConfig
from pipeline.packing.outcome import PackSummary
from pipeline.packing.packer import pack_manifest
from tests.factories import image_names, make_manifest, make_release

NUM_IMAGES = 640
"""Ten shards."""


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ray")
    make_manifest(folder, num_images=NUM_IMAGES)
    root = make_release(folder, num_images=NUM_IMAGES, size_px=48)
    (root / "images" / image_names(NUM_IMAGES)[70]).write_bytes(b"no film")
    return root


def packed(release: Path, out: Path, on_progress: object = lambda done, total: None, **options: object) -> PackSummary:
    config = PackConfig(spec=ImageSpec.square(32), **options)  # type: ignore[arg-type]
    return pack_manifest(
        release.parent / "nih.parquet",
        root=release,
        out=out,
        config=config,
        on_progress=on_progress,  # type: ignore[arg-type]
    )


def packing_processes() -> list[int]:
    """Processes of Ray that pack a shard at this moment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes()
            parents = (process / "environ").read_bytes()
        except OSError:
            continue
        if words.startswith(b"ray::pack_one") and f"CXR_TEST_RUN={os.getpid()}".encode() in parents:
            found.append(int(process.name))
    return found


def test_ray_packs_the_same_bytes_and_its_dead_tasks_are_run_again(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("CXR_TEST_RUN", str(os.getpid()))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    done: list[int] = []
    killed: list[int] = []

    def kill_once(count: int, total: int) -> None:
        done.append(count)
        for process in [] if killed else packing_processes():
            os.kill(process, signal.SIGKILL)
            killed.append(process)

    summary = packed(release, tmp_path / "ray", kill_once, engine="ray", num_workers=2)
    packed(release, tmp_path / "local")
    assert killed
    assert summary.rejected_by_reason == {"not_an_image": 1}
    assert done == sorted(done)
    assert done[-1] == NUM_IMAGES
    for path in (tmp_path / "local").iterdir():
        assert (tmp_path / "ray" / path.name).read_bytes() == path.read_bytes()
    assert not list(tmp_path.glob("*.partial"))


def test_a_cluster_that_does_not_answer_is_said(release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.init", lambda **options: (_ for _ in ()).throw(ConnectionError))
    monkeypatch.setenv("RAY_ADDRESS", "192.0.2.1:6379")
    with pytest.raises(PackError, match=r"RAY_ADDRESS=192\.0\.2\.1:6379: no Ray cluster answers"):
        packed(release, tmp_path / "pack", engine="ray")


def test_without_ray_the_extra_is_named(release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingBackendError, match=r"--engine ray needs the extra: pip install 'cxr-nvum\[ray\]'"):
        packed(release, tmp_path / "pack", engine="ray")

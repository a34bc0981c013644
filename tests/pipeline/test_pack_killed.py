"""A packing process that is killed: its workers leave, and going on gives the bytes of an undisturbed pack."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.image_spec import ImageSpec
from pipeline.pack_format import PackFormat
from pipeline.packing import shard_cut
from pipeline.packing.formats import FORMATS
from pipeline.packing.pixels import DecodedImage, read_image
from tests.factories import make_manifest, make_release
from tests.pipeline.small_packs import SIZE_PX, contents, pack_into

KILLS_ITSELF = """
import os, signal, sys
from pathlib import Path
from pipeline.packing import shard_cut
from pipeline.image_spec import ImageSpec
from pipeline.packing.config import PackConfig
from pipeline.packing.packer import pack_manifest
shard_cut.MIN_SHARD_SAMPLES = 4
def on_progress(done, total):
    print(Path(f"/proc/self/task/{os.getpid()}/children").read_text(), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
root, out = map(Path, sys.argv[1:])
config = PackConfig(spec=ImageSpec.square(6), num_workers=2)
pack_manifest(root.parent / "nih.parquet", root=root, out=out, config=config, on_progress=on_progress)
"""


KILLED_HALFWAY = """
import os, signal, sys
from pathlib import Path
from pipeline.packing import shard_cut
from pipeline.image_spec import ImageSpec
from pipeline.packing.config import PackConfig
from pipeline.packing.packer import pack_manifest
shard_cut.MIN_SHARD_SAMPLES = 4
def on_progress(done, total):
    if done >= 30:
        print(done, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
root, out = map(Path, sys.argv[1:3])
config = PackConfig(format=sys.argv[3], spec=ImageSpec.square(6), num_workers=2)
pack_manifest(root.parent / "nih.parquet", root=root, out=out, config=config, on_progress=on_progress)
"""


@pytest.mark.parametrize("pack_format", sorted(FORMATS))
def test_resume_redoes_at_most_one_shard_a_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack_format: PackFormat
) -> None:
    monkeypatch.setattr(shard_cut, "MIN_SHARD_SAMPLES", 4)
    make_manifest(tmp_path, num_images=60)
    root = make_release(tmp_path, num_images=60, size_px=SIZE_PX)
    command = [sys.executable, "-c", KILLED_HALFWAY, str(root), str(tmp_path / "pack"), pack_format]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert process.returncode == -signal.SIGKILL, process.stderr
    num_done = int(process.stdout)
    decoded: list[Path] = []

    def counted(path: Path, spec: ImageSpec) -> DecodedImage:
        decoded.append(path)
        return read_image(path, spec)

    monkeypatch.setattr("pipeline.packing.shard.read_image", counted)
    pack_into(tmp_path / "pack", root, format=pack_format, resume=True)
    assert len(decoded) <= 60 - num_done + 2 * 4
    pack_into(tmp_path / "undisturbed", root, format=pack_format)
    assert contents(tmp_path / "pack") == contents(tmp_path / "undisturbed")


def test_workers_leave_when_their_parent_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_cut, "MIN_SHARD_SAMPLES", 4)
    make_manifest(tmp_path, num_images=12)
    release = make_release(tmp_path, num_images=12, size_px=SIZE_PX)
    command = [sys.executable, "-c", KILLS_ITSELF, str(release), str(tmp_path / "pack")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert process.returncode == -signal.SIGKILL, process.stderr
    workers = [Path("/proc") / pid for pid in process.stdout.split()]
    assert len(workers) == 2
    for _ in range(600):
        if not any(is_running(worker) for worker in workers):
            break
        time.sleep(0.05)
    assert not any(is_running(worker) for worker in workers)

    pack_into(tmp_path / "pack", release, resume=True)
    pack_into(tmp_path / "undisturbed", release)
    assert contents(tmp_path / "pack") == contents(tmp_path / "undisturbed")


def is_running(process: Path) -> bool:
    """Tell whether a process of /proc is there and no zombie that nobody has waited for."""
    try:
        return "\nState:\tZ" not in (process / "status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False

"""Packing in any format is interrupted at every single write, the joining of a beton included, by a full disk, by
Ctrl-C and by SIGKILL: nothing half is left under a final name, and `--resume` gives the bytes of an undisturbed pack.
"""

import errno
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import pytest

from pipeline.encoding import Encoding
from pipeline.errors import PackError
from pipeline.image_spec import ImageSpec
from pipeline.pack_format import PackFormat
from pipeline.packing import shard_cut
from pipeline.packing.config import PackConfig
from pipeline.packing.formats import FORMATS
from pipeline.packing.outcome import PackSummary
from pipeline.packing.packer import pack_manifest
from pipeline.packing.partial import PartialPack
from pipeline.packing.pixels import DecodedImage, read_image
from pipeline.packing.shard import ShardTask
from pipeline.packing.workers import Worker, pack_shards
from tests.factories import image_names, make_manifest, make_release

NUM_IMAGES = 5
SAMPLES_PER_SHARD = 2
SIZE_PX = 4


class Faults:
    """Counts everything that changes the disk and strikes at operation number `at`, a write half done."""

    def __init__(self, at: int, strike: Callable[[], None]) -> None:
        self.at = at
        self.strike = strike
        self.count = 0

    def operation(self) -> None:
        self.count += 1
        if self.count - 1 == self.at:
            self.strike()

    def before(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def faulty(*args: Any, **kwargs: Any) -> Any:
            self.operation()
            return function(*args, **kwargs)

        return faulty

    def open(self, path: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if "w" in mode:
            self.operation()
        file = open(path, mode, *args, **kwargs)  # noqa: PTH123, SIM115 - Path.open is what is replaced
        return FaultyFile(file, self) if "w" in mode else file

    @contextmanager
    def injected(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Path, "open", lambda path, *args, **kwargs: self.open(path, *args, **kwargs))
            for name in ("replace", "fsync", "mkdir"):
                patch.setattr(os, name, self.before(getattr(os, name)))
            yield


class FaultyFile:
    """A file opened for writing that counts its writes; what is written first reaches the disk."""

    def __init__(self, file: IO[bytes], faults: Faults) -> None:
        self.file = file
        self.faults = faults

    def write(self, content: bytes) -> int:
        self.file.write(content[: len(content) // 2])
        self.file.flush()
        self.faults.operation()
        self.file.write(content[len(content) // 2 :])
        return len(content)

    def flush(self) -> None:
        self.file.flush()

    def fileno(self) -> int:
        return self.file.fileno()

    def __enter__(self) -> "FaultyFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()


def disk_full() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def ctrl_c() -> None:
    raise KeyboardInterrupt


def sigkill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def pack_into(folder: Path, release: Path, pack_format: PackFormat, resume: bool = False) -> PackSummary:
    config = PackConfig(format=pack_format, spec=ImageSpec.square(SIZE_PX), resume=resume)
    return pack_manifest(release.parent / "nih.parquet", root=release, out=folder / "pack", config=config)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_cut, "MIN_SHARD_SAMPLES", SAMPLES_PER_SHARD)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # power cuts are not tested; it takes 5 ms a call


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five images in three shards, one of them corrupt; the manifest lies beside it."""
    folder = tmp_path_factory.mktemp("faults")
    root = make_release(folder, num_images=NUM_IMAGES, size_px=SIZE_PX)
    (root / "images" / image_names(NUM_IMAGES)[3]).write_bytes(b"not a film")
    make_manifest(folder, num_images=NUM_IMAGES)
    return root


@dataclass(frozen=True)
class Undisturbed:
    """A pack that nothing interrupted."""

    format: PackFormat
    files: dict[str, bytes]
    parts: dict[str, bytes]
    """Shards of a format that joins them, as they were before."""


@pytest.fixture(params=sorted(FORMATS))
def undisturbed(request: pytest.FixtureRequest, release: Path, tmp_path: Path) -> Undisturbed:
    parts = {}
    publish = PartialPack.publish

    def look(partial: PartialPack) -> None:
        parts.update(contents(partial.parts))
        publish(partial)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PartialPack, "publish", look)
        summary = pack_into(tmp_path / "undisturbed", release, request.param)
    joined = FORMATS[request.param].joined
    assert [shard.num_samples for shard in summary.pack.shards] == ([5] if joined else [2, 2, 1])
    assert len(parts) == (3 if joined else 0)
    return Undisturbed(request.param, contents(summary.pack.folder), parts)


def check_left_over(folder: Path, undisturbed: Undisturbed) -> int:
    """Check that an interrupted pack holds only whole files under final names; return how many shards are noted."""
    partial = PartialPack.of(folder / "pack")
    for where, expected in ((partial.pack, undisturbed.files), (partial.parts, undisturbed.parts)):
        for path in where.glob("[!.]*") if where.is_dir() else []:
            assert path.read_bytes() == expected[path.name]
    return len(list(partial.finished.glob("[!.]*"))) if partial.finished.is_dir() else 0


def resume_and_compare(folder: Path, release: Path, num_finished: int, undisturbed: Undisturbed) -> None:
    """Check that resuming keeps what was finished and ends with the bytes of an undisturbed pack."""
    decoded: list[Path] = []

    def counted(path: Path, spec: ImageSpec) -> DecodedImage:
        decoded.append(path)
        return read_image(path, spec)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.packing.shard.read_image", counted)
        pack_into(folder, release, undisturbed.format, resume=True)
    assert contents(folder / "pack") == undisturbed.files
    assert sorted(folder.iterdir()) == [folder / "pack"]
    assert len(decoded) == max(NUM_IMAGES - num_finished * SAMPLES_PER_SHARD, 0)


@pytest.mark.parametrize("strike", [disk_full, ctrl_c])
def test_interrupted_at_every_write(
    release: Path, undisturbed: Undisturbed, tmp_path: Path, strike: Callable[[], None]
) -> None:
    num_interrupted, messages = 0, set()
    for at in itertools.count():
        folder = tmp_path / str(at)
        folder.mkdir()
        faults = Faults(at, strike)
        try:
            with faults.injected():
                pack_into(folder, release, undisturbed.format)
        except (PackError, KeyboardInterrupt) as error:
            num_interrupted += 1
            messages.add(str(error).partition(": ")[2].partition(";")[0])
            if not (folder / "pack").exists():
                resume_and_compare(folder, release, check_left_over(folder, undisturbed), undisturbed)
            else:  # Ctrl-C came between the rename that publishes the pack and the tidying up
                assert strike is ctrl_c
                assert contents(folder / "pack") == undisturbed.files
        else:  # nothing struck any more, or a full disk while tidying up
            assert contents(folder / "pack") == undisturbed.files
            if faults.count <= at:
                break
    assert num_interrupted > 50
    assert messages == {"" if strike is ctrl_c else "cannot be written (No space left on device)"}


KILLS_IN_CI = [(4, "raw"), (25, "raw"), (30, "tar"), (50, "beton"), (62, "beton")]
KILLS_IN_SOAK = [
    pytest.param(at, pack_format, marks=pytest.mark.soak)
    for at in range(3, 70, 4)
    for pack_format in sorted(FORMATS)
    if (at, pack_format) not in KILLS_IN_CI
]


@pytest.mark.parametrize(("at", "undisturbed"), [*KILLS_IN_CI, *KILLS_IN_SOAK], indirect=["undisturbed"])
def test_killed_while_writing(release: Path, undisturbed: Undisturbed, tmp_path: Path, at: int) -> None:
    code = (
        "from pathlib import Path; from tests.pipeline import test_pack_faults as t; "
        "t.shard_cut.MIN_SHARD_SAMPLES = t.SAMPLES_PER_SHARD; faults = t.Faults({}, t.sigkill); "
        "patch = faults.injected(); patch.__enter__(); t.pack_into(Path({!r}), Path({!r}), {!r})"
    ).format(at, str(tmp_path / "killed"), str(release), undisturbed.format)
    (tmp_path / "killed").mkdir()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert process.returncode == -signal.SIGKILL, process.stderr
    assert not (tmp_path / "killed" / "pack").exists()
    num_finished = check_left_over(tmp_path / "killed", undisturbed)
    resume_and_compare(tmp_path / "killed", release, num_finished, undisturbed)


def test_ctrl_c_does_not_reach_a_process_that_is_still_starting() -> None:
    worker = Worker()
    worker.process.send_signal(signal.SIGINT)
    worker.connection.close()
    assert worker.process.wait() == 0
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_what_a_process_cannot_write_is_known_to_its_parent(tmp_path: Path) -> None:
    tasks = [
        ShardTask(
            file=tmp_path / "gone" / f"shard-{number}.npy",
            checksums=tmp_path / f"shard-{number}.bin",
            sidecar=tmp_path / f"shard-{number}.json",
            format="raw",
            spec=ImageSpec.square(SIZE_PX),
            encoding=Encoding(),
            first_index=number,
            files=(tmp_path / "missing.png",),
        )
        for number in range(2)
    ]
    with pytest.raises(FileNotFoundError) as error:
        list(pack_shards(tasks, len(tasks), 2, lambda images: None))
    assert "gone" in error.value.filename

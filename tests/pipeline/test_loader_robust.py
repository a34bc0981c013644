"""Laws of loaders under errors, interruption and long use."""

import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import traceback
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import PackError
from pipeline.loaders import BACKENDS, Loader, LoaderConfig, open_loader
from pipeline.loaders.raw import RawLoader
from pipeline.loaders.shard_map import ShardMap
from pipeline.pack import Pack
from tests.raw_pack import numbered_images, write_raw_pack

PROJECT = Path(__file__).parents[2]
NUM_IMAGES = 120

backends = pytest.mark.parametrize("backend", [name for name, known in BACKENDS.items() if known.target is not None])


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    return write_raw_pack(tmp_path, numbered_images(NUM_IMAGES, 64), rows_per_shard=50)


def opened(pack: Pack, *, backend: str = "raw", batch_size: int = 4, num_threads: int = 2) -> Loader:
    config = LoaderConfig(backend=backend, batch_size=batch_size, num_threads=num_threads)
    return open_loader(config, pack=pack, sample_index_n=np.arange(pack.num_samples), seed=5)


def loader_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if "loader" in thread.name]


def num_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def rss_anon_mib() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no RssAnon in /proc/self/status")


def fail_in_the_third_step(loader: Loader) -> None:
    for number, _ in enumerate(loader.train_batches(0)):
        number // (2 - number)


def test_an_error_in_the_background_ends_the_pass_with_its_traceback(
    pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def failing_gather(*_: object) -> None:
        nonlocal calls
        calls += 1
        if calls > 10:
            raise ArithmeticError("a bug in the background")

    monkeypatch.setattr("pipeline.loaders.raw._GROUP_IMAGES", 1)
    monkeypatch.setattr(ShardMap, "gather", failing_gather)
    with opened(pack) as loader:
        with pytest.raises(ArithmeticError, match="a bug in the background") as caught:
            list(loader.train_batches(0))
        assert not loader_threads()
        frames = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
        assert "failing_gather" in frames
        assert "train_batches" in frames or "_pass" in frames
        monkeypatch.undo()
        assert len(list(loader.train_batches(0))) == loader.num_steps()


@pytest.mark.parametrize("backend", ["raw", "reference"])
def test_a_shard_cut_short_after_opening_is_named(backend: str, pack: Pack) -> None:
    with opened(pack, backend=backend) as loader:
        list(loader.train_batches(0))
        os.truncate(pack.folder / "shard-00001.npy", 5000)
        with pytest.raises(PackError, match=r"shard-00001\.npy: .*cut short.*cxr-prep verify"):
            list(loader.train_batches(1))
        assert not loader_threads()


@backends
def test_leaving_a_pass_in_the_middle_leaves_no_thread(backend: str, pack: Pack) -> None:
    with opened(pack, backend=backend) as loader:
        for _ in loader.train_batches(0):
            break
        assert not loader_threads()
        batches = loader.train_batches(0)
        next(batches)
        batches.close()
        assert not loader_threads()
        with pytest.raises(ZeroDivisionError):
            fail_in_the_third_step(loader)
        gc.collect()  # the traceback held the pass
        assert not loader_threads()
        assert len(list(loader.ordered_batches())) == 30


@backends
def test_two_passes_at_once_are_refused(backend: str, pack: Pack) -> None:
    with opened(pack, backend=backend) as loader:
        first = loader.train_batches(0)
        next(first)
        for second in (loader.train_batches(1), loader.ordered_batches()):
            with pytest.raises(RuntimeError, match="a pass of this loader is still open"):
                next(second)
        assert len(list(first)) == loader.num_steps() - 1
        assert len(list(loader.train_batches(1))) == loader.num_steps()


@backends
def test_closing_the_loader_ends_its_pass_loudly(backend: str, pack: Pack) -> None:
    loader = opened(pack, backend=backend)
    batches = loader.train_batches(0)
    kept = next(batches)
    loader.close()
    loader.close()
    assert not loader_threads()
    with pytest.raises(RuntimeError, match="closed"):
        next(batches)
    with pytest.raises(RuntimeError, match="closed"):
        next(loader.ordered_batches())
    assert len(kept.batch.sample_index_B) == 4


@backends
def test_fifty_epochs_leave_threads_files_and_memory_as_they_were(backend: str, pack: Pack) -> None:
    files_before = num_files()
    with opened(pack, backend=backend, batch_size=64) as loader:
        files = anonymous_mib = 0.0
        for epoch in range(50):
            for _ in loader.train_batches(epoch):
                pass
            if epoch == 4:
                files, anonymous_mib = num_files(), rss_anon_mib()
        assert not loader_threads()
        assert num_files() == files
        # One buffer is 256 KiB; losing one an epoch would add 11 MiB.
        assert rss_anon_mib() - anonymous_mib < 4
    assert num_files() == files_before


def test_a_steady_loop_goes_round_in_a_few_buffers(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.loaders.raw._GROUP_IMAGES", 8)
    with opened(pack) as loader:
        assert isinstance(loader, RawLoader)
        for epoch in range(5):
            places = set()
            for step in loader.train_batches(epoch):
                places.add(step.batch.images_B1HW.untyped_storage().data_ptr())
            assert len(places) <= loader.num_buffers < loader.num_steps() / 2


OPEN_LOADER = """
import sys, signal
import numpy as np
from pathlib import Path
from pipeline.loaders import LoaderConfig, open_loader
from pipeline.encoding import Encoding
from pipeline.image_spec import ImageSpec
from pipeline.pack import Pack, Shard
pack = {pack}
loader = open_loader(LoaderConfig(batch_size=2), pack=pack, sample_index_n=np.arange(pack.num_samples), seed=0)
"""


def program(pack: Pack, body: str) -> list[str]:
    text = OPEN_LOADER.format(pack=repr(pack).replace("PosixPath(", "Path(")) + textwrap.dedent(body)
    return [sys.executable, "-c", text]


def test_ctrl_c_ends_the_process_at_once(pack: Pack) -> None:
    body = """
    print("reading", flush=True)
    epoch = 0
    while True:
        for step in loader.train_batches(epoch):
            pass
        epoch += 1
    """
    with subprocess.Popen(program(pack, body), stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=PROJECT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"reading\n"
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    assert b"KeyboardInterrupt" in stderr


def test_a_pass_left_open_does_not_keep_the_process_from_ending(pack: Pack) -> None:
    body = """
    batches = loader.train_batches(0)
    next(batches)
    """
    finished = subprocess.run(program(pack, body), capture_output=True, timeout=50, cwd=PROJECT, check=False)
    assert (finished.returncode, finished.stderr) == (0, b"")

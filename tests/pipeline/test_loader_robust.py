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

import pytest
import torch

from pipeline.errors import PackError
from pipeline.loaders import Loader
from pipeline.loaders.encoded import EncodedReader
from pipeline.loaders.gathered import GatheredLoader
from pipeline.pack import Pack
from tests.loader_cases import CASES, CASES_WITH_PIXELS, Case, Packs, opened, over, write_packs
from tests.raw_pack import numbered_images

PROJECT = Path(__file__).parents[2]
NUM_IMAGES = 120
RAW = Case("raw", "raw")


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> Packs:
    return write_packs(tmp_path_factory.mktemp("robust"), numbered_images(NUM_IMAGES, 64), rows_per_shard=50)


@pytest.fixture
def own_packs(tmp_path: Path) -> Packs:
    """Packs that a test may damage."""
    return write_packs(tmp_path, numbered_images(NUM_IMAGES, 64), rows_per_shard=50)


def threads_of_loaders() -> list[threading.Thread]:
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


@over([RAW, Case("resident", "beton"), Case("ffcv", "beton"), Case("dali", "tar")])
def test_an_error_in_the_background_ends_the_pass_with_its_traceback(
    case: Case, packs: Packs, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    with opened(packs, case) as loader:
        owner, name = (EncodedReader, "read") if case.backend == "dali" else (type(loader), "_gather")
        works = getattr(owner, name)

        def fails_after_ten(*arguments: object) -> object:
            nonlocal calls
            calls += 1
            if calls > 10:
                raise ArithmeticError("a bug in the background")
            return works(*arguments)

        monkeypatch.setattr("pipeline.loaders.gathered._GROUP_IMAGES", 1)
        monkeypatch.setattr(owner, name, fails_after_ten)
        with opened(packs, case) as failing:
            with pytest.raises(ArithmeticError, match="a bug in the background") as caught:
                list(failing.train_batches(0))
            assert not threads_of_loaders()
            frames = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
            assert "fails_after_ten" in frames
            assert "_pass" in frames
            monkeypatch.undo()
            assert len(list(failing.train_batches(0))) == failing.num_steps()


@over([Case("raw", "raw"), Case("ffcv", "beton"), Case("dali", "tar"), *[c for c in CASES if c.backend == "reference"]])
def test_a_shard_cut_short_after_opening_is_named(case: Case, own_packs: Packs) -> None:
    pack = own_packs[case.pack_format]
    shard = pack.shard_path(pack.shards[-1])
    with opened(own_packs, case) as loader:
        list(loader.train_batches(0))
        os.truncate(shard, 5000)
        with pytest.raises(PackError, match=rf"{shard.name}: .*cut short.*cxr-prep verify"):
            list(loader.train_batches(1))
        assert not threads_of_loaders()


@over(CASES)
def test_leaving_a_pass_in_the_middle_leaves_no_thread(case: Case, packs: Packs) -> None:
    with opened(packs, case) as loader:
        for _ in loader.train_batches(0):
            break
        assert not threads_of_loaders()
        batches = loader.train_batches(0)
        next(batches)
        batches.close()
        assert not threads_of_loaders()
        with pytest.raises(ZeroDivisionError):
            fail_in_the_third_step(loader)
        gc.collect()  # the traceback held the pass
        assert not threads_of_loaders()
        assert len(list(loader.ordered_batches())) == 30


@over(CASES)
def test_two_passes_at_once_are_refused(case: Case, packs: Packs) -> None:
    with opened(packs, case) as loader:
        first = loader.train_batches(0)
        next(first)
        for second in (loader.train_batches(1), loader.ordered_batches()):
            with pytest.raises(RuntimeError, match="a pass of this loader is still open"):
                next(second)
        assert len(list(first)) == loader.num_steps() - 1
        assert len(list(loader.train_batches(1))) == loader.num_steps()


@over(CASES)
def test_two_loaders_read_side_by_side(case: Case, packs: Packs) -> None:
    """As a training and a validation loader that are both open."""
    with opened(packs, case, seed=1) as one, opened(packs, case, seed=2) as other:
        steps = list(zip(one.train_batches(0), other.train_batches(0), strict=True))
    for side in (0, 1):
        seen = torch.cat([step[side].batch.sample_index_B for step in steps])
        assert sorted(seen.tolist()) == list(range(NUM_IMAGES))


@over(CASES)
def test_closing_the_loader_ends_its_pass_loudly(case: Case, packs: Packs) -> None:
    loader = opened(packs, case)
    batches = loader.train_batches(0)
    kept = next(batches)
    loader.close()
    loader.close()
    assert not threads_of_loaders()
    with pytest.raises(RuntimeError, match="closed"):
        next(batches)
    with pytest.raises(RuntimeError, match="closed"):
        next(loader.ordered_batches())
    assert len(kept.batch.sample_index_B) == 4


@over(CASES)
@pytest.mark.parametrize("num_epochs", [30, pytest.param(200, marks=pytest.mark.soak)])
def test_many_epochs_leave_threads_files_and_memory_as_they_were(case: Case, num_epochs: int, packs: Packs) -> None:
    opened_once(packs, case)  # whatever is made once in a process is there now: FFCV's code, DALI's libraries
    gc.collect()
    files_before, threads_before = num_files(), threading.active_count()
    with opened(packs, case, batch_size=64) as loader:
        files = anonymous_mib = 0.0
        for epoch in range(num_epochs):
            for _ in loader.train_batches(epoch):
                pass
            if epoch == 9:
                gc.collect()
                files, anonymous_mib = num_files(), rss_anon_mib()
        assert not threads_of_loaders()
        assert num_files() == files
        # One buffer is 256 KiB; losing one an epoch would add 5 MiB or more.
        assert rss_anon_mib() - anonymous_mib < 4
    gc.collect()
    assert num_files() == files_before
    assert threading.active_count() == threads_before


def opened_once(packs: Packs, case: Case) -> list[int]:
    with opened(packs, case) as loader:
        return [step.consumed for step in loader.train_batches(0)]


@over([case for case in CASES_WITH_PIXELS if case.backend in ("dali", "ffcv", "resident")])
def test_opening_and_closing_many_loaders_loses_nothing(case: Case, packs: Packs) -> None:
    opened_once(packs, case)
    gc.collect()
    tasks_before, files_before, mib_before = num_tasks(), num_files(), rss_anon_mib()
    for _ in range(20):
        opened_once(packs, case)
    gc.collect()
    assert num_tasks() <= tasks_before
    assert num_files() <= files_before
    assert rss_anon_mib() - mib_before < 16


def num_tasks() -> int:
    """Threads of the process, those of libraries included."""
    return sum(1 for _ in Path("/proc/self/task").iterdir())


@over([RAW, Case("ffcv", "beton"), Case("resident", "raw")])
def test_a_steady_loop_goes_round_in_a_few_buffers(case: Case, packs: Packs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.loaders.gathered._GROUP_IMAGES", 8)
    with opened(packs, case) as loader:
        assert isinstance(loader, GatheredLoader)
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
from pipeline.pack_files import SideFile
pack = {pack}
config = LoaderConfig(backend={backend!r}, batch_size=2)
loader = open_loader(config, pack=pack, sample_index_n=np.arange(pack.num_samples), seed=0)
"""


def program(pack: Pack, backend: str, body: str) -> list[str]:
    opening = OPEN_LOADER.format(pack=repr(pack).replace("PosixPath(", "Path("), backend=backend)
    return [sys.executable, "-c", opening + textwrap.dedent(body)]


@over([RAW, Case("ffcv", "beton"), Case("dali", "tar")])
def test_ctrl_c_ends_the_process_at_once_and_leaves_nothing(case: Case, packs: Packs) -> None:
    body = """
    print("reading", flush=True)
    epoch = 0
    while True:
        for step in loader.train_batches(epoch):
            pass
        epoch += 1
    """
    shared_before = set(Path("/dev/shm").iterdir())
    command = program(packs[case.pack_format], case.backend, body)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=PROJECT, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"reading\n"
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT, stderr
    assert b"KeyboardInterrupt" in stderr
    assert not processes_of_group(process.pid)
    ours = {path for path in set(Path("/dev/shm").iterdir()) - shared_before if str(process.pid) in path.name}
    assert not ours


def processes_of_group(group: int) -> list[str]:
    """Return the stat lines of processes that are left in a process group."""
    left = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            line = path.read_text()
        except OSError:
            continue  # gone meanwhile
        if int(line.rpartition(")")[2].split()[2]) == group:
            left.append(line)
    return left


@over([RAW, Case("dali", "tar")])
def test_a_pass_left_open_does_not_keep_the_process_from_ending(case: Case, packs: Packs) -> None:
    body = """
    batches = loader.train_batches(0)
    next(batches)
    """
    command = program(packs[case.pack_format], case.backend, body)
    finished = subprocess.run(command, capture_output=True, timeout=50, cwd=PROJECT, check=False)
    assert (finished.returncode, finished.stderr) == (0, b"")

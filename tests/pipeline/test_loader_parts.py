"""Laws of the parts of the raw loader: the map of the shards, the buffers, the threads that work ahead."""

import os
import threading
import time
import traceback
import weakref
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import PackError
from pipeline.loaders.buffers import BufferPool
from pipeline.loaders.prefetch import Prefetcher
from pipeline.loaders.reference import read_sample
from pipeline.loaders.shard_map import ShardMap
from tests.raw_pack import numbered_images, write_raw_pack


def num_open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@settings(max_examples=40, deadline=None)
@given(
    size_px=st.sampled_from([2, 3, 7, 16, 64, 65, 100]),
    num_images=st.integers(1, 60),
    rows_per_shard=st.integers(1, 60),
    seed=st.integers(0, 1000),
)
def test_gather_finds_the_row_of_every_sample(
    tmp_path_factory: pytest.TempPathFactory, size_px: int, num_images: int, rows_per_shard: int, seed: int
) -> None:
    images_NHW = numbered_images(num_images, size_px)
    pack = write_raw_pack(tmp_path_factory.mktemp("map"), images_NHW, rows_per_shard=rows_per_shard)
    index_B = np.random.default_rng(seed).integers(0, num_images, 37)
    gathered_B1HW = np.zeros((37, 1, size_px, size_px), np.uint8)
    with ShardMap(pack) as shards:
        shards.check()
        shards.gather(shards.rows_of(index_B), gathered_B1HW)
    np.testing.assert_array_equal(gathered_B1HW[:, 0], images_NHW[index_B])
    np.testing.assert_array_equal(gathered_B1HW[0, 0], read_sample(pack, int(index_B[0])))


def test_a_map_holds_no_files_after_closing(tmp_path: Path) -> None:
    pack = write_raw_pack(tmp_path, numbered_images(20, 4), rows_per_shard=3)
    before = num_open_files()
    for _ in range(3):
        shards = ShardMap(pack)
        assert num_open_files() == before + 7
        shards.close()
        shards.close()
    assert num_open_files() == before
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()


def test_rows_that_somebody_still_holds_outlive_the_map(tmp_path: Path) -> None:
    """A traceback that shows local variables reads them after the loader was closed."""
    images_NHW = numbered_images(20, 4)
    shards = ShardMap(write_raw_pack(tmp_path, images_NHW, rows_per_shard=20))
    held = shards._rows[3:5]
    shards.close()
    np.testing.assert_array_equal(held.reshape(2, 4, 4), images_NHW[3:5])
    assert str(tmp_path) in Path("/proc/self/maps").read_text()
    del held
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()


def test_a_shard_that_is_no_shard_is_refused_by_name(tmp_path: Path) -> None:
    images_NHW = numbered_images(9, 4)
    pack = write_raw_pack(tmp_path, images_NHW, rows_per_shard=4)
    path = tmp_path / "shard-00001.npy"
    whole = path.read_bytes()
    before = num_open_files()
    for content, complaint in (
        (b"", "not a raw shard"),
        (b"PNG" * 100, "not a raw shard"),
        (whole[:-1], "cut short"),
        (whole.replace(b"|u1", b"|i1"), "holds int8"),
        (whole.replace(b"'fortran_order': False", b"'fortran_order': True "), r"pack\.json says"),
        (whole.replace(b"(4, 4, 4)", b"(4, 2, 8)"), r"holds uint8 \(4, 2, 8\), pack\.json says uint8 \(4, 4, 4\)"),
    ):
        path.write_bytes(content)
        with pytest.raises(PackError, match=rf"shard-00001\.npy: .*{complaint}.*cxr-prep verify"):
            ShardMap(pack)
        with pytest.raises(PackError, match=rf"shard-00001\.npy: .*{complaint}.*cxr-prep verify"):
            read_sample(pack, 5)
    path.unlink()
    with pytest.raises(PackError, match=r"shard-00001\.npy: not a raw shard \(.*No such file"):
        ShardMap(pack)
    assert num_open_files() == before
    with pytest.raises(PackError, match="no shard holds sample_index 9"):
        read_sample(replace(pack, num_samples=10), 9)


def test_shards_whose_pixels_begin_at_different_places_are_refused(tmp_path: Path) -> None:
    pack = write_raw_pack(tmp_path, numbered_images(9, 4), rows_per_shard=4)
    path = tmp_path / "shard-00001.npy"
    content = path.read_bytes()
    longer = (int.from_bytes(content[8:10], "little") + 64).to_bytes(2, "little")
    path.write_bytes(content[:8] + longer + content[10:127] + b" " * 64 + content[127:])
    assert np.load(path).shape == (4, 4, 4)
    with pytest.raises(PackError, match="headers of different lengths"):
        ShardMap(pack)


def test_a_shard_cut_short_under_the_map_is_noticed(tmp_path: Path) -> None:
    pack = write_raw_pack(tmp_path, numbered_images(40, 64), rows_per_shard=10)
    with ShardMap(pack) as shards:
        shards.check()
        os.truncate(tmp_path / "shard-00003.npy", 10_000)
        with pytest.raises(PackError, match=r"shard-00003\.npy: the shard is cut short: 10,000 bytes, expected 41,088"):
            shards.check()


def test_a_buffer_is_lent_again_only_when_nobody_sees_it() -> None:
    made = []

    def new() -> np.ndarray:
        made.append(1)
        return np.zeros((4, 8), np.uint8)

    pool = BufferPool(new, keep=8)
    tensor = torch.from_numpy(pool.lend(4)).view(4, 2, 4)
    part = tensor[1:2, :, ::2]
    del tensor
    other = pool.lend(3)
    other[:] = 255
    assert len(made) == 2
    assert not part.any()
    del part
    again = pool.lend(4)
    assert len(made) == 2
    assert again.shape == (4, 8)
    assert not again.any()
    del again, other
    for _ in range(100):
        assert pool.lend(2).shape == (2, 8)
    assert len(made) == 2


def test_buffers_that_nobody_wants_back_are_given_up() -> None:
    made: list[weakref.ref[np.ndarray]] = []

    def new() -> np.ndarray:
        buffer = np.zeros((2, 2), np.uint8)
        made.append(weakref.ref(buffer))
        return buffer

    pool = BufferPool(new, keep=3)
    kept = [pool.lend(2) for _ in range(50)]
    assert sum(buffer() is not None for buffer in made) == 50
    kept.clear()
    assert sum(buffer() is not None for buffer in made) == 3


@settings(max_examples=25, deadline=None)
@given(num_items=st.integers(0, 40), num_threads=st.integers(1, 5), depth=st.integers(1, 8), seed=st.integers(0, 2**16))
def test_results_come_in_order_and_no_further_ahead_than_asked(
    num_items: int, num_threads: int, depth: int, seed: int
) -> None:
    delays_s = np.random.default_rng(seed).choice([0, 0, 1e-3], num_items)
    given, furthest, lock = 0, 0, threading.Lock()

    def work(item: int) -> int:
        nonlocal furthest
        with lock:
            furthest = max(furthest, item + 1 - given)
        time.sleep(delays_s[item])
        return item * item

    results = []
    with closing(Prefetcher(work, iter(range(num_items)), num_threads=num_threads, depth=depth, name="t")) as ahead:
        for result in ahead:
            with lock:
                given += 1
            results.append(result)
        assert next(ahead, None) is None
    assert results == [item * item for item in range(num_items)]
    # The count is taken a moment after the result, so one more may have begun.
    assert furthest <= max(depth, num_threads) + 1
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("t-")]


@pytest.mark.parametrize("num_threads", [1, 3])
def test_an_error_comes_where_its_result_would_have_with_its_traceback(num_threads: int) -> None:
    def raise_at_five(item: int) -> int:
        if item == 5:
            raise ValueError("item five")
        return item

    ahead = Prefetcher(raise_at_five, iter(range(100)), num_threads=num_threads, depth=4, name="t")
    assert [next(ahead) for _ in range(5)] == list(range(5))
    with pytest.raises(ValueError, match="item five") as caught:
        next(ahead)
    assert "raise_at_five" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("t-")]
    with pytest.raises(RuntimeError, match="closed"):
        next(ahead)


def test_an_error_of_the_items_is_raised_after_the_results_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise KeyError("items")

    ahead = Prefetcher(lambda item: item, items(), num_threads=2, depth=4, name="t")
    assert [next(ahead), next(ahead)] == [1, 2]
    with pytest.raises(KeyError, match="items"):
        next(ahead)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("t-")]

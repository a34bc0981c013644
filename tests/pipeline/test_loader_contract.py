"""Laws that every backend keeps: each sample once, with its index and its pixels, resumable, on any number of ranks."""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.loaders import LoadedStep
from pipeline.order import epoch_order
from tests.factories import image_pixels, make_pack
from tests.loader_cases import CASES, CASES_WITH_PIXELS, LOSSLESS, Case, Packs, opened, over, write_packs
from tests.raw_pack import numbered_images

NUM_IMAGES = 103
SIZE_PX, WIDTH_PX = 6, 5
REFERENCE = Case("reference", "raw")


@pytest.fixture(scope="module", autouse=True, params=[1, 12], ids=["ungrouped", "grouped"])
def images_per_group(request: pytest.FixtureRequest) -> Iterator[None]:
    """`raw` gathers small batches together: the laws hold for one batch at a time and for some."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.loaders.gathered._GROUP_IMAGES", request.param)
        yield


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> Packs:
    """Six shards of 20 samples, the last one shorter; a row is no divisor of a page, and no image is square."""
    images_NHW = numbered_images(NUM_IMAGES, SIZE_PX)[:, :, :WIDTH_PX]
    return write_packs(tmp_path_factory.mktemp("contract"), images_NHW, rows_per_shard=20)


@pytest.fixture(scope="module")
def selection() -> npt.NDArray[np.int64]:
    """Two thirds of the rows."""
    return np.flatnonzero(np.arange(NUM_IMAGES) % 3 != 0)


def indices(steps: Iterable[LoadedStep]) -> list[list[int]]:
    return [step.batch.sample_index_B.tolist() for step in steps]


def flat(batches: list[list[int]]) -> list[int]:
    return [index for batch in batches for index in batch]


@over(CASES)
def test_every_sample_once_per_epoch(case: Case, packs: Packs, selection: npt.NDArray[np.int64]) -> None:
    with opened(packs, case, selection) as loader:
        epochs = [flat(indices(loader.train_batches(epoch))) for epoch in range(2)]
    for epoch in epochs:
        assert sorted(epoch) == selection.tolist()
    assert epochs[0] != epochs[1]
    assert epochs[0] != selection.tolist()


@over(CASES)
def test_steps_are_those_of_the_order(case: Case, packs: Packs, selection: npt.NDArray[np.int64]) -> None:
    with opened(packs, case, selection, batch_size=5) as loader:
        steps = list(loader.train_batches(3))
        assert loader.num_steps() == len(steps)
    order = list(epoch_order(len(selection), epoch=3, seed=11, batch_size=5))
    assert [(step.consumed, step.num_global) for step in steps] == [(step.consumed, step.num_global) for step in order]
    assert indices(steps) == [selection[step.positions_B].tolist() for step in order]


@over(CASES_WITH_PIXELS)
def test_pixels_belong_to_their_index(case: Case, packs: Packs, selection: npt.NDArray[np.int64]) -> None:
    images_NHW = numbered_images(NUM_IMAGES, SIZE_PX)[:, :, :WIDTH_PX]
    with opened(packs, case, selection) as loader:
        for step in [*loader.train_batches(0), *loader.ordered_batches()]:
            expected = images_NHW[step.batch.sample_index_B.numpy()]
            np.testing.assert_array_equal(step.batch.images_B1HW[:, 0].numpy(), expected)


@over(CASES)
def test_batches_have_the_declared_shape_and_type(case: Case, packs: Packs, selection: npt.NDArray[np.int64]) -> None:
    with opened(packs, case, selection, batch_size=8) as loader:
        for images_B1HW, sample_index_B in (step.batch for step in loader.train_batches(0)):
            assert images_B1HW.shape == (len(sample_index_B), 1, SIZE_PX, WIDTH_PX)
            assert images_B1HW.dtype == torch.uint8
            assert images_B1HW.is_contiguous()
            assert sample_index_B.dtype == torch.int64


@over(CASES_WITH_PIXELS)
@pytest.mark.parametrize("batch_size", [1, 4, 64, 1000])
def test_backends_equal_the_reference(
    case: Case, batch_size: int, packs: Packs, selection: npt.NDArray[np.int64]
) -> None:
    with (
        opened(packs, case, selection, batch_size=batch_size) as loader,
        opened(packs, REFERENCE, selection, batch_size=batch_size) as reference,
    ):
        for epoch in (0, 1):
            for found, expected in zip(loader.train_batches(epoch), reference.train_batches(epoch), strict=True):
                assert torch.equal(found.batch.images_B1HW, expected.batch.images_B1HW)
                assert torch.equal(found.batch.sample_index_B, expected.batch.sample_index_B)
                assert found[1:] == expected[1:]


@over(CASES)
def test_resume_goes_on_with_the_same_batches(case: Case, packs: Packs, selection: npt.NDArray[np.int64]) -> None:
    with opened(packs, case, selection) as loader:
        whole = list(loader.train_batches(0))
        full = [indices(loader.train_batches(epoch)) for epoch in (1, 2)]
    for done in (1, 7, len(whole) - 1, len(whole)):
        start = whole[done - 1].consumed
        with opened(packs, case, selection) as resumed:
            assert resumed.num_steps(start) == len(whole) - done
            rest = list(resumed.train_batches(0, start))
            assert indices(rest) == indices(whole[done:])
            assert [step[1:] for step in rest] == [step[1:] for step in whole[done:]]
            assert [indices(resumed.train_batches(epoch)) for epoch in (1, 2)] == full


@over(CASES)
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_ranks_together_cover_everything_once_in_equal_steps(
    case: Case, world_size: int, packs: Packs, selection: npt.NDArray[np.int64]
) -> None:
    ranks = []
    for rank in range(world_size):
        with opened(packs, case, selection, rank=rank, world_size=world_size) as loader:
            ranks.append(list(loader.train_batches(0)))
            assert len(ranks[-1]) == loader.num_steps()
    assert len({len(steps) for steps in ranks}) == 1
    assert sorted(flat([batch for steps in ranks for batch in indices(steps)])) == selection.tolist()
    for together in zip(*ranks, strict=True):
        assert sum(len(step.batch.sample_index_B) for step in together) == together[0].num_global
        assert len({step[1:] for step in together}) == 1


@over(CASES)
@pytest.mark.parametrize("world_size", [1, 3])
def test_ordered_batches_give_each_once_in_order(
    case: Case, world_size: int, packs: Packs, selection: npt.NDArray[np.int64]
) -> None:
    steps = []
    for rank in range(world_size):
        with opened(packs, case, selection, rank=rank, world_size=world_size) as loader:
            steps.append(indices(loader.ordered_batches()))
    in_order = [batch for together in zip(*steps, strict=True) for batch in together]
    assert flat(in_order) == selection.tolist()


@over(CASES)
def test_a_rank_without_a_sample_gets_batches_of_none(case: Case, packs: Packs) -> None:
    sizes = []
    for rank in range(2):
        with opened(packs, case, np.array([5]), batch_size=1, rank=rank, world_size=2) as loader:
            sizes.append([tuple(step.batch.images_B1HW.shape) for step in loader.train_batches(0)])
    (height, width) = packs[case.pack_format].height_px, packs[case.pack_format].width_px
    assert sorted(sizes) == [[(0, 1, height, width)], [(1, 1, height, width)]]


@settings(max_examples=60, deadline=None)
@given(
    case=st.sampled_from(CASES),
    n=st.integers(1, NUM_IMAGES),
    world_size=st.integers(1, 4),
    batch_size=st.integers(1, 40),
    num_threads=st.integers(1, 4),
    done=st.integers(0, NUM_IMAGES),
    resumed_world_size=st.integers(1, 4),
)
def test_any_shape_of_epoch_can_be_left_and_gone_on_with(
    packs: Packs,
    case: Case,
    n: int,
    world_size: int,
    batch_size: int,
    num_threads: int,
    done: int,
    resumed_world_size: int,
) -> None:
    """Some steps with one number of ranks, the rest with another: each sample exactly once all the same."""
    chosen = np.arange(NUM_IMAGES - n, NUM_IMAGES)
    seen: list[int] = []
    start = 0
    for ranks, steps_wanted in ((world_size, done), (resumed_world_size, None)):
        cursor = start
        for rank in range(ranks):
            with opened(
                packs,
                case,
                chosen,
                batch_size=batch_size,
                rank=rank,
                world_size=ranks,
                num_threads=num_threads,
            ) as loader:
                batches = loader.train_batches(1, start)
                for number, step in enumerate(batches):
                    if number == steps_wanted:
                        break
                    seen += step.batch.sample_index_B.tolist()
                    cursor = step.consumed
                batches.close()
        start = cursor
    assert sorted(seen) == chosen.tolist()


@over(CASES)
def test_a_kept_batch_never_changes(case: Case, packs: Packs, selection: npt.NDArray[np.int64]) -> None:
    with opened(packs, case, selection) as loader:
        kept, copies = [], []
        for epoch in range(3):
            for step in loader.train_batches(epoch):
                # Of some batches only a part is kept: a view must hold the buffer as well.
                images = step.batch.images_B1HW if step.consumed % 2 else step.batch.images_B1HW[1:, :, ::2]
                kept.append(images)
                copies.append(images.clone())
    # The loader is closed by now, and the batches live on.
    for images, copy in zip(kept, copies, strict=True):
        assert torch.equal(images, copy)


@over(CASES)
def test_the_seed_decides_the_order(case: Case, packs: Packs, selection: npt.NDArray[np.int64]) -> None:
    orders = []
    for seed in (1, 1, 2):
        with opened(packs, case, selection, seed=seed) as loader:
            orders.append(indices(loader.train_batches(0)))
    assert orders[0] == orders[1] != orders[2]


@over(CASES)
def test_changing_the_callers_selection_changes_nothing(
    case: Case, packs: Packs, selection: npt.NDArray[np.int64]
) -> None:
    given_selection = selection.copy()
    with opened(packs, case, given_selection) as loader:
        given_selection[:] = 0
        assert sorted(flat(indices(loader.train_batches(0)))) == selection.tolist()


@over(CASES_WITH_PIXELS)
def test_a_pack_as_it_is_packed_is_read(case: Case, tmp_path: Path) -> None:
    encoding = LOSSLESS.get(case.pack_format)
    packed = make_pack(tmp_path, num_images=24, size_px=32, pack_format=case.pack_format, encoding=encoding)
    pixels_NHW = image_pixels(24, 32)
    with opened({case.pack_format: packed}, case, batch_size=5) as loader:
        steps = list(loader.train_batches(0))
    assert sorted(flat(indices(steps))) == list(range(24))
    for step in steps:
        np.testing.assert_array_equal(
            step.batch.images_B1HW[:, 0].numpy(), pixels_NHW[step.batch.sample_index_B.numpy()]
        )


@over(CASES)
def test_consumed_rises_by_what_each_step_holds(case: Case, packs: Packs, selection: npt.NDArray[np.int64]) -> None:
    with opened(packs, case, selection) as loader:
        steps = list(loader.train_batches(0))
    assert steps[0].consumed == steps[0].num_global
    assert steps[-1].consumed == len(selection)
    for before, after in pairwise(steps):
        assert after.consumed == before.consumed + after.num_global


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU here")
@over(CASES_WITH_PIXELS)
def test_batches_on_a_gpu_equal_the_reference(case: Case, packs: Packs, selection: npt.NDArray[np.int64]) -> None:
    with (
        opened(packs, case, selection, batch_size=7, num_threads=3, device="cuda") as loader,
        opened(packs, REFERENCE, selection, batch_size=7) as reference,
    ):
        for epoch in range(20):
            kept = list(loader.train_batches(epoch))
            for found, expected in zip(kept, reference.train_batches(epoch), strict=True):
                assert found.batch.images_B1HW.is_cuda
                assert torch.equal(found.batch.images_B1HW.cpu(), expected.batch.images_B1HW)
                assert torch.equal(found.batch.sample_index_B.cpu(), expected.batch.sample_index_B)

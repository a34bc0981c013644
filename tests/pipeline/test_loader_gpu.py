"""Laws of loaders on a GPU that a CPU cannot show: streams, pinned memory, what stays on the device."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from manifests.errors import ConfigError
from pipeline.encoding import Encoding
from pipeline.loaders.gathered import GatheredLoader
from pipeline.tar_index import read_tar_index
from tests.loader_cases import CASES_WITH_PIXELS, Case, Packs, opened, over, write_packs
from tests.pack_writer import write_pack
from tests.raw_pack import numbered_images

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU here"),
]

NUM_IMAGES, SIZE_PX = 120, 64


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> Packs:
    return write_packs(tmp_path_factory.mktemp("gpu"), numbered_images(NUM_IMAGES, SIZE_PX), rows_per_shard=50)


@over(CASES_WITH_PIXELS)
def test_a_batch_that_is_dropped_is_not_written_under_waiting_kernels(case: Case, packs: Packs) -> None:
    """The consumer's stream is far behind when Python lets go of the batches, and must still see the right pixels."""
    images_NHW = torch.from_numpy(numbered_images(NUM_IMAGES, SIZE_PX)).cuda()
    consumer = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    different = torch.zeros((), dtype=torch.int64, device="cuda")
    busy = torch.randn(2048, 2048, device="cuda")
    with torch.cuda.stream(consumer), opened(packs, case, batch_size=16, device="cuda") as loader:
        for epoch in range(10):
            for step in loader.train_batches(epoch):
                busy = busy @ busy / busy.norm()
                expected = images_NHW[step.batch.sample_index_B]
                different += (step.batch.images_B1HW[:, 0] != expected).sum()
                del step
    torch.cuda.synchronize()
    assert int(different) == 0


@over([Case("raw", "raw"), Case("ffcv", "beton")])
def test_buffers_on_the_way_to_a_gpu_are_pinned(case: Case, packs: Packs) -> None:
    with opened(packs, case, device="cuda") as loader:
        assert isinstance(loader, GatheredLoader)
        assert torch.from_numpy(loader._new_buffer()).is_pinned()


@over([Case("resident", "raw"), Case("resident", "beton")])
def test_resident_batches_need_no_thread_and_no_transfer_of_images(case: Case, packs: Packs) -> None:
    with opened(packs, case, device="cuda", verify=False) as loader:
        before = threading.active_count()
        for step in loader.train_batches(0):
            assert step.batch.images_B1HW.is_cuda
            assert threading.active_count() == before


def test_what_does_not_fit_on_the_gpu_is_refused(packs: Packs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (1 << 18, 1 << 30))
    with pytest.raises(ConfigError, match=r"does not fit: 120 images x 64 x 64 px .* on cuda are .*--loader raw"):
        opened(packs, Case("resident", "raw"), device="cuda")


def test_damaged_images_are_skipped_on_a_gpu(tmp_path: Path) -> None:
    images_NHW = numbered_images(40, SIZE_PX)
    pack = write_pack(tmp_path, images_NHW, pack_format="tar", encoding=Encoding(quality=95))
    index = read_tar_index(pack)
    with index.files[0].open("r+b") as file:
        file.seek(int(index.offset_N[9]))
        file.write(bytes(100))
    with opened({"tar": pack}, Case("dali", "tar"), device="cuda", on_corrupt="skip") as loader:
        for epoch in range(2):
            steps = list(loader.train_batches(epoch))
            index_n = torch.cat([step.batch.sample_index_B for step in steps]).cpu().numpy()
            assert sorted(index_n) == sorted([-1, *(i for i in range(40) if i != 9)])
            images_n1HW = torch.cat([step.batch.images_B1HW for step in steps]).cpu().numpy()
            assert not images_n1HW[index_n < 0].any()
            difference = np.abs(images_n1HW[index_n >= 0, 0].astype(int) - images_NHW[index_n[index_n >= 0]])
            assert difference.mean() < 8  # noise through a JPEG
    assert loader.skipped_samples == (9,)

"""A profile on a GPU: nothing waits for the device while steps are recorded, and what is slow there is named."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.batch import Batch
from pipeline.loaders import LoadedStep
from pipeline.loaders.device_stream import DeviceStream
from tests.trainer.tiny_runs import NVUM, settings
from trainer.config import TrainConfig
from trainer.data import open_training_data
from trainer.distributed import ALONE
from trainer.ema import EMATeacher
from trainer.profile.measurements import Measurements
from trainer.profile.profile import profile
from trainer.profile.recorder import DeviceClock, MeasuredStep, Recorder
from trainer.profile.verdict import verdict_of
from trainer.sections import build
from trainer.settle import settle
from trainer.state import new_state

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU here"),
]

SECONDS = 8.0


@pytest.fixture
def waiting_is_an_error() -> Iterator[None]:
    yield
    torch.cuda.set_sync_debug_mode("default")


def on_gpu(pack: Path) -> Measurements:
    measured = profile(settings(pack, NVUM, run={"device": "cuda"}), max_seconds=SECONDS)
    assert measured is not None
    return measured


@pytest.mark.usefixtures("waiting_is_an_error")
def test_recording_a_step_waits_for_nothing(tiny_pack: Path) -> None:
    data = open_training_data(tiny_pack, space_name="nvum-nih", prior_form="authors")
    values = settings(tiny_pack, NVUM, run={"device": "cuda"})
    config = settle(build(TrainConfig, values, source="test"), data.pack, ALONE)
    device = torch.device("cuda")
    state = new_state(
        config, num_rows=64, num_outputs=len(data.space.findings), device=device, load_weights=False, ranks=ALONE
    )
    step = MeasuredStep(config, data, state)
    recorder = step.recorder = Recorder(DeviceClock(device))
    rows_B = data.train.sample_index_n[:8]
    batch = Batch(torch.zeros((8, 1, 32, 32), dtype=torch.uint8, device=device), torch.from_numpy(rows_B).to(device))
    recorder.switch("other")
    for number in range(5):
        if number == 2:
            torch.cuda.set_sync_debug_mode("error")
        step(LoadedStep(batch, 8, 8), rows_B)
        recorder.end_step(num_images=8, is_first=False)
    torch.cuda.set_sync_debug_mode("default")
    read = recorder.read()
    assert len(read) == 5
    assert all(span.wall_s >= 0 for step_read in read for span in step_read.spans)
    assert {span.part for span in read[0].spans} >= {"augment", "forward", "teacher", "backward", "optimiser + EMA"}


def test_a_slow_link_is_copying(tiny_pack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    send = DeviceStream.send

    def slow(self: DeviceStream, batch: Batch) -> Batch:
        time.sleep(0.05 * len(batch.sample_index_B) / 8)
        return send(self, batch)

    monkeypatch.setattr(DeviceStream, "send", slow)
    measured = on_gpu(tiny_pack)
    assert verdict_of(measured).cause == "COPY"
    assert measured.ranks[0].stages["host to device"].num_bytes > 0


def test_a_busy_device_is_computing(tiny_pack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The teacher's update keeps the device busy, not the host: a clock on the host would not see where."""
    update = EMATeacher.update

    def busy(self: EMATeacher, *arguments: Any, **options: Any) -> None:
        torch.cuda._sleep(100_000_000)  # type: ignore[no-untyped-call]
        update(self, *arguments, **options)

    monkeypatch.setattr(EMATeacher, "update", busy)
    measured = on_gpu(tiny_pack)
    verdict = verdict_of(measured)
    assert verdict.cause == "COMPUTE"
    assert verdict.repair.assumption == "the part optimiser + EMA cost nothing"
    busy_share = measured.ranks[0].device_busy
    assert busy_share is not None
    assert 0.5 < busy_share <= 1.0

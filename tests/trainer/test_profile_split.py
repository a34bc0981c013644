"""Where the time of a step goes: recorded without gaps, told apart rank by rank."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.trainer.profile_cases import steps
from trainer.profile.device_busy import covered
from trainer.profile.measurements import PartName
from trainer.profile.page_cache import Piece, cached, drop
from trainer.profile.recorder import Moment, Recorder
from trainer.profile.split import Quantiles, mean_parts_s, splits, timeline


class FakeClock:
    """A clock that somebody else moves; half the time is a core's."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def mark(self) -> float:
        return self.now_s

    def moments(self, marks: Sequence[float]) -> list[Moment]:
        return [Moment(mark, mark / 2) for mark in marks]


def test_every_moment_belongs_to_one_part_also_of_parts_within_parts() -> None:
    clock = FakeClock()
    recorder = Recorder(clock)

    def work(part: PartName, seconds: float) -> None:
        with recorder.part(part):
            clock.now_s += seconds

    recorder.switch("other")
    for number in range(2):
        work("data wait", 1.0)
        work("forward", 2.0)
        with recorder.part("loss + memory"):
            clock.now_s += 0.5
            work("teacher", 4.0)
            clock.now_s += 0.25
        with recorder.part("backward"):
            clock.now_s += 8.0
            recorder.switch("all-reduce")
            clock.now_s += 16.0
        clock.now_s += 0.125
        recorder.end_step(num_images=3 + number, is_first=number == 0)
    read = recorder.read()
    assert [(step.num_images, step.is_first, step.wall_s) for step in read] == [(3, True, 31.875), (4, False, 31.875)]
    for step in read:
        ends = [span.end_s for span in step.spans]
        assert [span.begin_s for span in step.spans][1:] == ends[:-1], "no gap, no overlap"
        assert all(span.core_s == span.wall_s / 2 for span in step.spans)
    (split,) = splits([read[1:]])
    assert split.mean_s == {
        "data wait": 1.0, "forward": 2.0, "teacher": 4.0, "backward": 8.0, "loss + memory": 0.75, "all-reduce": 16.0,
        "other": 0.125,
    }  # fmt: skip
    assert split.share("backward") == 8 / 31.875


def test_what_warmed_up_is_forgotten() -> None:
    clock = FakeClock()
    recorder = Recorder(clock)
    with recorder.part("forward"):
        clock.now_s += 50
    recorder.end_step(num_images=1, is_first=True)
    recorder.forget()
    recorder.switch("other")
    with recorder.part("backward"):
        clock.now_s += 2
    recorder.end_step(num_images=1, is_first=False)
    (step,) = recorder.read()
    assert step.wall_s == 2
    assert step.spans[0].begin_s == 0


def test_the_first_step_of_an_epoch_stands_apart_where_there_are_others() -> None:
    parts: dict[PartName, float] = {"data wait": 0.5, "forward": 1.0}
    waited = (*steps(parts, num_steps=2, first=True), *steps({"data wait": 0.0, "forward": 1.0}))
    (split,) = splits([waited])
    assert split.parts["data wait"].max_s == 0.5, "of the second step"
    (only,) = splits([steps(parts, num_steps=1, first=True)])
    assert only.step_s == 1.5


def test_waiting_for_a_slower_rank_is_told_from_the_sums() -> None:
    """The shortest stretch after the last gradient is what the sums take; the rest of the others' is waiting."""
    of_ranks = splits(
        [
            steps({"forward": 1.0, "all-reduce": 0.75}),
            steps({"forward": 1.5, "all-reduce": 0.25}),
            steps({"forward": 1.25, "all-reduce": 0.5}),
        ]
    )
    assert [split.mean_s.get("idle", 0.0) for split in of_ranks] == pytest.approx([0.5, 0.0, 0.25])
    assert [split.mean_s["all-reduce"] for split in of_ranks] == pytest.approx([0.25] * 3)
    assert [split.own_s for split in of_ranks] == pytest.approx([1.0, 1.5, 1.25])
    assert [split.step_s for split in of_ranks] == pytest.approx([1.75] * 3)
    assert [set(split.mean_s) for split in of_ranks] == [
        {"forward", "all-reduce", "idle"}, {"forward", "all-reduce"}, {"forward", "all-reduce", "idle"},
    ]  # fmt: skip
    assert mean_parts_s(of_ranks) == pytest.approx({"forward": 1.25, "all-reduce": 0.25, "idle": 0.25})


def test_quantiles() -> None:
    assert Quantiles.of([3.0, 1.0, 2.0]) == Quantiles(p50_s=2.0, p99_s=3.0, max_s=3.0)
    hundreds = Quantiles.of([float(number) for number in range(200)])
    assert (hundreds.p50_s, hundreds.p99_s, hundreds.max_s) == (99.5, 198.0, 199.0)


def test_the_timeline_shows_the_last_steps_from_nothing_on() -> None:
    shown = list(timeline(steps({"data wait": 1.0, "forward": 3.0}, num_steps=5), 2))
    assert shown == [
        ("data wait", 0.0, 1.0), ("forward", 1.0, 4.0), ("data wait", 4.0, 5.0), ("forward", 5.0, 8.0),
    ]  # fmt: skip


def test_a_gpu_is_busy_while_at_least_one_kernel_runs() -> None:
    assert covered([(4.0, 6.0), (0.0, 2.0), (1.0, 3.0), (1.5, 1.75)]) == 5.0


def test_dropping_pages_changes_no_file(tmp_path: Path) -> None:
    """What was read is in the page cache; after it was dropped at most as much is, and the bytes are the same."""
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 4096)
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
        pieces = [Piece(file, offset, 1000) for offset in range(0, 1 << 20, 1 << 16)]
        os.pread(file, 1 << 20, 0)
        assert cached(pieces) == 1.0
        assert 0.0 <= drop(pieces) <= 1.0
        assert os.pread(file, 256, 512) == bytes(range(256))
        assert cached(pieces[:1]) == 1.0, "it was read again"
    finally:
        os.close(file)

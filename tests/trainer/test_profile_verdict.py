"""Verdict and prediction follow exactly from recorded times, for every cause."""

from dataclasses import replace

import pytest

from tests.trainer.profile_cases import BATCH, PARTS, RATES, measured, on_cpu, rank_measured
from trainer.profile.measurements import Measurements, PartName, StageName
from trainer.profile.model import limits_of
from trainer.profile.verdict import verdict_of
from trainer.profile.what_if import exposed_reduce_s, what_ifs

STEP_RATE = BATCH / sum(PARTS.values())
RAW = "raw instead of encoded images"


def disk_of_a_pack_larger_than_memory() -> Measurements:
    """A quarter of the pack is cached; a read of the rest takes 1/50 s."""
    ranks = [rank_measured(rates=RATES | {"disk": 50.0}, wait_s=0.07)]
    return measured(ranks, train_bytes=8 << 30, free_bytes=2 << 30)


def slow_storage() -> Measurements:
    """Reading is as slow when it is asked again: no page cache helps."""
    rates = RATES | {"disk": 12.0, "page cache": 12.5, "loader": 12.5}
    return measured([rank_measured(rates=rates, wait_s=0.7)])


def slow_decoder() -> Measurements:
    rates = RATES | {"decode": 50.0, "loader": 40.0}
    return measured([rank_measured(rates=rates, core_s={"decode": 0.02, "loader": 0.021}, wait_s=0.17)])


def slow_link() -> Measurements:
    return measured([rank_measured(rates=RATES | {"host to device": 50.0, "loader": 50.0}, wait_s=0.12)])


def huge_augmentation() -> Measurements:
    ranks = [rank_measured(parts=PARTS | {"augment": 0.8}, rates=RATES | {"normalise": 10_000.0}, cores=1.0)]
    return on_cpu(measured(ranks))


def slow_network() -> Measurements:
    return measured()


def slow_sums() -> Measurements:
    parts = PARTS | {"all-reduce": 0.4}
    return measured([rank_measured(rank, parts=parts) for rank in range(2)])


def one_slow_rank() -> Measurements:
    """Rank 1 takes 0.8 s longer to go forward; the others wait that long after their last gradient, and 0.01 s more."""
    fast = PARTS | {"all-reduce": 0.81}
    slow = PARTS | {"forward": PARTS["forward"] + 0.8, "all-reduce": 0.01}
    return measured([rank_measured(rank, parts=slow if rank == 1 else fast) for rank in range(4)])


@pytest.mark.parametrize(
    ("case", "cause", "bound", "predicted", "option"),
    [
        # Three quarters are read at 50/s, a quarter at 20,000/s; in memory the step is what is left.
        (disk_of_a_pack_larger_than_memory, "DISK", "", STEP_RATE, "cxr-prep pack --size 128"),
        (slow_storage, "DISK", "", STEP_RATE, "a local disk for the pack"),
        (slow_decoder, "DECODE", "", STEP_RATE, "cxr-prep pack --format raw"),
        (slow_link, "COPY", "", STEP_RATE, "--loader resident"),
        (
            huge_augmentation,
            "AUGMENT",
            "at most",
            BATCH / (sum(PARTS.values()) - PARTS["augment"] + BATCH / 10_000),
            "a GPU",
        ),
        (slow_network, "COMPUTE", "at most", BATCH / (sum(PARTS.values()) - PARTS["backward"]), "loader.batch_size=20"),
        (slow_sums, "COMMUNICATION", "at most", 2 * STEP_RATE, "loader.batch_size=20"),
        (one_slow_rank, "STRAGGLER", "", 4 * BATCH / (sum(PARTS.values()) + 0.01), "other processes"),
    ],
)
def test_every_cause_has_its_verdict_its_option_and_its_exact_prediction(
    case: object, cause: str, bound: str, predicted: float, option: str
) -> None:
    found = case()  # type: ignore[operator]
    verdict = verdict_of(found)
    assert (verdict.cause, verdict.repair.bound) == (cause, bound)
    assert verdict.repair.images_per_s == pytest.approx(predicted)
    assert any(option in text for text in verdict.repair.options)
    assert verdict.evidence[0].startswith("Steps waited for data ")


def test_the_model_gives_the_rate_as_it_is() -> None:
    assert limits_of(disk_of_a_pack_larger_than_memory()).images_per_s == pytest.approx(1 / (0.75 / 50 + 0.25 / 20_000))
    assert limits_of(slow_decoder()).images_per_s == pytest.approx(40)
    assert limits_of(one_slow_rank()).images_per_s == pytest.approx(4 * BATCH / (sum(PARTS.values()) + 0.81))
    assert verdict_of(slow_decoder()).is_explained
    assert verdict_of(slow_decoder()).images_per_s == pytest.approx(BATCH / (sum(PARTS.values()) + 0.17))


def test_the_straggler_is_named_with_its_machine_and_the_part_in_which_it_loses() -> None:
    verdict = verdict_of(one_slow_rank())
    assert (verdict.rank, verdict.title) == (1, "STRAGGLER (rank 1)")
    assert "Rank 1 on host0 takes 800 ms a step longer" in verdict.evidence[1]
    assert verdict.evidence[1].endswith("most of it in: forward.")


@pytest.mark.parametrize("cores", [1.0, 0.0])
def test_a_straggler_that_computes_gives_its_cores_back(cores: float) -> None:
    """Of three ranks on three cores one computes 0.8 s longer a step; without it a step is as long as the others'."""
    slow: dict[PartName, float] = {**PARTS, "forward": PARTS["forward"] + 0.8}
    ranks = [
        rank_measured(0, parts=PARTS | {"all-reduce": 0.8}, cores=0.05, num_cores=1.0),
        rank_measured(1, parts=PARTS | {"all-reduce": 0.8}, cores=0.05, num_cores=1.0),
        rank_measured(2, parts=slow, cores=cores, num_cores=1.0),
    ]
    verdict = verdict_of(on_cpu(measured(ranks)))
    assert (verdict.cause, verdict.rank) == ("STRAGGLER", 2)
    assert verdict.repair.images_per_s == pytest.approx(3 * BATCH / sum(PARTS.values()))


def test_a_rank_whose_loader_is_slow_holds_up_all_and_is_named() -> None:
    """Every step needs a batch of every rank: two ranks are as fast as twice the slower."""
    slow = RATES | {"decode": 10.0, "loader": 10.0}
    found = measured([rank_measured(0), rank_measured(1, rates=slow, wait_s=0.9)])
    verdict = verdict_of(found)
    assert verdict.cause == "DECODE"
    assert "Rank 1 is the slowest: 10 images/s, the others 1,500." in verdict.evidence
    assert limits_of(found).images_per_s == pytest.approx(20)


@pytest.mark.parametrize(("loading_core_s", "cause"), [(0.03, "DECODE"), (0.001, "COMPUTE")])
def test_on_a_cpu_loading_and_computing_share_the_cores(loading_core_s: float, cause: str) -> None:
    """Two cores; the step keeps both busy for 8 ms an image, loading needs some of them too: seconds add up."""
    core_s = {"loader": loading_core_s, "decode": loading_core_s}
    ranks = [rank_measured(rates=RATES, core_s=core_s, cores=2.0, num_cores=2.0)]  # type: ignore[arg-type]
    found = on_cpu(measured(ranks))
    limits, verdict = limits_of(found), verdict_of(found)
    assert limits.bound_by == "cores"
    assert limits.images_per_s == pytest.approx(2 / (loading_core_s + 2 * sum(PARTS.values()) / BATCH))
    assert verdict.cause == cause
    assert any("share 2 cores" in sentence for sentence in verdict.evidence)


def test_a_raw_pack_has_another_loader_which_needs_the_cores_of_gathering_alone() -> None:
    """What the loader does beside decoding, 30 ms of a core an image, goes with it; gathering needs 0.1 ms."""
    core_s: dict[StageName, float] = {"loader": 0.05, "decode": 0.02, "gather": 0.0001}
    found = on_cpu(measured([rank_measured(core_s=core_s, cores=2.0, num_cores=2.0)]))
    verdict = verdict_of(found)
    assert verdict.cause == "DECODE"
    assert verdict.repair.images_per_s == pytest.approx(2 / (0.0001 + 2 * sum(PARTS.values()) / BATCH))
    assert verdict.repair.images_per_s == {row.what: row.images_per_s for row in what_ifs(found)}[RAW]


def test_a_raw_pack_that_does_not_fit_into_memory_is_read_from_the_disk() -> None:
    """An image of 256 x 256 bytes, read at as many bytes a second as those of 8 KiB: 500 of these."""
    rates = RATES | {"decode": 50.0, "loader": 40.0, "disk": 500.0}
    found = measured([rank_measured(rates=rates)], train_bytes=10_000 * 8192, free_bytes=100 << 20)
    verdict = verdict_of(found)
    assert verdict.cause == "DECODE"
    assert verdict.repair.images_per_s == pytest.approx(500 / 8)
    assert verdict.repair.images_per_s == {row.what: row.images_per_s for row in what_ifs(found)}[RAW]


@pytest.mark.parametrize("part", ["augment", "loss + memory"])
@pytest.mark.parametrize(
    ("of_the_part", "of_the_rest", "bound"),
    [
        (0.01, 1.0, "at least"),
        (1.0, 1.0, "at most"),
        (1.0, 8.0, "at most"),  # one thread among eight computes
        (0.3, 0.3, "at most"),  # the cores are somebody else's: every part gets a third of one
        (0.01, 0.3, "at least"),
    ],
)
def test_without_a_part_that_waits_the_rate_is_a_floor_and_without_one_that_computes_a_ceiling(
    part: PartName, of_the_part: float, of_the_rest: float, bound: str
) -> None:
    """What follows a pause is slower than it is without one, so that more than the pause is won."""
    parts = PARTS | {part: 0.8}
    rank = rank_measured(parts=parts)
    synthetic = tuple(
        replace(
            step,
            spans=tuple(
                replace(span, core_s=span.wall_s * (of_the_part if span.part == part else of_the_rest))
                for span in step.spans
            ),
        )
        for step in rank.synthetic
    )
    verdict = verdict_of(on_cpu(measured([replace(rank, synthetic=synthetic, num_cores=8.0)])))
    assert verdict.repair.bound == bound
    floor_s = BATCH / RATES["normalise"] if part == "augment" else 0.0
    assert verdict.repair.images_per_s == pytest.approx(BATCH / (sum(parts.values()) - 0.8 + floor_s))
    said = any(f"The part {part} waits rather than computes" in sentence for sentence in verdict.evidence)
    assert said == (bound == "at least")


def test_a_loader_that_reads_nothing_ahead_adds_up_with_the_step() -> None:
    rates = RATES | {"decode": 60.0, "loader": 50.0}
    found = measured([rank_measured(rates=rates)], subject={"loader": "reference"})
    assert limits_of(found).images_per_s == pytest.approx(1 / (1 / 50 + 1 / STEP_RATE))
    verdict = verdict_of(found)
    assert verdict.cause == "DECODE"
    assert verdict.repair.images_per_s == pytest.approx(STEP_RATE), "raw reads ahead"
    on_gpu = measured(subject={"loader": "resident", "pack_format": "raw"})
    assert limits_of(on_gpu).images_per_s == pytest.approx(1 / (1 / 1500 + 1 / STEP_RATE))


def test_a_loader_that_waits_for_a_cold_disk_is_told_from_one_that_is_slow() -> None:
    cold = RATES | {"disk": 60.0, "loader": 50.0}
    assert verdict_of(measured([rank_measured(rates=cold)])).cause == "DISK"
    slow = RATES | {"loader": 50.0}
    assert verdict_of(measured([rank_measured(rates=slow)])).cause == "DECODE"


def test_what_is_no_bound_but_costs_much_is_named_beside_the_verdict() -> None:
    parts = PARTS | {"augment": 0.02, "all-reduce": 0.015}
    verdict = verdict_of(measured([rank_measured(rank, parts=parts) for rank in range(2)]))
    assert verdict.cause == "COMPUTE"
    assert [aside.cause for aside in verdict.asides] == ["AUGMENT", "COMMUNICATION"]
    assert verdict.asides[0].share == pytest.approx(0.02 / sum(parts.values()))


def test_a_rate_that_the_stages_do_not_explain_is_said() -> None:
    found = measured([replace(rank_measured(), epoch=rank_measured(wait_s=1.0).epoch)])
    assert not verdict_of(found).is_explained


def test_options_fit_what_was_profiled() -> None:
    raw = {"loader": "raw", "pack_format": "raw"}
    stages: dict[StageName, float] = {**RATES, "page cache": 10.0, "loader": 10.0}
    del stages["decode"]
    found = measured([rank_measured(rates=stages, wait_s=0.9)], subject=raw)
    assert verdict_of(found).repair.options[0].startswith("--loader resident: all images in memory (1.00 GiB")
    slow: dict[StageName, float] = {**stages, "page cache": 20_000.0, "loader": 10.0, "disk": 20_000.0}
    threads = verdict_of(measured([rank_measured(rates=slow)], subject=raw))
    assert threads.repair.options[0] == "--set loader.num_threads=4: as many as cores"
    assert threads.repair.images_per_s == pytest.approx(20), "twice the threads"
    fp32 = verdict_of(measured(subject={"precision": "fp32"}))
    assert fp32.repair.options[0] == "--set step.precision=bf16"


def test_what_if_table_by_the_model() -> None:
    found = slow_decoder()
    rows = {row.what: row for row in what_ifs(found)}
    assert rows["as it is"].images_per_s == pytest.approx(40)
    assert rows["as it is"].hours == pytest.approx(3 * 10_000 / 40 / 3600)
    assert rows["twice the cores"].images_per_s == pytest.approx(80)
    assert rows["all cached"].images_per_s == pytest.approx(40)
    assert rows[RAW].images_per_s == pytest.approx(STEP_RATE)
    assert rows["decoding on the GPU"].images_per_s is None, "it is decoded there already"
    # Two loaders with threads of their own, but the four cores that decoding needs are shared: 4 / 0.021 s.
    assert rows["2 GPUs"].images_per_s == pytest.approx(80)
    assert rows["8 GPUs"].images_per_s == pytest.approx(4 / 0.021)


def test_more_gpus_pay_for_the_sums_that_the_backward_pass_does_not_hide() -> None:
    assert exposed_reduce_s(4, num_bytes=100.0, link_bytes_per_s=10.0, backward_s=5.0) == pytest.approx(10)
    assert exposed_reduce_s(4, num_bytes=100.0, link_bytes_per_s=10.0, backward_s=20.0) == 0
    rows = {row.what: row.images_per_s for row in what_ifs(measured(num_params=2_500_000_000))}
    # 10 GB of gradients over 50 GB/s, half of it twice: 0.2 s, of which the 0.04 s of the backward pass hide some.
    assert rows["2 GPUs"] == pytest.approx(2 * BATCH / (sum(PARTS.values()) + 0.2 - 0.04))
    rows = {row.what: row.images_per_s for row in what_ifs(one_slow_rank())}
    assert rows["2 GPUs"] is rows["4 GPUs"] is None
    assert rows["8 GPUs"] is not None


def test_a_first_epoch_reads_from_the_disk() -> None:
    rows = {row.what: row.images_per_s for row in what_ifs(measured([rank_measured(rates=RATES | {"disk": 50.0})]))}
    assert rows["as it is"] == pytest.approx(STEP_RATE)
    assert rows["first epoch, nothing cached"] == pytest.approx(50)

"""What an image costs by resource, from what a profile measured: the numbers that the model computes with."""

from collections.abc import Mapping, Sequence
from statistics import fmean

from trainer.profile.limits import Limits
from trainer.profile.measurements import Measurements, PartName, RankMeasurements, StageName, Subject
from trainer.profile.split import RankSplit, core_s, mean_parts_s, splits

WAITS_BELOW = 0.5
"""Cores that a part keeps busy, or share of those that the rest of the step does: below, it waits."""


def limits_of(measured: Measurements) -> Limits:
    """Return what an image costs, from what was measured."""
    ranks = measured.ranks
    of_synthetic = splits([rank.synthetic for rank in ranks])
    images_a_step = sum(split.num_images for split in of_synthetic)
    mean_s, mean_core_s = mean_parts_s(of_synthetic), core_s(ranks)
    parts_s = {part: seconds / images_a_step for part, seconds in mean_s.items()}
    images_a_rank = images_a_step / len(ranks)
    parts_core_s = {part: seconds / images_a_rank for part, seconds in mean_core_s.items()}
    cold_s, cached_s = _together(ranks, "disk"), _together(ranks, "page cache")
    gather_s, gather_core_s = _together(ranks, "gather"), _cores(ranks, "gather")
    is_decoded = "decode" in ranks[0].stages
    missing = max(0.0, 1 - measured.free_bytes / measured.train_bytes) if measured.train_bytes else 0.0
    slowest, lost_s = straggler(of_synthetic)
    return Limits(
        loader_s=_together(ranks, "loader"),
        loader_core_s=_cores(ranks, "loader"),
        read_s=(1 - missing) * cached_s + missing * cold_s,
        cold_s=cold_s,
        cached_s=cached_s,
        decode_s=_together(ranks, "decode") if is_decoded else gather_s,
        decode_core_s=_cores(ranks, "decode") if is_decoded else gather_core_s,
        gather_s=gather_s,
        gather_core_s=gather_core_s,
        copy_s=_together(ranks, "host to device"),
        step_s=fmean(split.step_s for split in of_synthetic) / images_a_step,
        step_core_s=sum(parts_core_s.values()),
        parts_s=parts_s,
        parts_core_s=parts_core_s,
        augment_floor_s=_together(ranks, "normalise"),
        waiting=_waiting(mean_s, mean_core_s) if measured.subject.device == "cpu" else frozenset(),
        straggler_s=lost_s / images_a_step,
        straggler_core_s=_more_core_s(ranks, slowest) / images_a_rank,
        cores=sum(rank.num_cores for rank in ranks),
        reads_ahead=_reads_ahead(measured.subject),
        reads_beside_decoding=measured.subject.loader == "dali",
    )


def stored_raw(limits: Limits, measured: Measurements) -> tuple[Limits, bool]:
    """Return the limits if pixels lay raw in the pack, and whether all of it would fit into the page cache."""
    pixels_bytes = measured.subject.pack_size_px**2 * measured.num_train
    fits = pixels_bytes <= measured.free_bytes
    from_disk_s = limits.cold_s * pixels_bytes / max(measured.train_bytes, 1)  # as many bytes a second as now
    return limits.gathered(read_s=0.0 if fits else from_disk_s), fits


def straggler(of_ranks: Sequence[RankSplit]) -> tuple[int, float]:
    """Return the slowest rank, and the seconds a step that it takes longer than the others do on average."""
    slowest = max(of_ranks, key=lambda split: split.own_s)
    others = [split.own_s for split in of_ranks if split is not slowest]
    return slowest.rank, slowest.own_s - fmean(others) if others else 0.0


def _more_core_s(ranks: Sequence[RankMeasurements], slowest: int) -> float:
    """Return the core seconds a step by which the mean of all ranks exceeds that of the others."""
    others = [rank for rank in ranks if rank.rank != slowest]
    more_s = sum(core_s(ranks).values()) - sum(core_s(others).values()) if others else 0.0
    return max(0.0, more_s)


def _waiting(parts_s: Mapping[PartName, float], cores_s: Mapping[PartName, float]) -> frozenset[PartName]:
    """Return the parts of a step that wait, from the seconds and the core seconds of all of them.

    Where other processes take the cores every part seems to: one that waits is idle beside the rest of the step, too.
    """
    step_s, step_cores_s = sum(parts_s.values()), sum(cores_s.values())
    waiting = set()
    for part, seconds in parts_s.items():
        busy_s, rest_s = cores_s.get(part, 0.0), step_s - seconds
        of_the_rest = (step_cores_s - busy_s) / rest_s if rest_s > 0 else 1.0
        if busy_s < WAITS_BELOW * seconds * min(1.0, of_the_rest):
            waiting.add(part)
    return frozenset(waiting)


def _reads_ahead(subject: Subject) -> bool:
    """Tell whether a loader has threads of its own."""
    return subject.loader != "reference" and (subject.loader, subject.device) != ("resident", "cuda")


def _together(ranks: Sequence[RankMeasurements], stage: StageName) -> float:
    """Return the seconds an image of a stage, all ranks at work; 0 where it does not exist.

    Every step needs a batch of every rank, so that the slowest decides for all.
    """
    found = [rank.stages[stage].image_s for rank in ranks if stage in rank.stages]
    return max(found) / len(found) if found else 0.0


def _cores(ranks: Sequence[RankMeasurements], stage: StageName) -> float:
    """Return the core seconds an image of a stage; 0 where it does not exist."""
    found = [rank.stages[stage].image_core_s for rank in ranks if stage in rank.stages]
    return fmean(found) if found else 0.0

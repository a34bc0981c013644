"""How fast training can be, from what its stages need: the model behind verdict and predictions.

The loader works while the step computes, so that they do not add up; what they share does::

    seconds an image  =  max( loader,                        batches that nobody waits for
                              reading,                       where the pack does not fit into the page cache
                              step,                          on a batch that is there already
                              (loader + step core seconds) / cores )

    loader  =  at least reading from the page cache, decoding or gathering, copying to the GPU
    step    =  augment + forward + teacher + backward + loss + optimiser + all-reduce + waiting for the slowest rank

A loader that only works when it is asked (`reference`; `resident` on a GPU) adds up with the step. On a CPU the step
needs the cores that the loader needs, and the last line is then the one that counts: the two add up.
All numbers are of all ranks together: each rank measured while the others did the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Literal

from trainer.profile.measurements import Measurements, PartName, RankMeasurements, StageName, Subject
from trainer.profile.split import RankSplit, core_s, mean_parts_s, splits

Resource = Literal["loader", "reading", "step", "cores"]

STEP_PARTS: tuple[PartName, ...] = ("forward", "teacher", "backward", "loss + memory", "optimiser + EMA", "other")
"""Parts that compute, the augmentation aside."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What an image costs, in seconds of each resource; over all ranks together."""

    loader_s: float
    """Of the loader by itself, with its threads; 0: no loader."""

    loader_core_s: float
    """Of cores, for loading."""

    read_s: float
    """Reading as a later epoch meets it: from the page cache, and from the disk what does not fit there."""

    cold_s: float
    """Reading from the disk alone."""

    cached_s: float
    """Reading from the page cache alone."""

    decode_s: float
    """Decoding, or gathering where images lie as they are."""

    decode_core_s: float
    """Of cores, for the same."""

    gather_s: float
    """Gathering images of this size that lie in memory as they are."""

    gather_core_s: float
    """Of cores, for the same."""

    copy_s: float
    """To a GPU; 0 without one."""

    step_s: float
    """Of a step on a batch that is there."""

    step_core_s: float
    """Of cores, for the same."""

    parts_s: dict[PartName, float]
    """What the step's seconds are made of."""

    parts_core_s: dict[PartName, float]
    """What its core seconds are made of."""

    augment_floor_s: float
    """What preparing an image takes without augmentation."""

    straggler_s: float
    """What the slowest rank costs beyond the others' mean."""

    cores: float
    """That all ranks may use."""

    reads_ahead: bool
    """Whether the loader works while the step computes."""

    reads_beside_decoding: bool
    """Whether, within the loader, reading goes on while other threads decode."""

    @property
    def cores_s(self) -> float:
        """Seconds an image if nothing but the cores were short."""
        return (self.loader_core_s + self.step_core_s) / self.cores

    @property
    def resources(self) -> dict[Resource, float]:
        """Seconds an image by the resource that is short."""
        return {"loader": self.loader_s, "reading": self.read_s, "step": self.step_s, "cores": self.cores_s}

    @property
    def image_s(self) -> float:
        """Seconds an image, as the model has it."""
        one_after_the_other_s = 0.0 if self.reads_ahead else self.loader_s + self.step_s
        return max(one_after_the_other_s, *self.resources.values())

    @property
    def images_per_s(self) -> float:
        """Images a second, as the model has it."""
        return 1 / self.image_s

    @property
    def bound_by(self) -> Resource:
        """The resource that is short."""
        return max(self.resources, key=lambda resource: self.resources[resource])

    def reading_from_memory(self) -> "Limits":
        """Return the limits if what is read lay in memory: gathered instead of read."""
        return self._with_loader_part(
            self.read_s, min(self.read_s, self.gather_s), read_s=min(self.read_s, self.gather_s)
        )

    def all_cached(self) -> "Limits":
        """Return the limits if no read waited for the disk."""
        return self._with_loader_part(self.read_s, self.cached_s, read_s=self.cached_s)

    def uncached(self) -> "Limits":
        """Return the limits of an epoch whose every read waits for the disk."""
        return replace(self, read_s=max(self.read_s, self.cold_s), loader_s=max(self.loader_s, self.cold_s))

    def gathered(self) -> "Limits":
        """Return the limits if images lay in the pack as they are: nothing to decode."""
        spared_core_s = max(0.0, self.decode_core_s - self.gather_core_s)
        return self._with_loader_part(
            self.decode_s,
            min(self.decode_s, self.gather_s),
            decode_s=min(self.decode_s, self.gather_s),
            loader_core_s=max(0.0, self.loader_core_s - spared_core_s),
            reads_ahead=True,
        )

    def without_copy(self) -> "Limits":
        """Return the limits if images were on the GPU already."""
        return self._with_loader_part(self.copy_s, 0.0, copy_s=0.0)

    def with_loader_threads(self, times: float) -> "Limits":
        """Return the limits if the loader had that many times the threads; a disk that is waited for stays as it is."""
        waits_for_disk = self.read_s > self.cached_s
        read_s = self.read_s if waits_for_disk else self.read_s / times
        return replace(
            self,
            loader_s=max(self.loader_s / times, self.copy_s, read_s),
            read_s=read_s,
            cached_s=self.cached_s / times,
            decode_s=self.decode_s / times,
        )

    def without_part(self, part: PartName, *, left_s: float = 0.0) -> "Limits":
        """Return the limits if a part of the step took `left_s` seconds an image."""
        before_s = self.parts_s.get(part, 0.0)
        spared_s = max(0.0, before_s - left_s)
        share = spared_s / before_s if before_s else 0.0
        spared_core_s = share * self.parts_core_s.get(part, 0.0)
        return replace(
            self,
            step_s=self.step_s - spared_s,
            step_core_s=max(0.0, self.step_core_s - spared_core_s),
            parts_s=self.parts_s | {part: before_s - spared_s},
            parts_core_s=self.parts_core_s | {part: self.parts_core_s.get(part, 0.0) - spared_core_s},
        )

    def without_straggler(self) -> "Limits":
        """Return the limits if the slowest rank were as fast as the others are on average."""
        return replace(self, step_s=self.step_s - self.straggler_s, straggler_s=0.0)

    def with_cores(self, times: float, *, step_on_cores: bool) -> "Limits":
        """Return the limits with that many times the cores, and threads for them, used perfectly."""
        more = self.with_loader_threads(times)
        step_s = self.step_s / times if step_on_cores else self.step_s
        return replace(more, cores=self.cores * times, step_s=step_s)

    def _with_loader_part(self, before_s: float, after_s: float, **changes: float) -> "Limits":
        """Return the limits if a part of the loader's work took less: no more than that is won, and no other part."""
        changed = replace(self, **changes)  # type: ignore[arg-type]  # numbers and, of reads_ahead, a truth value
        if not self.loader_s:
            return changed
        others_s = max(changed.read_s, changed.decode_s, changed.copy_s)
        if self.reads_beside_decoding and before_s >= self.loader_s / 2:  # the others were hidden behind it
            return replace(changed, loader_s=others_s)
        return replace(changed, loader_s=max(self.loader_s - (before_s - after_s), others_s))


def limits_of(measured: Measurements) -> Limits:
    """Return what an image costs, from what was measured."""
    ranks = measured.ranks
    of_synthetic = splits([rank.synthetic for rank in ranks])
    images_a_step = sum(split.num_images for split in of_synthetic)
    parts_s = {part: seconds / images_a_step for part, seconds in mean_parts_s(of_synthetic).items()}
    images_a_rank = images_a_step / len(ranks)
    parts_core_s = {part: seconds / images_a_rank for part, seconds in core_s(ranks).items()}
    cold_s, cached_s = _together(ranks, "disk"), _together(ranks, "page cache")
    gather_s, gather_core_s = _together(ranks, "gather"), _cores(ranks, "gather")
    is_decoded = "decode" in ranks[0].stages
    missing = max(0.0, 1 - measured.free_bytes / measured.train_bytes) if measured.train_bytes else 0.0
    normalise_s = _together(ranks, "normalise")
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
        augment_floor_s=normalise_s,
        straggler_s=straggler(of_synthetic)[1] / images_a_step,
        cores=sum(rank.num_cores for rank in ranks),
        reads_ahead=_reads_ahead(measured.subject),
        reads_beside_decoding=measured.subject.loader == "dali",
    )


def straggler(of_ranks: Sequence[RankSplit]) -> tuple[int, float]:
    """Return the slowest rank, and the seconds a step that it takes longer than the others do on average."""
    slowest = max(of_ranks, key=lambda split: split.own_s)
    others = [split.own_s for split in of_ranks if split is not slowest]
    return slowest.rank, slowest.own_s - fmean(others) if others else 0.0


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

"""The seconds of a step by part, of every rank: medians, and what ranks wait for one another."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median

from trainer.profile.measurements import PARTS, PartName, RankMeasurements, Span, StepTimes


@dataclass(frozen=True, kw_only=True)
class Quantiles:
    """Of the seconds that a part takes in a step."""

    p50_s: float
    p99_s: float
    max_s: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Quantiles":
        """Return them of at least one step; p99 is the largest where there are fewer than a hundred."""
        ordered = sorted(seconds)
        place = min(len(ordered) - 1, int(0.99 * len(ordered)))
        return cls(p50_s=median(ordered), p99_s=ordered[place], max_s=ordered[-1])


@dataclass(frozen=True, kw_only=True)
class RankSplit:
    """What the steady steps of one rank are made of."""

    rank: int
    """Which one."""

    parts: dict[PartName, Quantiles]
    """Of the parts that it has, in the order of `PARTS`."""

    mean_s: dict[PartName, float]
    """Mean seconds of the same: they add up to the step's."""

    step: Quantiles
    """Whole steps."""

    step_s: float
    """Mean of whole steps."""

    num_images: float
    """Mean images a step, of this rank."""

    @property
    def own_s(self) -> float:
        """Mean seconds of a step in which it waits for no other rank."""
        return self.step_s - self.mean_s.get("idle", 0.0) - self.mean_s.get("all-reduce", 0.0)

    @property
    def images_per_s(self) -> float:
        """Of this rank."""
        return self.num_images / self.step_s

    def share(self, part: PartName) -> float:
        """Return the share of a part in the time of the steps."""
        return self.mean_s.get(part, 0.0) / self.step_s


def splits(steps_of_ranks: Sequence[Sequence[StepTimes]]) -> list[RankSplit]:
    """Return the split of each rank's steady steps: all but the first of an epoch, where there are others."""
    of_ranks = told_apart([steady(steps) for steps in steps_of_ranks])
    return [_split(rank, steps, [_by_part(step) for step in steps]) for rank, steps in enumerate(of_ranks)]


def told_apart(steps_of_ranks: Sequence[Sequence[StepTimes]]) -> list[list[StepTimes]]:
    """Return the same steps with `idle` told from `all-reduce`, which a rank by itself cannot.

    After its last gradient a rank waits for the sums over ranks and, in the same stretch, for ranks that are slower.
    The slowest waits for the sums alone: the shortest such stretch of a step is `all-reduce`, on every rank, and what a
    rank waits beyond it is `idle`, which comes first.
    """
    if len(steps_of_ranks) == 1:
        return [list(steps_of_ranks[0])]
    apart: list[list[StepTimes]] = [[] for _ in steps_of_ranks]
    for at_once in zip(*steps_of_ranks, strict=True):
        stretches_s = [_by_part(step).get("all-reduce", 0.0) for step in at_once]
        for steps, step, stretch_s in zip(apart, at_once, stretches_s, strict=True):
            steps.append(replace(step, spans=tuple(_idle_first(step, stretch_s - min(stretches_s)))))
    return apart


def _idle_first(step: StepTimes, idle_s: float) -> Iterator[Span]:
    """Yield the spans of a step, the first `idle_s` seconds of `all-reduce` as `idle`."""
    for span in step.spans:
        waited_s = min(idle_s, span.wall_s) if span.part == "all-reduce" else 0.0
        idle_s -= waited_s
        if waited_s > 0:
            yield replace(span, part="idle", end_s=span.begin_s + waited_s, core_s=0.0)
        yield replace(span, begin_s=span.begin_s + waited_s) if waited_s else span


def steady(steps: Sequence[StepTimes]) -> list[StepTimes]:
    """Return the steps whose batch could be read ahead; all, where each is the first of an epoch."""
    return [step for step in steps if not step.is_first] or list(steps)


def core_s(ranks: Sequence[RankMeasurements]) -> dict[PartName, float]:
    """Return the core seconds of each part of a step on a constant batch, where only the step works; means of ranks."""
    sums: dict[PartName, float] = {}
    for rank in ranks:
        steps = steady(rank.synthetic)
        for step in steps:
            for span in step.spans:
                sums[span.part] = sums.get(span.part, 0.0) + span.core_s / len(steps) / len(ranks)
    return sums


def mean_parts_s(of_ranks: Sequence[RankSplit]) -> dict[PartName, float]:
    """Return the mean seconds of each part over ranks, in the order of `PARTS`."""
    return {
        part: fmean(rank.mean_s.get(part, 0.0) for rank in of_ranks)
        for part in PARTS
        if any(part in rank.mean_s for rank in of_ranks)
    }


def timeline(steps: Sequence[StepTimes], num_steps: int) -> Iterator[tuple[PartName, float, float]]:
    """Yield part, begin and end of the spans of the last steps, in seconds since the first of these began."""
    last = steps[-num_steps:]
    begin_s = last[0].spans[0].begin_s
    for step in last:
        for span in step.spans:
            yield span.part, span.begin_s - begin_s, span.end_s - begin_s


def _by_part(step: StepTimes) -> dict[PartName, float]:
    seconds: dict[PartName, float] = {}
    for span in step.spans:
        seconds[span.part] = seconds.get(span.part, 0.0) + span.wall_s
    return seconds


def _split(rank: int, steps: Sequence[StepTimes], seconds: Sequence[Mapping[PartName, float]]) -> RankSplit:
    there = [part for part in PARTS if any(part in parts for parts in seconds)]
    columns = {part: [parts.get(part, 0.0) for parts in seconds] for part in there}
    whole = [step.wall_s for step in steps]
    return RankSplit(
        rank=rank,
        parts={part: Quantiles.of(column) for part, column in columns.items()},
        mean_s={part: fmean(column) for part, column in columns.items()},
        step=Quantiles.of(whole),
        step_s=fmean(whole),
        num_images=fmean(step.num_images for step in steps),
    )

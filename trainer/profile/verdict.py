"""What training is bound by, the evidence, and the option to turn.

The model names the resource that is short; within it the largest part gives the verdict its name. A cause that is not
the bound but takes more than a tenth of a step is named beside it.
"""

from dataclasses import dataclass
from statistics import fmean
from typing import Literal, NamedTuple

from trainer.profile.limits import STEP_PARTS, Limits
from trainer.profile.measurements import Measurements, RankMeasurements, StageName
from trainer.profile.model import limits_of, straggler
from trainer.profile.repairs import Repair, largest_part, repair
from trainer.profile.split import RankSplit, splits

Cause = Literal["DISK", "DECODE", "COPY", "AUGMENT", "COMPUTE", "COMMUNICATION", "STRAGGLER"]

WORTH_NAMING = 0.1
"""Share of a step from which a cause is named that is not the bound."""

EXPLAINED_WITHIN = 0.25
"""Between the rate that the model computes and the one that was measured; beyond that the report says so."""


class Aside(NamedTuple):
    """A cause that costs time but is not what training is bound by."""

    cause: Cause
    share: float
    """Of a step."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What training is bound by."""

    cause: Cause
    """Its name."""

    rank: int | None
    """Which one, where one rank is slower than the others."""

    evidence: tuple[str, ...]
    """Sentences with the numbers that say so."""

    repair: Repair
    """What would help, and the rate that it would give."""

    images_per_s: float
    """Of all ranks, steady steps as they run."""

    model_images_per_s: float
    """The same as the model computes it from the stages."""

    asides: tuple[Aside, ...]
    """What else costs time, the most first."""

    @property
    def title(self) -> str:
        """The verdict in a few words."""
        return self.cause if self.rank is None else f"{self.cause} (rank {self.rank})"

    @property
    def is_explained(self) -> bool:
        """Whether the stages explain the measured rate."""
        return abs(self.model_images_per_s / self.images_per_s - 1) <= EXPLAINED_WITHIN


def verdict_of(measured: Measurements) -> Verdict:
    """Return what training is bound by."""
    limits = limits_of(measured)
    of_epoch = splits([rank.epoch for rank in measured.ranks])
    of_synthetic = splits([rank.synthetic for rank in measured.ranks])
    cause = _cause(limits)
    slowest, _ = straggler(of_synthetic)
    shares = step_shares(limits)
    return Verdict(
        cause=cause,
        rank=slowest if cause == "STRAGGLER" else None,
        evidence=tuple(_evidence(cause, measured, limits, of_epoch, of_synthetic)),
        repair=repair(cause, measured, limits),
        images_per_s=images_per_s(of_epoch),
        model_images_per_s=limits.images_per_s,
        asides=tuple(
            sorted(
                (
                    Aside(other, share)
                    for other, share in shares.items()
                    if other not in (cause, "COMPUTE") and share > WORTH_NAMING
                ),
                key=lambda aside: -aside.share,
            )
        ),
    )


def images_per_s(of_ranks: list[RankSplit]) -> float:
    """Return the rate of all ranks together, whose steps take equally long."""
    return sum(split.num_images for split in of_ranks) / fmean(split.step_s for split in of_ranks)


def step_shares(limits: Limits) -> dict[Cause, float]:
    """Return the shares of a step on a constant batch, by the cause that they would be."""
    return {
        "AUGMENT": limits.parts_s.get("augment", 0.0) / limits.step_s,
        "COMPUTE": sum(limits.parts_s.get(part, 0.0) for part in STEP_PARTS) / limits.step_s,
        "COMMUNICATION": limits.parts_s.get("all-reduce", 0.0) / limits.step_s,
        "STRAGGLER": limits.straggler_s / limits.step_s,
    }


def _cause(limits: Limits) -> Cause:
    bound_by = limits.bound_by
    if bound_by == "cores":
        bound_by = "loader" if limits.loader_core_s > limits.step_core_s else "step"
    if bound_by == "step":
        shares = step_shares(limits)
        return max(shares, key=lambda cause: shares[cause])
    if bound_by == "reading":
        return "DISK"
    stages: dict[Cause, float] = {"DISK": limits.read_s, "DECODE": limits.decode_s, "COPY": limits.copy_s}
    largest = max(stages, key=lambda cause: stages[cause])
    if stages[largest] >= limits.loader_s / 2:
        return largest
    # None of them alone explains the loader: what it read was not in the page cache yet, or making batches is slow.
    return "DISK" if limits.cold_s >= limits.loader_s / 2 else "DECODE"


def _evidence(
    cause: Cause, measured: Measurements, limits: Limits, of_epoch: list[RankSplit], of_synthetic: list[RankSplit]
) -> list[str]:
    """Return the numbers behind a verdict, as sentences."""
    waits = fmean(split.share("data wait") for split in of_epoch)
    said = [f"Steps waited for data {waits:.0%} of their time."]
    ranks = measured.ranks
    if cause in ("DISK", "DECODE", "COPY"):
        said.append(
            f"The loader by itself gives {_rate(limits.loader_s)} images/s, the step on a constant batch takes "
            f"{_rate(limits.step_s)}."
        )
    match cause:
        case "DISK":
            said.append(
                f"Reading gives {_rate(limits.cached_s)} images/s from the page cache, {_rate(limits.cold_s)} from the "
                f"disk; what becomes batches of it, {_rate(limits.decode_s)}."
            )
            said.append(_slowest(ranks, "disk"))
        case "DECODE":
            what = "Decoding" if "decode" in ranks[0].stages else "Gathering"
            said.append(
                f"{what} gives {_rate(limits.decode_s)} images/s, reading {_rate(limits.read_s)}; loading needs "
                f"{limits.loader_core_s * 1e3:.3g} ms of a core an image."
            )
            said.append(_slowest(ranks, "loader"))
        case "COPY":
            said.append(f"Copies to the GPU give {_rate(limits.copy_s)} images/s.")
        case "STRAGGLER":
            slowest, lost_s = straggler(of_synthetic)
            part = _slower_part(of_synthetic, slowest)
            said.append(
                f"Rank {slowest} on {ranks[slowest].host} takes {lost_s * 1e3:.3g} ms a step longer than the others, "
                f"which wait for it; most of it in: {part}."
            )
        case "COMMUNICATION":
            said.append(f"Sums over ranks that nothing hides take {step_shares(limits)[cause]:.0%} of a step.")
        case "AUGMENT" | "COMPUTE":
            parts = sorted(limits.parts_s.items(), key=lambda item: -item[1])[:3]
            listed = ", ".join(f"{part} {seconds / limits.step_s:.0%}" for part, seconds in parts)
            said.append(f"Of a step on a constant batch: {listed}.")
            part = "augment" if cause == "AUGMENT" else largest_part(limits)
            if part in limits.waiting:
                said.append(f"The part {part} waits rather than computes; what follows may be faster without.")
    if limits.bound_by == "cores":
        said.append(
            f"Loading and computing share {limits.cores:g} cores: {limits.loader_core_s * 1e3:.3g} ms and "
            f"{limits.step_core_s * 1e3:.3g} ms of a core an image."
        )
    return [sentence for sentence in said if sentence]


def _slowest(ranks: tuple[RankMeasurements, ...], stage: StageName) -> str:
    """Return a sentence where one rank's stage is slower than that of the others by a tenth or more; else nothing."""
    found = [(rank.stages[stage].images_per_s, rank.rank) for rank in ranks if stage in rank.stages]
    if len(found) < 2:
        return ""
    rate, rank = min(found)
    mean = fmean(other for other, number in found if number != rank)
    return f"Rank {rank} is the slowest: {shown(rate)} images/s, the others {shown(mean)}." if rate < 0.9 * mean else ""


def _slower_part(of_ranks: list[RankSplit], slowest: int) -> str:
    """Return the part in which a rank loses the most against the mean of the others."""
    others = [split for split in of_ranks if split.rank != slowest]
    lost_s = {
        part: seconds - fmean(split.mean_s.get(part, 0.0) for split in others)
        for part, seconds in of_ranks[slowest].mean_s.items()
        if part not in ("idle", "all-reduce")
    }
    return max(lost_s, key=lambda part: lost_s[part])


def shown(rate: float) -> str:
    """Return a rate as people read it: three digits, four where it is below 10,000."""
    if rate < 100:
        return f"{rate:.3g}"
    return f"{rate if rate < 10_000 else float(f'{rate:.3g}'):,.0f}"


def _rate(image_s: float) -> str:
    return shown(1 / image_s) if image_s else "n/a"

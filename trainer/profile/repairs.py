"""What would help against each cause, and the rate that it would give by the model.

A prediction replaces one term by another that was measured; where the other is not known (a faster network), the term
becomes nothing and the rate is what could be reached at most. Of a part that waits it is the least to be expected; see
`trainer.profile.limits`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from trainer.profile.limits import STEP_PARTS, Limits
from trainer.profile.measurements import Measurements, PartName
from trainer.profile.model import stored_raw

GIB = 1 << 30

Bound = Literal["", "at most", "at least"]


@dataclass(frozen=True, kw_only=True)
class Repair:
    """An option to turn."""

    options: tuple[str, ...]
    """What to do, the best first."""

    assumption: str
    """What the predicted rate assumes."""

    images_per_s: float
    """Of all ranks, afterwards."""

    bound: Bound
    """Whether the rate is a ceiling or a floor rather than what is to be expected."""


def repair(cause: str, measured: Measurements, limits: Limits) -> Repair:
    """Return what would help against a cause, a name of `trainer.profile.verdict.Cause`."""
    match cause:
        case "DISK":
            after = limits.reading_from_memory()
            return _repair(_disk(measured), "all images lay in memory", after)
        case "DECODE" if "decode" in measured.ranks[0].stages:
            after, _ = stored_raw(limits, measured)
            return _repair(_decode(measured), "pixels lay raw in the pack", after)
        case "DECODE":
            times = max(1.0, measured.ranks[0].num_cores / measured.subject.loader_threads)
            assumption = f"there were {times:g} times the threads" if times > 1 else "it were gathered from memory"
            after = limits.with_loader_threads(times) if times > 1 else limits.gathered()
            return _repair(_threads(measured), assumption, after)
        case "COPY":
            return _repair(
                ["--loader resident: the images stay on the GPU", "cxr-prep pack --size: smaller images"],
                "nothing were copied",
                limits.without_copy(),
            )
        case "AUGMENT":
            after = limits.without_part("augment", left_s=limits.augment_floor_s)
            return _repair(_augment(measured), "images were not augmented", after, _bound("augment", limits))
        case "COMMUNICATION":
            return _repair(
                [
                    f"--set loader.batch_size={2 * measured.subject.batch_size}: fewer sums for as many images",
                    "a faster link between the ranks",
                ],
                "the sums hid behind the backward pass",
                limits.without_part("all-reduce"),
                "at most",
            )
        case "STRAGGLER":
            return _repair(
                ["look for other processes, a lower clock or a slower link on that rank's machine, or leave it out"],
                "that rank were as fast as the others",
                limits.without_straggler(),
            )
        case _:
            largest = largest_part(limits)
            after = limits.without_part(largest)
            return _repair(_compute(measured), f"the part {largest} cost nothing", after, _bound(largest, limits))


def largest_part(limits: Limits) -> PartName:
    """Return the part that computing takes the longest for."""
    return max(STEP_PARTS, key=lambda part: limits.parts_s.get(part, 0.0))


def _bound(part: PartName, limits: Limits) -> Bound:
    return "at least" if part in limits.waiting else "at most"


def _repair(options: Iterator[str] | list[str], assumption: str, after: Limits, bound: Bound = "") -> Repair:
    return Repair(options=tuple(options), assumption=assumption, images_per_s=after.images_per_s, bound=bound)


def _disk(measured: Measurements) -> Iterator[str]:
    subject = measured.subject
    if measured.train_bytes < measured.free_bytes:
        size = f"{measured.train_bytes / GIB:.2f} GiB, {measured.free_bytes / GIB:.1f} are free"
        if subject.pack_format in ("raw", "beton") and subject.loader != "resident":
            yield f"--loader resident: all images in memory ({size})"
        yield f"a local disk for the pack; it fits into the page cache ({size})"
    else:
        yield f"cxr-prep pack --size {subject.pack_size_px // 2}: a quarter of the pixels"
        if subject.pack_format == "raw":
            yield "cxr-prep pack --format tar: fewer bytes, if there are cores to decode them"
        yield "more memory for the page cache, or a faster disk"


def _decode(measured: Measurements) -> Iterator[str]:
    yield "cxr-prep pack --format raw, then --loader raw: nothing to decode"
    yield from _threads(measured)


def _threads(measured: Measurements) -> Iterator[str]:
    subject, cores = measured.subject, int(measured.ranks[0].num_cores)
    if cores > subject.loader_threads:
        yield f"--set loader.num_threads={cores}: as many as cores"
    if subject.pack_format in ("raw", "beton") and subject.loader != "resident":
        yield "--loader resident: all images in memory"
    yield f"cxr-prep pack --size: smaller images (now {subject.pack_size_px} px)"


def _augment(measured: Measurements) -> Iterator[str]:
    if measured.slower_path:
        yield measured.slower_path
    subject = measured.subject
    if subject.device == "cpu":
        if subject.torch_threads < int(measured.ranks[0].num_cores):
            yield f"--set run.num_threads={int(measured.ranks[0].num_cores)}: as many as cores"
        yield "a GPU, which augments a batch in one launch"
    yield f"--set model.input_size_px: smaller than {subject.input_size_px} px"
    yield "--set augment.recipe=none: only to see what it costs"


def _compute(measured: Measurements) -> Iterator[str]:
    subject = measured.subject
    if subject.device == "cuda":
        if subject.precision == "fp32":
            yield "--set step.precision=bf16"
        yield f"--set loader.batch_size={2 * subject.batch_size}: larger batches, as long as memory lasts"
        yield "--set step.compile=true: minutes at the start, faster steps"
        yield "more GPUs: torchrun --nproc-per-node N -m trainer.cli"
    else:
        if subject.torch_threads < int(measured.ranks[0].num_cores):
            yield f"--set run.num_threads={int(measured.ranks[0].num_cores)}: as many as cores"
        yield "a GPU"
        yield f"--set model.input_size_px: smaller than {subject.input_size_px} px"
        if subject.model != "small":
            yield "--model small"

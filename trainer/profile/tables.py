"""What a profile says, as tables of words: for the terminal and for the page."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from trainer.display import duration
from trainer.profile.limits import Limits
from trainer.profile.measurements import Measurements, Stage, StageName
from trainer.profile.split import Quantiles, RankSplit, splits
from trainer.profile.verdict import Verdict, images_per_s, shown
from trainer.profile.what_if import WhatIf

GIB = 1 << 30

MEANINGS: dict[StageName, str] = {
    "disk": "read from the disk",
    "page cache": "read from the page cache",
    "decode": "decode",
    "gather": "gather raw pixels in memory",
    "host to device": "copy to the GPU",
    "normalise": "prepare, no augmentation",
    "augment": "prepare, augmented",
    "loader": "loader by itself",
}


class Table(NamedTuple):
    """Rows of words; the first column is a name, the others are numbers."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    num_texts: int = 0
    """How many of the last columns are words."""


def rates(measured: Measurements) -> Table:
    """Return images a second of every stage, of all ranks together; a core, where cores do it; a device."""
    device = "GPU" if measured.subject.device == "cuda" else "process"
    rows = []
    for name, meaning in MEANINGS.items():
        stages = [rank.stages[name] for rank in measured.ranks if name in rank.stages]
        if stages:
            rows.append((meaning, *_rate_cells(stages, max(stage.image_s for stage in stages)), _note(stages)))
        else:
            rows.append((meaning, "n/a", "n/a", "n/a", _why_missing(name, measured)))
    for meaning, steps in (
        ("step on a constant batch", [rank.synthetic for rank in measured.ranks]),
        ("steps as they run", [rank.epoch for rank in measured.ranks]),
    ):
        of_ranks = splits(steps)
        rate = images_per_s(of_ranks)
        cores = sum(rank.num_cores for rank in measured.ranks)
        rows.append((meaning, shown(rate), shown(rate / cores), shown(rate / len(of_ranks)), ""))
    return Table(
        "Images a second, each by itself", ("what", "in all", "a core", f"a {device}", "note"), rows, num_texts=1
    )


def step_split(measured: Measurements) -> list[Table]:
    """Return the split of a step of each rank, and of all ranks together where there are several."""
    of_ranks = splits([rank.epoch for rank in measured.ranks])
    tables = [
        _split_table(split, f"Rank {split.rank} on {measured.ranks[split.rank].host}", measured) for split in of_ranks
    ]
    if len(of_ranks) == 1:
        return [tables[0]._replace(title=f"A step: {len(measured.ranks[0].epoch)} steps as they run")]
    parts = list(dict.fromkeys(part for split in of_ranks for part in split.parts))
    header = ("mean ms a step", *(f"rank {split.rank}" for split in of_ranks))
    rows = [(part, *(f"{split.mean_s.get(part, 0.0) * 1e3:,.2f}" for split in of_ranks)) for part in parts]
    rows.append(("step", *(f"{split.step_s * 1e3:,.2f}" for split in of_ranks)))
    rows.append(("images/s", *(shown(split.images_per_s) for split in of_ranks)))
    whole = f"All ranks: {shown(images_per_s(of_ranks))} images/s, {len(measured.ranks[0].epoch)} steps as they run"
    return [Table(whole, header, rows), *tables]


def what_if_table(rows: list[WhatIf]) -> Table:
    """Return the what-ifs as a table."""
    return Table(
        "What if",
        ("what", "images/s", "this run", "by the model, assuming"),
        [
            (
                row.what,
                "n/a" if row.images_per_s is None else shown(row.images_per_s),
                "n/a" if row.hours is None else duration(row.hours * 3600),
                row.assumption,
            )
            for row in rows
        ],
        num_texts=1,
    )


def environment_rows(measured: Measurements) -> list[tuple[str, str]]:
    """Return where it was measured, name by name."""
    found = measured.environment
    rows = [
        ("date", found.date),
        ("CPU", f"{found.cpu}, {found.num_cores} cores usable"),
        ("memory", f"{found.memory_bytes / GIB:.1f} GiB, {measured.free_bytes / GIB:.1f} GiB free"),
        ("GPU", f"{found.gpu}, {found.gpu_memory_bytes / GIB:.0f} GiB" if found.gpu else "none"),
    ]
    if found.gpu:
        rows.append(("driver", f"{found.driver}, CUDA {found.cuda}"))
    rows.append(("Python", found.python))
    rows += list(found.packages.items())
    rows.append(("load before", f"{found.load:g} processes that wanted a core"))
    return rows


def subject_rows(measured: Measurements) -> list[tuple[str, str]]:
    """Return what was measured, name by name."""
    subject = measured.subject
    return [
        ("loader", f"{subject.loader}, {subject.loader_threads} threads"),
        (
            "pack",
            f"{subject.pack_format}, {subject.pack_size_px} px, {measured.train_bytes / (1 << 30):.3f} GiB of train",
        ),
        ("network", f"{subject.model}, {subject.input_size_px} px, {measured.num_params:,} parameters"),
        ("loss", subject.loss + (" with an EMA teacher" if subject.teacher else "")),
        ("precision", subject.precision),
        ("batch", f"{subject.batch_size} images a rank"),
        ("device", subject.device + (f", {subject.torch_threads} threads" if subject.device == "cpu" else "")),
        ("processes", str(subject.world_size)),
        ("augmentation", "yes" if subject.augmented else "no"),
        ("run", f"{measured.num_train:,} images x {measured.epochs} epochs"),
    ]


def sentences(verdict: Verdict, measured: Measurements, limits: Limits) -> Iterator[str]:
    """Yield the verdict as a person would say it, after its title."""
    yield from verdict.evidence
    repaired = verdict.repair
    yield (
        f"Now {shown(verdict.images_per_s)} images/s; {repaired.bound}{' ' if repaired.bound else ''}"
        f"{shown(repaired.images_per_s)} if {repaired.assumption}."
    )
    for aside in verdict.asides:
        yield f"Besides, {aside.cause} takes {aside.share:.0%} of a step."
    busy = measured.ranks[0].device_busy
    if busy is not None:
        yield f"The GPU of rank 0 was busy {busy:.0%} of the time of steps on a constant batch."
    first = max(rank.first_batch_s for rank in measured.ranks)
    yield f"The first batch of all took {first * 1e3:,.0f} ms; the numbers are of the steps after it."
    if not verdict.is_explained:
        load, cores = measured.environment.load, measured.environment.num_cores
        yield (
            f"Caution: by the model it would be {shown(limits.images_per_s)} images/s. The stages do not explain the "
            f"measured rate; others may be busy on this machine (before, {load:g} processes wanted its {cores} cores)."
        )


def _split_table(split: RankSplit, title: str, measured: Measurements) -> Table:
    def cells(quantiles: Quantiles) -> tuple[str, ...]:
        return tuple(f"{value * 1e3:,.2f}" for value in (quantiles.p50_s, quantiles.p99_s, quantiles.max_s))

    rows = []
    for part, quantiles in split.parts.items():
        rows.append((part, *cells(quantiles), f"{split.share(part):.1%}"))
        if part == "data wait":
            copied = measured.ranks[split.rank].stages.get("host to device")
            if copied is not None:
                copy_ms = copied.image_s * split.num_images * 1e3
                rows.append(("copy, beside the step", f"{copy_ms:,.2f}", "n/a", "n/a", "hidden"))
    rows.append(("step", *cells(split.step), "100.0%"))
    return Table(title, ("part", "p50 ms", "p99 ms", "max ms", "share"), rows)


def _rate_cells(stages: list[Stage], slowest_s: float) -> tuple[str, str, str]:
    in_all = len(stages) / slowest_s
    core_s = sum(stage.image_core_s for stage in stages) / len(stages)
    return shown(in_all), shown(1 / core_s) if core_s > 0 else "n/a", shown(in_all / len(stages))


def _note(stages: list[Stage]) -> str:
    speed = sum(stage.num_bytes for stage in stages) / max(stage.wall_s for stage in stages)
    return "; ".join(filter(None, [f"{speed / 1e6:,.0f} MB/s" if speed else "", stages[0].note]))


def _why_missing(name: StageName, measured: Measurements) -> str:
    if measured.subject.loader == "synthetic":
        return "a constant batch"
    if name == "host to device":
        return "there is no GPU"
    if name == "decode":
        return f"a {measured.subject.pack_format} pack"
    return ""

"""From a manifest and a release to a pack: plan, pack the shards, write what describes them, publish."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from manifests.table import read_manifest
from pipeline.errors import PackError, TooManyRejectsError
from pipeline.packing.config import PackConfig
from pipeline.packing.describe import describe
from pipeline.packing.finished import finished_pack, reasons_of
from pipeline.packing.missing import missing_shards_error, nothing_to_finish
from pipeline.packing.outcome import PackSummary, RangeSummary
from pipeline.packing.partial import PartialPack
from pipeline.packing.plan import PackPlan, make_plan
from pipeline.packing.ray_engine import pack_shards_on_ray
from pipeline.packing.rejects import RejectCount, count_reasons
from pipeline.packing.resume import kept_shard
from pipeline.packing.shard import ImagesDone, PackedShard, ShardTask
from pipeline.packing.workers import WorkerDiedError, pack_shards

OnProgress = Callable[[int, int], None]
"""Gets the number of images done and of all images."""


@dataclass(kw_only=True)
class _Shards:
    """The shards of one run, as far as they are finished."""

    finished: list[PackedShard] = field(default_factory=list)
    num_resumed: int = 0
    rejects: RejectCount

    @property
    def reasons(self) -> dict[str, int]:
        """Reason -> images, the most frequent first."""
        return dict(Counter(image.reason for shard in self.finished for image in shard.rejected).most_common())


def pack_manifest(
    manifest: Path,
    *,
    root: Path | Mapping[str, Path],
    out: Path,
    config: PackConfig,
    on_progress: OnProgress = lambda done, total: None,
) -> PackSummary:
    """Pack the images of a manifest, which lie below `root`, into the folder `out`.

    The images of a merged manifest may lie below a root for each of its datasets: dataset -> folder.

    The same manifest, images, spec and format give the same bytes of every file, for any number of workers, ranges or
    machines and after any interruption. Until everything is there it grows in `<out>.partial`. With `config.finish` no
    image is opened: all shards must be there. `on_progress` gets the number of images done and of all images. With
    `config.resume` or `config.finish` a pack that is complete already is returned as it is.

    Raises:
        ConfigError, ManifestError: options or rows that cannot be packed; nothing was written.
        PackError: `out` exists (and is not that pack) or cannot be written, another pack was interrupted there, a
            process died, no image was usable, or (`finish`) shards are missing. Finished shards stay in `<out>.partial`
            for `PackConfig.resume`.
        TooManyRejectsError: more images than `config.max_rejects` are rejected.
    """
    assert config.shard_range is None
    started_s = time.perf_counter()
    plan = make_plan(read_manifest(manifest), manifest, config)
    if out.is_dir() and (config.resume or config.finish):
        pack = finished_pack(plan, out)
        return PackSummary(
            pack=pack,
            rejected_by_reason=reasons_of(pack),
            num_resumed=pack.num_samples,
            elapsed_s=time.perf_counter() - started_s,
        )
    roots, partial = _prepare(plan, root, out)
    if config.finish and not partial.plan_file.is_file():
        raise nothing_to_finish(partial)
    numbers = range(plan.num_shards)
    with (
        _explained(partial),
        partial.locked(plan.to_json(), numbers, resume=config.resume or config.finish),
    ):
        shards = _pack_shards(plan, numbers, roots, partial, on_progress)
        if sum(shards.reasons.values()) == plan.num_samples:
            partial.discard()
            folders = ", ".join(map(str, roots.values()))
            raise PackError(
                f"{folders}: none of the {plan.num_samples:,} images can be packed "
                f"({count_reasons(Counter(shards.reasons))}); "
                "is this the folder that the manifest's paths start from? Name it with --root"
            )
        pack = describe(plan, shards.finished, partial)
        partial.publish()
    return PackSummary(
        pack=pack,
        rejected_by_reason=shards.reasons,
        num_resumed=shards.num_resumed,
        elapsed_s=time.perf_counter() - started_s,
    )


def pack_range(
    manifest: Path,
    *,
    root: Path | Mapping[str, Path],
    out: Path,
    config: PackConfig,
    on_progress: OnProgress = lambda done, total: None,
) -> RangeSummary:
    """Pack the shards of `config.shard_range` into `<out>.partial`, beside what other ranges pack there.

    Run again after an interruption it keeps what it has finished. When all ranges are done, `pack_manifest` with
    `finish` makes the pack of them.

    Raises:
        as `pack_manifest`; PackError also where another process is packing some of these shards.
    """
    assert config.shard_range is not None
    started_s = time.perf_counter()
    plan = make_plan(read_manifest(manifest), manifest, config)
    roots, partial = _prepare(plan, root, out)
    numbers = config.shard_range.numbers(plan.num_shards)
    with (
        _explained(partial),
        partial.locked(plan.to_json(), numbers, resume=True, shard_range=config.shard_range),
    ):
        shards = _pack_shards(plan, numbers, roots, partial, on_progress)
    return RangeSummary(
        partial=partial,
        num_shards=len(numbers),
        num_samples=sum(shard.num_samples for shard in shards.finished),
        rejected_by_reason=shards.reasons,
        num_resumed=shards.num_resumed,
        elapsed_s=time.perf_counter() - started_s,
    )


def roots_of(plan: PackPlan, root: Path | Mapping[str, Path]) -> dict[str, Path]:
    """Return dataset -> folder of its release for the datasets of `plan`: one for all, or one for each.

    Raises:
        PackError: a dataset has none, or one that is no folder.
    """
    roots = {}
    for dataset in plan.datasets:
        folder = root.get(dataset) if isinstance(root, Mapping) else root
        if folder is None:
            raise PackError(f"where the images of dataset {dataset!r} lie is not known; add --root {dataset}=DIR")
        if not folder.is_dir():
            raise PackError(f"{folder}: no such folder; name the release's folder with --root")
        roots[dataset] = folder.resolve()
    return roots


def _prepare(plan: PackPlan, root: Path | Mapping[str, Path], out: Path) -> tuple[dict[str, Path], PartialPack]:
    """Return from where `plan` is packed, and where the pack grows."""
    roots = roots_of(plan, root)
    if out.exists():
        raise PackError(f"{out}: exists already; name another folder with --out, or delete it to pack again")
    return roots, PartialPack.of(out)


def _pack_shards(
    plan: PackPlan, numbers: range, roots: Mapping[str, Path], partial: PartialPack, on_progress: OnProgress
) -> _Shards:
    """Return the shards `numbers` in order of sample_index: those that are there, and with them the others."""
    config = plan.config
    total = min(numbers.stop * plan.samples_per_shard, plan.num_samples) - numbers.start * plan.samples_per_shard
    shards = _Shards(rejects=RejectCount(num_samples=plan.num_samples, limit=config.max_rejects, path_of=plan.path_of))
    done = 0

    def on_images(images: ImagesDone) -> None:
        nonlocal done
        done += images.count
        on_progress(done, total)
        shards.rejects.add(images.rejected)

    left = []
    for number in numbers:
        kept = None
        if partial.sidecar(number).is_file():  # else its task, with all its paths, would be made in vain
            kept = kept_shard(plan.task(number, roots, partial), read_again=config.verify == "full")
        if kept is None:
            left.append(number)
            continue
        shards.finished.append(kept)
        shards.num_resumed += kept.num_samples
        rejected = tuple((image.sample_index, image.reason) for image in kept.rejected)
        on_images(ImagesDone(count=kept.num_samples, rejected=rejected))
    if left and config.finish:
        raise missing_shards_error(partial, left, plan.num_shards)
    tasks = (plan.task(number, roots, partial) for number in left)
    shards.finished += _run(config, tasks, len(left), on_images)
    shards.finished.sort(key=lambda shard: shard.first_index)
    return shards


def _run(
    config: PackConfig, tasks: Iterable[ShardTask], num_tasks: int, on_images: Callable[[ImagesDone], None]
) -> Iterator[PackedShard]:
    """Return the engine's iterator over finished shards."""
    if config.engine == "ray":
        return pack_shards_on_ray(tasks, num_tasks, config.num_workers, on_images)
    return pack_shards(tasks, num_tasks, config.num_workers, on_images)


@contextmanager
def _explained(partial: PartialPack) -> Iterator[None]:
    """Turn what the operating system says about writing into an error that says what is left and how to go on."""
    kept = f"finished shards are kept in {partial.folder}"
    try:
        yield
    except OSError as error:
        where = error.filename or partial.folder
        left = (
            f"{kept}: repair that, then continue with --resume"
            if partial.plan_file.exists()
            else "name a folder that can be written with --out"
        )
        raise PackError(f"{where}: cannot be written ({error.strerror or error}); {left}") from error
    except WorkerDiedError as error:
        raise PackError(f"{error}; {kept}: continue with --resume") from error
    except TooManyRejectsError as error:
        raise TooManyRejectsError(f"{error}\n{kept}: to go on, use --resume and a higher --max-rejects") from error

"""From a manifest and a release to a pack: plan, pack the shards, write what describes them, publish."""

import hashlib
import io
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from manifests.atomic import write_bytes_atomically
from manifests.table import read_manifest
from pipeline.errors import PackError
from pipeline.pack import MANIFEST_FILE, PACK_FILE, REJECTED_FILE, Pack, Shard
from pipeline.packing.config import PackConfig
from pipeline.packing.partial import PartialPack
from pipeline.packing.pixels import PIXEL_RULE
from pipeline.packing.plan import PackPlan, make_plan
from pipeline.packing.resume import kept_shard
from pipeline.packing.shard import PackedShard, RejectedImage
from pipeline.packing.workers import WorkerDiedError, pack_shards

REJECTED_SCHEMA = pa.schema(
    [
        ("sample_index", pa.int64()),
        ("image_id", pa.string()),
        ("path", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class PackSummary:
    """What packing came to."""

    pack: Pack
    """The complete pack, with its manifest."""

    rejected_by_reason: dict[str, int]
    """Reason -> images without pixels, the most frequent first."""

    num_resumed: int
    """Images in shards that were kept from an interrupted run."""

    elapsed_s: float
    """Time that packing took, the check of kept shards included."""

    @property
    def num_bytes(self) -> int:
        """Size of all shards."""
        return sum(shard.num_bytes for shard in self.pack.shards)

    @property
    def images_per_s(self) -> float:
        """Images packed a second by this run."""
        return (self.pack.num_samples - self.num_resumed) / self.elapsed_s


def pack_manifest(
    manifest: Path,
    *,
    root: Path | Mapping[str, Path],
    out: Path,
    config: PackConfig,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> PackSummary:
    """Pack the images of a manifest, which lie below `root`, into the folder `out`.

    The images of a merged manifest may lie below a root for each of its datasets: dataset -> folder.

    The same manifest, images, size and format give the same bytes of every file, for any number of workers and after
    any interruption. Until everything is there it grows in `<out>.partial`. `on_progress` gets the number of images
    done and of all images.

    Raises:
        ConfigError, ManifestError: options or rows that cannot be packed; nothing was written.
        PackError: `out` exists or cannot be written, another pack was interrupted there, a process died, no image was
            usable. Finished shards stay in `<out>.partial` for `PackConfig.resume`.
    """
    started_s = time.perf_counter()
    plan = make_plan(read_manifest(manifest), manifest, config)
    roots = roots_of(plan, root)
    if out.exists():
        raise PackError(f"{out}: exists already; name another folder with --out, or delete it to pack again")
    partial = PartialPack.of(out)
    with _explained(partial), partial.locked(plan.to_json(), resume=config.resume):
        shards, num_resumed = _pack_all_shards(plan, roots, partial, on_progress)
        rejected = [image for shard in shards for image in shard.rejected]
        reasons = dict(Counter(image.reason for image in rejected).most_common())
        if len(rejected) == plan.num_samples:
            partial.discard()
            folders = ", ".join(map(str, roots.values()))
            raise PackError(
                f"{folders}: none of the {plan.num_samples:,} images can be packed ({count_reasons(reasons)}); "
                "is this the folder that the manifest's paths start from? Name it with --root"
            )
        pack = _describe(plan, shards, rejected, partial)
        partial.publish()
    return PackSummary(
        pack=pack,
        rejected_by_reason=reasons,
        num_resumed=num_resumed,
        elapsed_s=time.perf_counter() - started_s,
    )


def roots_of(plan: PackPlan, root: Path | Mapping[str, Path]) -> dict[str, Path]:
    """Return dataset -> folder of its release for the datasets of `plan`: one for all, or one for each.

    Raises:
        PackError: a dataset has none, or one that is no folder.
    """
    roots = {}
    for dataset in dict.fromkeys(plan.datasets):
        folder = root.get(dataset) if isinstance(root, Mapping) else root
        if folder is None:
            raise PackError(f"where the images of dataset {dataset!r} lie is not known; add --root {dataset}=DIR")
        if not folder.is_dir():
            raise PackError(f"{folder}: no such folder; name the release's folder with --root")
        roots[dataset] = folder.resolve()
    return roots


def count_reasons(reasons: dict[str, int]) -> str:
    """Return reasons and counts for people: `missing file 3, corrupt 1`."""
    return ", ".join(f"{reason.replace('_', ' ')} {count:,}" for reason, count in reasons.items())


def _pack_all_shards(
    plan: PackPlan, roots: Mapping[str, Path], partial: PartialPack, on_progress: Callable[[int, int], None]
) -> tuple[list[PackedShard], int]:
    """Return the shards in order of sample_index, and how many of their images were there already."""
    done = 0

    def on_images(count: int) -> None:
        nonlocal done
        done += count
        on_progress(done, plan.num_samples)

    shards, left = [], []
    for task in plan.tasks(roots, partial):
        kept = kept_shard(task)
        if kept is None:
            left.append(task)
        else:
            shards.append(kept)
            on_images(kept.num_samples)
    num_resumed = done
    shards += pack_shards(left, plan.config.num_workers, on_images)
    return sorted(shards, key=lambda shard: shard.first_index), num_resumed


def _describe(
    plan: PackPlan, shards: Sequence[PackedShard], rejected: Sequence[RejectedImage], partial: PartialPack
) -> Pack:
    """Write manifest.parquet, rejected.parquet and, last, pack.json; return the pack as it will be in `out`."""
    image_ids = plan.table.column("image_id")
    rows = [
        asdict(image) | {"image_id": image_ids[image.sample_index].as_py(), "path": plan.paths[image.sample_index]}
        for image in rejected
    ]
    pack = Pack(
        folder=partial.out,
        format=plan.config.format,
        spec=plan.config.spec,
        encoding=plan.config.encoding,
        pixel_rule=PIXEL_RULE,
        dataset=plan.dataset,
        identity=plan.identity,
        num_samples=plan.num_samples,
        rejected=tuple(image.sample_index for image in rejected),
        shards=tuple(
            Shard(
                file=shard.file,
                first_index=shard.first_index,
                num_samples=shard.num_samples,
                num_bytes=shard.num_bytes,
                sha256=shard.sha256,
                side_files=shard.side_files,
            )
            for shard in shards
        ),
        manifest_sha256=_write_parquet(partial.pack / MANIFEST_FILE, plan.table),
        rejected_sha256=_write_parquet(
            partial.pack / REJECTED_FILE, pa.Table.from_pylist(rows, schema=REJECTED_SCHEMA)
        ),
    )
    write_bytes_atomically(partial.pack / PACK_FILE, pack.to_json())
    return pack


def _write_parquet(path: Path, table: pa.Table) -> str:
    """Write a table whole or not at all; return the file's sha256."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    write_bytes_atomically(path, buffer.getvalue())
    return hashlib.sha256(buffer.getvalue()).hexdigest()


@contextmanager
def _explained(partial: PartialPack) -> Iterator[None]:
    """Turn what the operating system says about writing into an error that says what is left and how to go on."""
    try:
        yield
    except OSError as error:
        where = error.filename or partial.folder
        kept = (
            f"; finished shards are kept in {partial.folder}: repair that, then continue with --resume"
            if partial.plan_file.exists()
            else "; name a folder that can be written with --out"
        )
        raise PackError(f"{where}: cannot be written ({error.strerror or error}){kept}") from error
    except WorkerDiedError as error:
        raise PackError(f"{error}; finished shards are kept in {partial.folder}: continue with --resume") from error

"""What a pack is, in lines for people."""

import shlex
from collections import Counter

import pyarrow.parquet as pq

from manifests.schema import SPLITS
from pipeline.pack import REJECTED_FILE, Pack, files_of
from pipeline.pack_files import num_shards
from pipeline.pack_format import training_command
from pipeline.packing.rejects import count_reasons

RESIZES = {
    "square": "stretched to it",
    "pad": "scaled to fit, centred on black",
    "short-side": "scaled to cover, centre cut out",
}
READERS = {
    "raw": "numpy.load(FILE, mmap_mode='r')",
    "tar": "WebDataset, DALI's readers.webdataset (index files beside the shards), tar",
    "beton": "FFCV's Loader",
}
"""Format -> what reads it besides our loaders."""


def summary_lines(pack: Pack) -> list[str]:
    """Return what a person wants to know about a pack: what it is, how large, what is missing, what reads it.

    Raises:
        PackError: its manifest is missing or damaged.
    """
    num_bytes = sum(part.num_bytes for part in files_of(pack.shards))
    folder = shlex.quote(str(pack.folder))
    lines = {
        "pack": str(pack.folder),
        "dataset": f"{pack.dataset}, identity {pack.identity[:12]}",
        "format": f"{pack.format}: {_stored(pack)}",
        "images": f"{pack.spec.size} px, {RESIZES[pack.spec.resize]}; pixels by rule {pack.pixel_rule}"
        + (", JPEG sources decoded in full" if pack.spec.exact else ""),
        "samples": f"{pack.num_samples:,} ({_splits(pack)})",
        "rejected": _rejected(pack),
        "size": f"{_size(num_bytes)} in {num_shards(len(pack.shards))}, "
        f"{num_bytes / max(pack.num_samples - len(pack.rejected), 1) / 1000:,.1f} kB an image",
        "read by": f"{'cxr-train; ' if pack.encoding.colour == 'gray' else ''}{READERS[pack.format]}",
        "next": f"cxr-prep verify {folder}; {training_command(pack.format, pack.encoding.colour, pack.folder)}",
    }
    if pack.target_names:
        lines["targets"] = f"{pack.encoding.targets}: float32 of {', '.join(pack.target_names)}"
    return [f"{name:9} {text}" for name, text in lines.items()]


def _size(num_bytes: int) -> str:
    """Return bytes in the larger of MiB and GiB that gives a number of at least 1."""
    return f"{num_bytes / 2**30:,.2f} GiB" if num_bytes >= 2**30 else f"{num_bytes / 2**20:,.1f} MiB"


def _stored(pack: Pack) -> str:
    """Return how the pixels are stored."""
    if pack.format == "tar":
        kind = f"JPEG, quality {pack.encoding.quality}" if pack.encoding.image == "jpg" else "PNG"
        return f"gray {kind}, {pack.spec.bits} bits"
    return f"{pack.encoding.colour} pixels as they are, 8 bits"


def _splits(pack: Pack) -> str:
    """Return how many samples each split has, rejected ones included."""
    counts = Counter(pack.manifest().strings("split"))
    return ", ".join(f"{split} {counts[split]:,}" for split in SPLITS if counts[split])


def _rejected(pack: Pack) -> str:
    """Return how many images have no pixels, and why."""
    if not pack.rejected:
        return "0"
    reasons = pq.read_table(pack.folder / REJECTED_FILE, columns=["reason"]).column(0).to_pylist()
    return f"{len(pack.rejected):,}: {count_reasons(Counter(reasons))}; see {REJECTED_FILE}"

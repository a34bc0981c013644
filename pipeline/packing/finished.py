"""A pack that is complete already when `--resume` or `--finish` asks for it: nothing to do, if it is the one."""

from collections import Counter
from dataclasses import asdict
from pathlib import Path

import pyarrow.parquet as pq

from pipeline.encoding import recorded_encoding
from pipeline.errors import PackError
from pipeline.pack import REJECTED_FILE, Pack, open_pack
from pipeline.packing.pixels import PIXEL_RULE
from pipeline.packing.plan import PackPlan
from pipeline.packing.plan_file import differences


def finished_pack(plan: PackPlan, out: Path) -> Pack:
    """Return the pack in `out` if it is what `plan` would make.

    Raises:
        PackError: it is no pack, a damaged one, or one of something else; the message says what differs.
    """
    pack = open_pack(out)
    config = plan.config
    now = {
        "format": config.format,
        **asdict(config.spec),
        **recorded_encoding(config.format, config.encoding),
        "pixel_rule": PIXEL_RULE,
        "identity": plan.identity,
    }
    was = {
        "format": pack.format,
        **asdict(pack.spec),
        **recorded_encoding(pack.format, pack.encoding),
        "pixel_rule": pack.pixel_rule,
        "identity": pack.identity,
    }
    lines = differences(was, now)
    if not lines and not pack.manifest().table.equals(plan.table):
        lines = ["the manifest has the same images and other labels or columns"]
    if lines:
        raise PackError(
            "\n  ".join(
                [
                    f"{out}: a complete pack of something else; name another folder with --out, or delete it to pack "
                    "again",
                    *lines,
                ]
            )
        )
    return pack


def reasons_of(pack: Pack) -> dict[str, int]:
    """Return reason -> rejected images of a complete pack, the most frequent first.

    Raises:
        PackError: rejected.parquet is missing or broken.
    """
    path = pack.folder / REJECTED_FILE
    try:
        reasons = pq.read_table(path, columns=["reason"]).column(0).to_pylist()
    except (OSError, ValueError, KeyError) as error:
        raise PackError(f"{path}: cannot be read ({error}); run `cxr-prep verify {pack.folder}`") from error
    return dict(Counter(reasons).most_common())

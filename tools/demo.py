"""From a made-up release to trained and compared models, through the real command lines: what `make demo` runs.

    python -m tools.demo                         # minutes on two cores
    python -m tools.demo --clean-reference       # also a model trained on the clean labels, as a bound
    python -m tools.demo --seed 1 --csv tools/results/demo.csv

Everything lies in ``demo-data/`` (`--out`): the release, the clean labels, a workspace with manifest and pack, the
comparison with its runs, and ``films.png``, a page of the films. The folder is made anew each time.
"""

import json
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from manifests.errors import ConfigError
from pipeline.console import err, out, run_command_line
from pipeline.cores import usable_cores
from tools.benchmark import append_row
from tools.demo_commands import CommandError, command
from tools.demo_comparison import METHODS, comparison_toml
from tools.demo_data import write_release
from tools.demo_sheet import write_sheet

MARKER = ".cxr-demo"
"""File by which the demo knows a folder as its own, which it may delete."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is drawn and trained."""

    num_images: int
    """Films of the release."""

    film_px: int
    """Side of a film."""

    pack_px: int
    """Side of an image in the pack."""

    num_epochs: int
    """Epochs of each training."""


FULL = Size(num_images=5000, film_px=128, pack_px=64, num_epochs=20)
QUICK = Size(num_images=240, film_px=64, pack_px=32, num_epochs=2)


def demo(
    out_dir: Annotated[Path, typer.Option("--out", help="Folder of the demo; made anew.")] = Path("demo-data"),
    quick: Annotated[
        bool, typer.Option("--quick", help="Tiny, to see that everything runs; its numbers say nothing.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of patients, films, label noise and training.")] = 0,
    clean_reference: Annotated[
        bool, typer.Option("--clean-reference", help="Also train on the clean labels: the bound.")
    ] = False,
    csv: Annotated[Path | None, typer.Option(help="Append one row a run to this file.")] = None,
) -> None:
    """Draw a release, build its manifest and pack, train every method on noisy labels, evaluate on clean ones."""
    started = time.monotonic()
    size = QUICK if quick else FULL
    make_anew(out_dir)
    home, clean, comparison = out_dir / "cxr-data", out_dir / "clean.parquet", out_dir / "comparison"

    _say(f"1. Drawing {size.num_images:,} chest films; half of the labels 'present' are wrong, half are missing")
    release = write_release(out_dir / "nih", num_images=size.num_images, size_px=size.film_px, seed=seed)
    write_sheet(out_dir / "films.png", release)

    _say("2. Manifests: of the release, and of the clean labels that only the evaluation sees")
    err.print(f"$ export CXR_HOME={home}", style="bold", markup=False)
    command(
        "pipeline.cli", "build-manifest", "--dataset", "nih", "--root", str(release.clean), "--allow-missing-images",
        "--out", str(clean), home=home,
    )  # fmt: skip
    command("pipeline.cli", "build-manifest", "--dataset", "nih", "--root", str(release.folder), home=home)

    _say("3. Pack")
    pack = home / "packs" / f"nih-{size.pack_px}-raw"
    command("pipeline.cli", "pack", "--size", str(size.pack_px), "--out", str(pack), home=home)

    plan = out_dir / "comparison.toml"
    plan.write_text(
        comparison_toml(
            out=comparison, pack=pack, clean=clean, seed=seed, num_epochs=size.num_epochs,
            clean_reference=clean_reference,
        ),
        encoding="utf-8",
    )  # fmt: skip
    num_runs = len(METHODS) + clean_reference
    at_a_time = min(num_runs, usable_cores())
    _say(f"4. Training {num_runs} models, {at_a_time} at a time, and evaluating them on clean test labels")
    command("trainer.cli", "compare", str(plan), "--jobs", str(at_a_time), home=home, is_last=True)

    if csv is not None:
        content = json.loads((comparison / "comparison.json").read_text(encoding="utf-8"))
        for row in rows(content, size=size, seed=seed, quick=quick):
            append_row(csv, row)
    if quick:
        out.print("quick: a few films; these numbers say nothing about the methods")
    out.print(f"films: {out_dir / 'films.png'}", markup=False)
    out.print(f"look at: {comparison / 'comparison.html'}", markup=False)
    out.print(f"{time.monotonic() - started:.0f} s")


def make_anew(folder: Path) -> None:
    """Make an empty folder; delete what an earlier demo left in it, and nothing else.

    Raises:
        ConfigError: there is something in it that no demo made.
    """
    if folder.exists() and not (folder / MARKER).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder}: there already, and not made by the demo; choose another --out")
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / MARKER).touch()


def rows(comparison: dict[str, Any], *, size: Size, seed: int, quick: bool) -> Iterator[dict[str, object]]:
    """Yield one row a run for the table of results, from the content of comparison.json."""
    tables = {table["checkpoint"]: table for table in comparison["tables"]}
    auroc = {
        (method["method"], checkpoint): method["mean"]["auroc"]["mean"] if method["mean"] else None
        for checkpoint, table in tables.items()
        for method in table["methods"]
    }
    for run in comparison["runs"]:
        yield {
            "quick": int(quick),
            "method": run["method"],
            "seed": seed,
            "num_images": size.num_images,
            "size_px": size.pack_px,
            "num_epochs": run["num_epochs"],
            "test_images": tables["best"]["num_images"],
            "findings_in_mean": sum(finding["in_mean"] for finding in tables["best"]["findings"]),
            "best_epoch": run["best_epoch"],
            "clean_test_mean_auroc_best": shown(auroc[run["method"], "best"]),
            "clean_test_mean_auroc_last": shown(auroc[run["method"], "last"]),
            "elapsed_s": f"{run['training_s']:.1f}",
        }


def shown(value: float | None) -> str:
    """Return a metric as text, n/a where there is none."""
    return "n/a" if value is None else f"{value:.5f}"


def _say(step: str) -> None:
    err.print(f"\n{step}", style="bold cyan", markup=False)


def main() -> None:
    """Run the command."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(demo)
    try:
        run_command_line(app)
    except CommandError as error:
        err.print(f"error: {error}", style="red", markup=False)
        sys.exit(1)


if __name__ == "__main__":
    main()

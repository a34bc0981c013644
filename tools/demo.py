"""From a made-up release to trained and compared models, through the real command lines: what `make demo` runs.

    python -m tools.demo                         # minutes on two cores
    python -m tools.demo --clean-reference       # also a model trained on the clean labels, as a bound
    python -m tools.demo --seed 1 --csv tools/results/demo.csv

Everything lies in ``demo-data/`` (`--out`): the release, the clean labels, a workspace with manifest, pack and runs,
and ``films.png``, a page of the films. The folder is made anew each time.
"""

import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from manifests.errors import ConfigError
from pipeline.console import err, out, run_command_line
from pipeline.cores import usable_cores
from tools.benchmark import append_row
from tools.demo_data import Release, write_release
from tools.demo_methods import CLEAN, METHODS, folder_name
from tools.demo_runs import MIN_POSITIVES, CommandError, DemoResult, DemoRun, command, shown, train_and_evaluate
from tools.demo_sheet import write_sheet

RECIPE = Path(__file__).with_name("demo.toml")
"""Settings of every training."""

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
    home = out_dir / "cxr-data"

    _say(f"1. Drawing {size.num_images:,} chest films; half of the labels 'present' are wrong, half are missing")
    release = write_release(out_dir / "nih", num_images=size.num_images, size_px=size.film_px, seed=seed)
    write_sheet(out_dir / "films.png", release)

    _say("2. Manifests: of the release, and of the clean labels that only the evaluation sees")
    err.print(f"$ export CXR_HOME={home}", style="bold", markup=False)
    clean = out_dir / "clean.parquet"
    command(
        "pipeline.cli", "build-manifest", "--dataset", "nih", "--root", str(release.clean), "--allow-missing-images",
        "--out", str(clean), home=home,
    )  # fmt: skip
    command("pipeline.cli", "build-manifest", "--dataset", "nih", "--root", str(release.folder), home=home)

    _say("3. Pack")
    command("pipeline.cli", "pack", "--size", str(size.pack_px), home=home)

    runs = _runs(home, clean, size=size, seed=seed)
    if clean_reference:
        runs.append(_clean_run(out_dir, release, runs[1], size=size, home=home))
    at_a_time = min(len(runs), usable_cores())
    _say(f"4. Training {len(runs)} models, {at_a_time} at a time, and evaluating them on clean test labels")
    for run in runs:
        err.print(f"$ cxr-train {' '.join(run.arguments)} --out {run.folder}", style="dim", markup=False)
    results = train_and_evaluate(runs, home=home, num_epochs=size.num_epochs, at_a_time=at_a_time)

    if csv is not None:
        for result in results:
            append_row(csv, _row(result, size=size, seed=seed, quick=quick))
    _show(results, out_dir, elapsed_s=time.monotonic() - started, quick=quick)


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


def _runs(home: Path, clean: Path, *, size: Size, seed: int) -> list[DemoRun]:
    # As one types it in the project's root, so that the commands shown can be typed there.
    recipe = RECIPE.relative_to(Path.cwd()) if RECIPE.is_relative_to(Path.cwd()) else RECIPE
    shared = ("--recipe", str(recipe), "--epochs", str(size.num_epochs), "--set", f"run.seed={seed}")
    return [
        DemoRun(
            method=method,
            folder=home / "runs" / folder_name(method),
            arguments=(*shared, *options),
            evaluation=("--labels", str(clean)),
        )
        for method, options in METHODS.items()
    ]


def _clean_run(out_dir: Path, release: Release, like: DemoRun, *, size: Size, home: Path) -> DemoRun:
    """Return a run like `like` on the clean labels: the same images under the other label file, packed again."""
    root, manifest, pack = out_dir / "nih" / "clean-release", out_dir / "clean-train.parquet", out_dir / "clean-pack"
    shutil.copytree(release.clean, root)
    for folder in sorted(release.folder.glob("images_*")):
        (root / folder.name).symlink_to(folder.resolve(), target_is_directory=True)
    command(
        "pipeline.cli", "build-manifest", "--dataset", "nih", "--root", str(root), "--out", str(manifest), home=home
    )
    command(
        "pipeline.cli", "pack", "--manifest", str(manifest), "--root", str(root), "--size", str(size.pack_px),
        "--out", str(pack), home=home,
    )  # fmt: skip
    return DemoRun(
        method=CLEAN,
        folder=home / "runs" / folder_name(CLEAN),
        arguments=(*like.arguments, "--pack", str(pack)),
        evaluation=(),
    )


def _row(result: DemoResult, *, size: Size, seed: int, quick: bool) -> dict[str, object]:
    return {
        "quick": int(quick),
        "method": result.run.method,
        "seed": seed,
        "num_images": size.num_images,
        "size_px": size.pack_px,
        "num_epochs": result.num_epochs,
        "test_images": result.num_images,
        "findings_in_mean": result.num_findings,
        "best_epoch": result.best_epoch,
        "clean_test_mean_auroc_best": shown(result.auroc["best"], digits=5),
        "clean_test_mean_auroc_last": shown(result.auroc["last"], digits=5),
        "elapsed_s": f"{result.elapsed_s:.1f}",
    }


def _show(results: list[DemoResult], out_dir: Path, *, elapsed_s: float, quick: bool) -> None:
    """Print the table, what it says and what it does not, and where to look."""
    first = results[0]
    title = f"Mean AUROC of {first.num_findings} findings on {first.num_images:,} test images with clean labels"
    table = Table("method", title=title, title_justify="left")
    for column in ("best on validation", "last epoch", "lost by going on"):
        table.add_column(column, justify="right")
    for result in results:
        best, last = result.auroc["best"], result.auroc["last"]
        lost = None if best is None or last is None else best - last
        table.add_row(result.run.method, shown(best), shown(last), shown(lost))
    out.print(table)
    out.print("quick: a few films; these numbers say nothing about the methods" if quick else verdict(results))
    out.print(f"films: {out_dir / 'films.png'}", markup=False)
    for result in results:
        out.print(f"report, {result.run.method}: {result.run.folder / 'report.html'}", markup=False)
    out.print(f"{elapsed_s:.0f} s")


def verdict(results: list[DemoResult]) -> str:
    """Return one sentence that the numbers bear out, whichever way they fall."""
    by_method = {result.run.method: result for result in results}
    base, ours = by_method["BCE + EMA"], by_method["NVUM elementwise"]
    parts = []
    for checkpoint, when in (("best", "at the best epoch on validation"), ("last", "at the last epoch")):
        one, other = ours.auroc[checkpoint], base.auroc[checkpoint]
        if one is None or other is None:
            return f"No finding has {MIN_POSITIVES} positives among the test images: there is nothing to compare."
        parts.append(f"{abs(one - other):.3f} {'above' if one > other else 'below'} BCE + EMA {when}")
    return (
        f"NVUM elementwise is {' and '.join(parts)}. One seed cannot tell such differences from chance: "
        "tools/results/demo.csv has several."
    )


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

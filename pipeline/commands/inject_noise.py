"""`cxr-prep inject-noise`: noisy labels from trusted ones, by a stated model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from manifests.errors import ConfigError

if TYPE_CHECKING:
    from manifests.noise_config import NoiseConfig, Rates
    from manifests.noise_report import NoiseReport


def inject_noise(
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST", help="A manifest whose labels are trusted.")],
    out_file: Annotated[Path, typer.Option("--out", metavar="FILE", help="Parquet file to write.", show_default=False)],
    sensitivity: Annotated[float, typer.Option(help="Share of what is present that shall be labelled so.")] = 0.5,
    ppv: Annotated[float, typer.Option(help="Share of the labels 'present' that shall be right.")] = 0.5,
    finding: Annotated[
        list[str] | None,
        typer.Option("--finding", metavar="NAME:SENS:PPV", help="Sensitivity and PPV of one finding; may be repeated."),
    ] = None,
    co_occurrence: Annotated[
        str,
        typer.Option(
            metavar="keep|ignore",
            help="Noisy labels of two findings as associated as clean ones; or flips independent.",
        ),
    ] = "keep",
    patient_correlation: Annotated[
        float, typer.Option(metavar="SHARE", help="Share of the noise that all films of a patient have in common.")
    ] = 0.0,
    split: Annotated[str, typer.Option(metavar="NAME,...", help="Splits whose labels get noise.")] = "train,valid",
    seed: Annotated[int, typer.Option(help="Another seed, other flips.")] = 0,
) -> None:
    """Write a manifest of the same images whose labels are wrong as often as one says; and a table of what was flipped.

    The trusted labels stay as they are. Train on the noisy ones with `cxr-train --labels FILE`, on the same pack; test
    labels have no noise by default. What is not labelled, or uncertain, stays so.
    """
    from manifests.noise import inject_noise as inject
    from manifests.noise_config import NoiseConfig, Rates

    config = NoiseConfig(
        manifest=manifest,
        out=out_file,
        rates=Rates(sensitivity=sensitivity, ppv=ppv),
        by_finding=parse_rates(finding or ()),
        co_occurrence=co_occurrence,  # type: ignore[arg-type]  # checked there
        patient_correlation=patient_correlation,
        splits=tuple(split.split(",")),
        seed=seed,
    )
    show(config, inject(config))


def parse_rates(texts: "list[str] | tuple[str, ...]") -> "dict[str, Rates]":
    """Return finding -> rates of texts such as ``Mass:0.6:0.8``.

    Raises:
        ConfigError: one is none, or a finding stands twice.
    """
    from manifests.noise_config import Rates

    found: dict[str, Rates] = {}
    for text in texts:
        parts = text.rsplit(":", 2)
        try:
            name, sensitivity, ppv = parts[0], float(parts[1]), float(parts[2])
        except (IndexError, ValueError) as error:
            raise ConfigError(f"--finding {text}: expected NAME:SENS:PPV, as in Mass:0.6:0.8") from error
        if name in found:
            raise ConfigError(f"--finding {name}: given twice")
        try:
            found[name] = Rates(sensitivity=sensitivity, ppv=ppv)
        except ConfigError as error:
            raise ConfigError(f"--finding {text}: {error}") from error
    return found


def show(config: "NoiseConfig", report: "NoiseReport") -> None:
    """Print sensitivity and PPV that were reached, how findings go together, and the next command."""
    import shlex

    from rich.table import Table

    from pipeline.console import err, out

    table = Table(title=f"noisy labels of {report.num_rows:,} rows ({', '.join(config.splits)})", title_justify="left")
    table.add_column("finding", no_wrap=True)
    for name in ("present", "labelled", "wrong", "sensitivity", "PPV"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in report.reached:
        counts = (row.present, row.labelled_present, row.flips)
        table.add_row(row.finding, *(f"{count:,}" for count in counts), _share(row.sensitivity), _share(row.ppv))
    out.print(table)
    asked = {"findings": config.rates, **config.by_finding}
    rates = (f"{name} {rate.sensitivity:.3g} and {rate.ppv:.3g}" for name, rate in asked.items())
    out.print(f"asked for, sensitivity and PPV: {', '.join(rates)}; No Finding follows from the others", markup=False)
    clean, noisy = report.odds_ratio
    out.print(
        f"odds ratio of two findings, geometric mean: {clean:.3g} of the trusted labels, {noisy:.3g} of the noisy"
    )
    if report.num_out_of_reach:
        err.print(
            f"warning: of {report.num_out_of_reach} pairs of findings no noise with these rates keeps the association; "
            "it is as near as can be",
            style="yellow",
        )
    out.print(f"flips: {report.flips}", markup=False)
    out.print(f"written: {report.out}", markup=False)
    out.print(f"next: cxr-train --labels {shlex.quote(str(report.out))}", markup=False)


def _share(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.1%}"

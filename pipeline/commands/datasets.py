"""`cxr-prep datasets`: which releases are supported, and what each of them is."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from manifests.dataset import Dataset


def datasets(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One dataset; by default all.")] = None,
) -> None:
    """Say of each release which files are expected where, how large it is, where its labels come from, and its terms.

    Also its own options and presets, for `cxr-prep build-manifest`.
    """
    from manifests.datasets import MODULES, dataset

    for position, known in enumerate([name] if name is not None else MODULES):
        show(dataset(known), first=position == 0)


def show(source: "Dataset", *, first: bool) -> None:
    """Print one dataset."""
    from pipeline.console import out

    patients = "" if source.num_patients is None else f" of {source.num_patients:,} patients"
    lines = [
        *([] if first else [""]),
        f"{source.name}: {source.title}: {source.num_images:,} images{patients}",
        f"  labels     {source.label_origin}",
        f"  findings   {', '.join(source.vocabulary.findings)}",
        *(f"  {'files' if number == 0 else '':10} {line}" for number, line in enumerate(source.layout)),
        f"  citation   {source.citation}",
        f"  terms      {source.terms}",
        f"  build      cxr-prep build-manifest --dataset {source.name} --root DIR",
    ]
    for key, option in source.options.items():
        values = "|".join(option.values) or "TEXT"
        several = ", several joined by commas" if option.many else ""
        lines.append(f"  --option {key}={values}{several} (default {option.default}): {option.help}")
    for preset, chosen in source.presets.items():
        lines.append(f"  --preset {preset}: {' '.join(f'{key}={value}' for key, value in chosen.items())}")
    out.print("\n".join(lines), markup=False)

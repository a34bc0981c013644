"""`cxr-prep label-space`: what the label spaces are, and how their outputs map to a dataset's words."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from manifests.label_spaces import LabelSpace
    from manifests.vocabulary import Vocabulary

label_space = typer.Typer(
    name="label-space",
    help="List label spaces, or show one: outputs, rows that it leaves out, and what a dataset calls each output.",
    no_args_is_help=True,
)


@label_space.command(name="list")
def list_all() -> None:
    """List every label space in one line."""
    from manifests.label_spaces import LABEL_SPACES, POLICIES
    from pipeline.console import out

    for space in LABEL_SPACES.values():
        out.print(f"{space.name:18} {len(space.findings):2} outputs  {space.description}", markup=False)
    out.print("\nNAME:POLICY is a label space with another policy for uncertain labels (-1):")
    for policy, meaning in POLICIES.items():
        out.print(f"  :{policy:8} {meaning}", markup=False)


@label_space.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A label space, such as nvum-nih or nvum-cxp:ignore.")],
    dataset: Annotated[
        str | None, typer.Option(metavar="NAME", help="Show what this dataset calls each output.")
    ] = None,
) -> None:
    """Show the outputs in their order, the policies, and the rows that are left out."""
    from manifests.datasets import dataset as dataset_named
    from manifests.label_mapping import policies_in_words, rules_in_words, tables_of
    from manifests.label_spaces import label_space as space_named
    from pipeline.console import out

    space = space_named(name)
    out.print(f"{space.name}: {space.description}", markup=False)
    out.print(f"labels: {'; '.join(policies_in_words(space))}", markup=False)
    if dataset is None:
        show_rows("rows left out", rules_in_words(space))
        for other, rules in space.on_dataset.items():
            show_rows(f"rows left out of {other}", rules_in_words(rules, other))
        show_outputs(space)
        return
    source = dataset_named(dataset)
    show_rows(f"rows left out of {dataset}", rules_in_words(space.rules_on(dataset), dataset))
    for options, vocabulary in tables_of(source).items():
        if options:
            out.print(f"\n{options}", markup=False)
        show_mapping(space, vocabulary, source.title)


def show_mapping(space: "LabelSpace", vocabulary: "Vocabulary", title: str) -> None:
    """Print which words stand for each output, and why, where it is not obvious."""
    from manifests.label_mapping import map_outputs
    from pipeline.console import out

    for number, output in enumerate(map_outputs(space, vocabulary), start=1):
        words = "; ".join(term.source for term in output.terms)
        meaning = f"<- {words}" if words else f"n/a: {title} does not label it; masked, never negative"
        out.print(f"{number:3} {output.finding:27} {meaning}", markup=False)
        for term in output.terms:
            if term.because:
                out.print(f"    {'':27}    {term.source}: {term.because}", markup=False)
        if output.kinds:
            out.print(f"    {'':27}    and wherever there is {', '.join(output.kinds)}", markup=False)


def show_outputs(space: "LabelSpace") -> None:
    """Print the outputs in their order, with definitions."""
    from manifests.findings import DEFINITIONS
    from pipeline.console import out

    for number, finding in enumerate(space.findings, start=1):
        out.print(f"{number:3} {finding:27} {DEFINITIONS[finding]}", markup=False)


def show_rows(title: str, sentences: list[str]) -> None:
    """Print which rows are left out."""
    from pipeline.console import out

    out.print(f"{title}: {'; then '.join(sentences) or 'none'}", markup=False)

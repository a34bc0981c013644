"""What is compared: data sets x methods x seeds, and the test sets that every run is measured on."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from manifests.errors import ConfigError
from trainer.evaluation.bootstrap import BootstrapConfig
from trainer.evaluation.expert import LABELS as EXPERT_LABELS
from trainer.evaluation.metrics import ENOUGH_POSITIVES
from trainer.options import refuse_unless
from trainer.sections import Values

CheckpointName = Literal["best", "last"]


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """The section ``[compare]``."""

    out: str = ""
    """Folder of the comparison: runs, tables, page."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """`run.seed` of the runs of each method; the same ones for all, so that differences are paired."""

    baseline: str | None = None
    """Method that the others are compared with; none: the first one."""

    reference: str | None = None
    """Method that is taken for an upper bound, as one trained on clean labels; adds the share of the gap between it and
    the baseline that each method recovers."""

    checkpoints: tuple[CheckpointName, ...] = ("best", "last")
    """States of a run that are measured: `best` on validation, `last`."""

    min_positives: int = ENOUGH_POSITIVES
    """Fewest positives, and negatives, of a finding in the mean."""

    bootstrap: int = 2000
    """Draws of patients behind the intervals; 0: training chance alone."""

    def __post_init__(self) -> None:
        refuse_unless(bool(self.out), "compare.out", "''", "the folder of the comparison")
        refuse_unless(bool(self.seeds), "compare.seeds", list(self.seeds), "at least one")
        refuse_unless(
            len(set(self.seeds)) == len(self.seeds), "compare.seeds", list(self.seeds), "each of them once only"
        )
        refuse_unless(bool(self.checkpoints), "compare.checkpoints", "[]", "best, last or both")
        refuse_unless(self.min_positives >= 1, "compare.min_positives", self.min_positives, "1 or more")
        BootstrapConfig(draws=self.bootstrap)


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """One ``[[data]]``: what runs are trained on."""

    name: str
    """What tables call it; empty where there is only one."""

    settings: Values
    """Over those of ``[base]``, pack and labels among them."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """One ``[[method]]``."""

    name: str
    """What tables call it."""

    settings: Values
    """Over those of the data set."""


@dataclass(frozen=True, kw_only=True)
class TestSet:
    """One ``[[test]]``: what every run is measured on."""

    __test__ = False  # not a test of pytest's

    name: str = ""
    """What tables call it; empty: by pack, split and labels."""

    pack: str | None = None
    """Folder of the pack; none: the one that the run was trained on."""

    split: Literal["train", "valid", "test"] = "test"
    """Which rows."""

    labels: str | None = None
    """Manifest whose labels count instead of the pack's."""

    expert: str | None = None
    """File of the experts' findings of ChestX-ray14, which count instead."""

    def __post_init__(self) -> None:
        refuse_unless(self.labels is None or self.expert is None, "labels", self.labels, "labels or expert, not both")

    @property
    def title(self) -> str:
        """What tables call it."""
        parts = [Path(self.pack).name if self.pack else "", self.split, self.labels_name or ""]
        return self.name or " ".join(part for part in parts if part)

    @property
    def labels_name(self) -> str | None:
        """The labels as metrics.json names them; None: those of the pack."""
        if self.expert is not None:
            return EXPERT_LABELS
        return None if self.labels is None else Path(self.labels).stem

    @property
    def key(self) -> tuple[str | None, str, str | None]:
        """Pack, split and labels by their names, the run's own pack and its labels being None."""
        return Path(self.pack).name if self.pack else None, self.split, self.labels_name

    @property
    def label_files(self) -> list[Path]:
        """Files that the labels are read from, besides the pack."""
        return [Path(name) for name in (self.labels, self.expert) if name is not None]


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """One training of a comparison."""

    name: str
    """Name of its folder."""

    folder: Path
    """Its folder."""

    data: str
    """Name of the data set."""

    method: str
    """Name of the method."""

    seed: int
    """`run.seed`."""

    settings: Values
    """Over the defaults of `TrainConfig`."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A whole comparison."""

    file: Path
    """Where it was read from."""

    out: Path
    """Folder of the comparison."""

    compare: CompareConfig
    """The section ``[compare]``, baseline included."""

    data: tuple[DataSet, ...]
    """At least one."""

    methods: tuple[Method, ...]
    """At least one; the baseline is among them."""

    tests: tuple[TestSet, ...]
    """At least one."""

    base: Values
    """Settings that all runs have in common."""

    @property
    def baseline(self) -> str:
        """Name of the method that the others are compared with."""
        return self.compare.baseline or self.methods[0].name

    @property
    def runs_folder(self) -> Path:
        """Folder of the runs' folders."""
        return self.out / "runs"

    def runs(self) -> Iterator[PlannedRun]:
        """Yield all trainings: seed by seed, so that an unfinished comparison compares what it has."""
        for seed in self.compare.seeds:
            for data in self.data:
                for method in self.methods:
                    name = "-".join(filter(None, (slug(data.name), slug(method.name), f"seed-{seed}")))
                    yield PlannedRun(
                        name=name,
                        folder=self.runs_folder / name,
                        data=data.name,
                        method=method.name,
                        seed=seed,
                        settings=merged(self.base, data.settings, method.settings, {"run": {"seed": seed}}),
                    )


def merged(*layers: Values) -> Values:
    """Return the settings of all layers, a later one over those before it."""
    found: Values = {}
    for layer in layers:
        for section, keys in layer.items():
            found[section] = found.get(section, {}) | keys
    return found


def slug(name: str) -> str:
    """Return a name as a part of a folder's name: lower case, letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def refuse_doubles(names: list[str], what: str, source: str) -> None:
    """Refuse names that are empty or would give two things one folder.

    Raises:
        ConfigError: names the first such name.
    """
    seen: dict[str, str] = {}
    for name in names:
        if not slug(name):
            raise ConfigError(f"{source}: {what} {name!r}: expected a name with letters or digits")
        if slug(name) in seen:
            raise ConfigError(
                f"{source}: {what} {name!r} and {seen[slug(name)]!r} are one name as a folder ({slug(name)}); "
                "expected names that differ in letters or digits"
            )
        seen[slug(name)] = name

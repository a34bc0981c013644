"""Tables of a comparison's TOML as dataclasses, by which their keys and types are checked."""

from dataclasses import dataclass, field

from trainer.compare.plan import CompareConfig, TestSet


@dataclass(frozen=True, kw_only=True)
class BaseTable:
    """``[base]`` without its sections of settings."""

    recipe: str | None = None
    """Name of a shipped recipe or path of a TOML file."""


@dataclass(frozen=True, kw_only=True)
class DataTable:
    """One ``[[data]]`` without its sections of settings."""

    name: str
    """What tables call it."""

    recipe: str | None = None
    """A recipe of this data set's own, over the base."""

    pack: str | None = None
    """Folder of the pack; none: the only one in the workspace that the loader reads."""

    labels: str | None = None
    """Manifest whose labels are trained and validated on instead of the pack's."""

    label_space: str | None = None
    """Outputs of the model and rows that are left out."""


@dataclass(frozen=True, kw_only=True)
class MethodTable:
    """One ``[[method]]`` without its sections of settings."""

    name: str | None = None
    """What tables call it."""

    preset: str | None = None
    """Stands for several methods; then there is nothing else."""

    labels: str | None = None
    """Manifest whose labels this method is trained and validated on, as the clean ones for a reference."""


@dataclass(frozen=True, kw_only=True)
class PlanFile:
    """The tables of the file; ``data``, ``test`` and ``method`` are lists of them."""

    compare: CompareConfig = field(default_factory=lambda: CompareConfig(out="."))
    """How runs are compared."""

    base: BaseTable = field(default_factory=BaseTable)
    """What they have in common."""

    data: DataTable = field(default_factory=lambda: DataTable(name=""))
    """What they are trained on."""

    test: TestSet = field(default_factory=TestSet)
    """What they are measured on."""

    method: MethodTable = field(default_factory=MethodTable)
    """In what they differ."""

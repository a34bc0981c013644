"""One module a dataset: what its release looks like and how its labels map to the harmonised findings.

A new dataset is one module here that defines ``DATASET``, and one line in `MODULES`.
"""

from difflib import get_close_matches
from importlib import import_module

from manifests.dataset import Dataset
from manifests.errors import ConfigError

MODULES = {name: f"manifests.datasets.{name}" for name in ("nih", "chexpert", "openi", "padchest", "mimic", "vindr")}
"""Name on the command line -> module; imported only when asked for."""


def dataset(name: str) -> Dataset:
    """Return the dataset called `name`.

    Raises:
        ConfigError: there is none; the message lists them and the nearest name.
    """
    if name not in MODULES:
        near = get_close_matches(name, MODULES, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(f"--dataset {name}: unknown{hint} (there are: {', '.join(MODULES)})")
    found: Dataset = import_module(MODULES[name]).DATASET
    return found

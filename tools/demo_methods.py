"""What the demo compares: the methods, and the settings that all of them share."""

METHODS: dict[str, tuple[str, ...]] = {
    "BCE": ("--loss", "bce"),
    "BCE + EMA": ("--loss", "bce", "--set", "ema.enabled=on"),
    "NVUM elementwise": ("--loss", "nvum", "--set", "loss.regulariser=elementwise"),
    "NVUM inner product": ("--loss", "nvum", "--set", "loss.regulariser=inner_product"),
}
"""Name -> options of `cxr-train` in which the methods differ."""

CLEAN = "BCE + EMA, clean labels"
"""The bound that no method on noisy labels can be expected to pass; trained only where it is asked for."""

SETTINGS: tuple[str, ...] = (
    "--model", "small",
    "--set", "loader.batch_size=64",
    "--set", "optim.lr=2e-3",
    # Without augmentation the model can learn every wrong label by heart, which is what the demo wants to show.
    "--set", "augment.crop_scale=[1.0,1.0]",
    "--set", "augment.flip_probability=0",
    # One thread a run and several runs at a time: the threads of so small a step would mostly wait for each other.
    "--set", "run.device=cpu",
    "--set", "run.num_threads=1",
    "--set", "loader.num_threads=1",
)  # fmt: skip
"""Options of `cxr-train` that all methods share."""


def folder_name(method: str) -> str:
    """Return the name of a method's run folder: lower case, without blanks."""
    return method.lower().replace(" + ", "-").replace(", ", "-").replace(" ", "-")

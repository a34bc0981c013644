"""What the demo compares; the settings that all methods share are in demo.toml."""

METHODS: dict[str, tuple[str, ...]] = {
    "BCE": ("--loss", "bce"),
    "BCE + EMA": ("--loss", "bce", "--set", "ema.enabled=on"),
    "NVUM elementwise": ("--loss", "nvum", "--set", "loss.regulariser=elementwise"),
    # The inner product sums over the 14 outputs where the elementwise form takes their mean, so its weight is 1/14.
    "NVUM inner product": (
        "--loss", "nvum", "--set", "loss.regulariser=inner_product", "--set", "loss.reg_weight=0.07",
    ),
}  # fmt: skip
"""Name -> options of `cxr-train` in which the methods differ."""

CLEAN = "BCE + EMA, clean labels"
"""The bound that no method on noisy labels can be expected to pass; trained only where it is asked for."""


def folder_name(method: str) -> str:
    """Return the name of a method's run folder: lower case, without blanks."""
    return method.lower().replace(" + ", "-").replace(", ", "-").replace(" ", "-")

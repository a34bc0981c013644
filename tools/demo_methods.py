"""What the demo compares; the settings that all methods share are in demo.toml."""

METHODS: dict[str, tuple[str, ...]] = {
    "BCE": ("--loss", "bce"),
    "BCE + EMA": ("--loss", "bce", "--set", "ema.enabled=on"),
    "NVUM elementwise": ("--loss", "nvum", "--set", "loss.regulariser=elementwise"),
    "NVUM inner product": ("--loss", "nvum", "--set", "loss.regulariser=inner_product"),
}
"""Name -> options of `cxr-train` in which the methods differ."""

CLEAN = "BCE + EMA, clean labels"
"""The bound that no method on noisy labels can be expected to pass; trained only where it is asked for."""


def folder_name(method: str) -> str:
    """Return the name of a method's run folder: lower case, without blanks."""
    return method.lower().replace(" + ", "-").replace(", ", "-").replace(" ", "-")

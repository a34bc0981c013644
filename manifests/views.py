"""Which views are frontal, in each release's own words."""

FRONTAL = ("PA", "AP", "AP_horizontal", "Frontal")
"""Frontal wherever they stand."""

FRONTAL_IN = {"chexpert": (*FRONTAL, "LL", "RL")}
"""CheXpert's column Frontal/Lateral calls 16 images frontal whose AP/PA is LL, and one whose AP/PA is RL."""


def frontal_views(dataset: str) -> tuple[str, ...]:
    """Return the values of the column `view` that are frontal in `dataset`."""
    return FRONTAL_IN.get(dataset, FRONTAL)

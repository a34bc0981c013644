"""The experts' labels of a few images of `tests.manifests.tiny_release`, in the format of TorchXRayVision's copy."""

from collections.abc import Iterable
from pathlib import Path

from tests.manifests.tiny_release import HEADER, NAMES, row

EXPERT_HEADER = f"{HEADER},Fracture,Pneumothorax,Airspace opacity,Nodule or mass,Set Id"

# image, Fracture, Pneumothorax, Airspace opacity, Nodule or mass, set
SEEN = (
    (NAMES[0], "NO", "NO", "NO", "YES", "val"),
    (NAMES[1], "NO", "NO", "YES", "NO", "val"),
    (NAMES[3], "YES", "YES", "NO", "YES", "test"),
    (NAMES[4], "NO", "NO", "NO", "YES", "test"),
    ("00009999_000.png", "NO", "YES", "NO", "NO", "test"),
)


def write_expert(path: Path, seen: Iterable[tuple[str, ...]] = SEEN) -> Path:
    """Write the experts' file in the format of TorchXRayVision's copy."""
    lines = [EXPERT_HEADER, *(",".join([row(name), *answers]) for name, *answers in seen)]
    path.write_text("\n".join(lines) + "\n")
    return path

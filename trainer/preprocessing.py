"""What an image goes through before a model sees it: as the pack did it, then the normalisation.

A run records it when it begins, so that its model can be used where the pack is not.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, get_args

from manifests.errors import ConfigError
from pipeline.encoding import Encoding, recorded_encoding
from pipeline.image_spec import ImageSpec
from pipeline.pack import Pack
from pipeline.pack_format import PackFormat
from pipeline.prepare import IMAGENET_GRAY_MEAN, IMAGENET_GRAY_STD


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """From an image file to what a model sees."""

    spec: ImageSpec
    """What every image becomes: size, how it is fitted, depth."""

    pixel_rule: str
    """Version of the meaning of a pixel (`pipeline.packing.pixels`)."""

    format: PackFormat = "raw"
    """How the pack stores pixels; a tar of JPEGs loses a little of them."""

    encoding: Encoding = field(default_factory=Encoding)
    """How the format stores them."""

    mean: float = IMAGENET_GRAY_MEAN
    """Subtracted from gray in [0, 1]."""

    std: float = IMAGENET_GRAY_STD
    """Divided by."""

    @classmethod
    def of_pack(cls, pack: Pack) -> "Preprocessing":
        """Return what the images of a pack have gone through, and go through in training."""
        return cls(spec=pack.spec, pixel_rule=pack.pixel_rule, format=pack.format, encoding=pack.encoding)

    def as_values(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return asdict(self) | {"encoding": recorded_encoding(self.format, self.encoding)}

    @classmethod
    def from_values(cls, values: Mapping[str, Any], source: str) -> "Preprocessing":
        """Return what `as_values` gave.

        Raises:
            ConfigError: it is nothing of the kind; `source` says where it was read.
        """
        try:
            found = cls(
                **values | {"spec": ImageSpec(**values["spec"]), "encoding": Encoding(**values["encoding"])}  # type: ignore[operator]
            )
        except (KeyError, TypeError, ConfigError) as error:
            raise ConfigError(f"{source}: no preprocessing that this version knows ({error})") from error
        if found.format not in get_args(PackFormat):
            raise ConfigError(f"{source}: stored as {found.format!r}, expected {', '.join(get_args(PackFormat))}")
        return found

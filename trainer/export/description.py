"""What one must know to use a model's weights: network, outputs in order, preprocessing, where it is from."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from manifests.errors import ConfigError
from trainer.precision import Precision
from trainer.preprocessing import Preprocessing

SCHEMA = "cxr-nvum model/1"


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """From which probability up a finding is called present; chosen on validation (`cxr-train evaluate`)."""

    rule: str
    """`youden`, or `sensitivity 0.9`: what they were chosen by."""

    num_images: int
    """Validation images that chose them."""

    values: Mapping[str, float | None]
    """Finding -> threshold; None: too few cases to choose one."""


@dataclass(frozen=True, kw_only=True)
class ModelDescription:
    """A model without its weights."""

    model: str
    """Name of the network in `trainer.models.registry`."""

    input_size_px: int
    """Side of the images that the network sees."""

    channels_last: bool
    """How weights and features lie in memory."""

    precision: Precision
    """Number format of the forward pass."""

    label_space: str
    """Name of the label space."""

    findings: tuple[str, ...]
    """Outputs, in order."""

    preprocessing: Preprocessing
    """From an image file to what the network sees."""

    run: str
    """Name of the run."""

    checkpoint: str
    """`best`, `last`, or the name of a checkpoint's file."""

    step: int
    """Optimiser steps behind it."""

    is_teacher: bool
    """Whether the weights are the EMA teacher's."""

    identities: Mapping[str, Any]
    """What the checkpoint is bound to: pack, selection, prior, order."""

    thresholds: Thresholds | None = None
    """Operating points; None: the run has not been evaluated with any."""

    def as_values(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {"schema": SCHEMA} | asdict(self) | {"preprocessing": self.preprocessing.as_values()}

    def to_json(self) -> str:
        """Return the description as JSON."""
        return json.dumps(self.as_values(), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str, source: str) -> "ModelDescription":
        """Return what `to_json` wrote; `source` is where it was read.

        Raises:
            ConfigError: it is no such text, or one of another version.
        """
        try:
            values = json.loads(text)
            schema = values.pop("schema", None)
            if schema != SCHEMA:
                raise ConfigError(f"{source}: a model of schema {schema!r}, this version reads {SCHEMA!r}")
            thresholds = values.pop("thresholds")
            return cls(
                **values
                | {
                    "findings": tuple(values["findings"]),
                    "preprocessing": Preprocessing.from_values(values["preprocessing"], source),
                    "thresholds": None if thresholds is None else Thresholds(**thresholds),
                }
            )
        except (ValueError, AttributeError, KeyError, TypeError) as error:
            raise ConfigError(f"{source}: no description of a model ({error}); export it again") from error

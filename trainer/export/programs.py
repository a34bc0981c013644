"""A graph as a file that runs without this project: `torch.export`'s .pt2, or ONNX.

TorchScript is none of them: torch 2.13 deprecates tracing and scripting in favour of `torch.export`.
"""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from manifests.atomic import atomic_path
from pipeline.errors import MissingBackendError
from trainer.export.description import ModelDescription
from trainer.export.graph import ImagesToProbs
from trainer.export.weights_file import KEY

ProgramFormat = Literal["pt2", "onnx"]

Program = Callable[[torch.Tensor], torch.Tensor]
"""uint8 [B, 1, H, W] -> float32 [B, C]."""

INPUT, OUTPUT = "images", "probabilities"
"""Names in the ONNX file."""


def write_program(
    path: Path, graph: ImagesToProbs, example_B1HW: torch.Tensor, description: ModelDescription
) -> Program:
    """Write a graph to `path`, a .pt2 or .onnx file, whole or not at all; return the program as it is read back.

    Args:
        path: its ending is the format.
        graph: what is written.
        example_B1HW: images to trace it with, at least two; the number of images stays open.
        description: goes into the file too.

    Raises:
        MissingBackendError: a package of the extra `onnx` is not installed.
    """
    if path.suffix == ".onnx":
        require_onnx()
    with _quietly(), torch.no_grad():
        exported = torch.export.export(
            graph, (example_B1HW,), dynamic_shapes={"images_B1HW": {0: torch.export.Dim("batch")}}
        )
        with atomic_path(path) as temporary:
            if path.suffix == ".onnx":
                program = torch.onnx.export(
                    exported, dynamo=True, input_names=[INPUT], output_names=[OUTPUT], verbose=False
                )
                assert program is not None
                program.model.metadata_props[KEY] = description.to_json()
                program.save(temporary, external_data=False)
            else:
                with temporary.open("wb") as file:
                    torch.export.save(exported, file, extra_files={KEY: description.to_json()})
    return _read_onnx(path) if path.suffix == ".onnx" else _read_pt2(path)


def require_onnx() -> None:
    """Return if ONNX files can be written and run.

    Raises:
        MissingBackendError: a package is not installed.
    """
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingBackendError(
            f"--format onnx: {error.name} is not installed; `pip install 'cxr-nvum[onnx]'`, or take --format pt2"
        ) from error


def _read_pt2(path: Path) -> Program:
    with _quietly():
        module = torch.export.load(path).module()

    def run(images_B1HW: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            probs_BC: torch.Tensor = module(images_B1HW)
        return probs_BC

    return run


def _read_onnx(path: Path) -> Program:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(images_B1HW: torch.Tensor) -> torch.Tensor:
        (probs_BC,) = session.run([OUTPUT], {INPUT: images_B1HW.numpy()})
        return torch.from_numpy(np.asarray(probs_BC))

    return run


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep back what torch says to its own developers while it exports."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)

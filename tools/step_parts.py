"""Whole training steps, and networks alone: each option of a step beside the step without it."""

from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import numpy as np
import torch

from manifests.label_spaces import NVUM_NIH
from manifests.selection import Selection
from pipeline.batch import Batch
from pipeline.loaders import LoadedStep
from tools.dense_buffer import with_buffers
from tools.interleaved import Part
from trainer.config import TrainConfig
from trainer.data import TrainingData
from trainer.distributed import ALONE
from trainer.models.densenet import DenseNet121
from trainer.models.registry import build_model
from trainer.sections import Values, build
from trainer.state import new_state
from trainer.step import TrainStep

NUM_ROWS = 4096


class Case(NamedTuple):
    """A network and what it is given."""

    model: str
    batch_size: int
    size_px: int
    precision: str


CASES = {
    "cpu": [Case("small", 64, 64, "fp32"), Case("densenet121", 16, 64, "fp32")],
    "cuda": [Case("densenet121", 256, 224, "bf16")],
}

OPTIONS: dict[str, Values] = {
    "contiguous": {"model": {"channels_last": False}},
    "optimiser not fused": {"optim": {"fused": False}},
    "without teacher": {"ema": {"enabled": "off"}},
    "bce": {"loss": {"name": "bce"}},
    "bce, skip": {"loss": {"name": "bce"}, "step": {"on_nonfinite": "skip"}},
    "clipped": {"step": {"clip_norm": 1.0}},
    "2 parts": {"step": {"accumulate": 2}},
    "recomputed": {"model": {"recompute": True}},
}
"""What a step may be told; its peer is NVUM's with its teacher, channels_last, fused, told nothing."""

COMPILED: dict[str, Values] = {
    "compiled": {"step": {"compile": True}},
}

GRAPHS: dict[str, Values] = {
    "CUDA graph": {"step": {"cuda_graph": True}},
    "compiled, CUDA graph": {"step": {"compile": True, "cuda_graph": True}},
    "bce, compiled, CUDA graph": {"loss": {"name": "bce"}, "step": {"compile": True, "cuda_graph": True}},
}


def step_parts(device: str = "cpu", *, compiles: bool = False) -> list[Part]:
    """Return a step of each case and option; those of the compiler, minutes each, where `compiles`."""
    options = OPTIONS | (COMPILED if compiles else {}) | (GRAPHS if compiles and device == "cuda" else {})
    parts = []
    for case in CASES[device]:
        peer = f"{case.model} {case.size_px} px {case.precision}, step"
        for what, values in {"": {}, **options}.items():
            name = f"{peer}, {what}" if what else peer
            parts.append(_step_part(name, peer, case, device, values))
    return parts


def network_parts() -> list[Part]:
    """Return forward and backward of each network, as built (channels_last), contiguous, and in buffers."""
    parts = []
    for case in CASES["cpu"]:
        images_B1HW = torch.randn(case.batch_size, 1, case.size_px, case.size_px)
        peer = f"{case.model} {case.size_px} px, forward + backward, contiguous"
        models = {
            layout: build_model(case.model, 14, input_size_px=case.size_px, channels_last=layout == "channels_last")
            for layout in ("channels_last", "contiguous")
        }
        if case.model == "densenet121":
            in_buffers = build_model(case.model, 14, input_size_px=case.size_px)
            models["channels_last, a buffer a block"] = with_buffers(cast("DenseNet121", in_buffers))
        for layout, model in models.items():

            def call(model: torch.nn.Module = model, images_B1HW: torch.Tensor = images_B1HW) -> None:
                model.zero_grad()
                model(images_B1HW).square().mean().backward()

            what = f"{case.model} {case.size_px} px, forward + backward, {layout}"
            parts.append(Part(what, peer, case.batch_size, "images", call))
    return parts


def _step_part(name: str, peer: str, case: Case, device: str, values: Values) -> Part:
    sections: dict[str, dict[str, Any]] = {
        "model": {"name": case.model, "input_size_px": case.size_px},
        "loader": {"batch_size": case.batch_size},
        "step": {"precision": case.precision},
        "run": {"device": device},
    }
    for section, keys in values.items():
        sections[section] = sections.get(section, {}) | keys
    config = build(TrainConfig, sections, source="benchmark")
    data = _data()
    state = new_state(
        config,
        num_rows=NUM_ROWS,
        num_outputs=len(NVUM_NIH.findings),
        device=torch.device(device),
        load_weights=False,
        ranks=ALONE,
    )
    step = TrainStep(config, data, state)
    rows_B = np.arange(case.batch_size, dtype=np.int64) * (NUM_ROWS // case.batch_size)
    shape = (case.batch_size, 1, case.size_px, case.size_px)
    batch = Batch(
        images_B1HW=torch.randint(0, 256, shape, dtype=torch.uint8).to(device),
        sample_index_B=torch.from_numpy(rows_B).to(device),
    )
    loaded = LoadedStep(batch, case.batch_size, case.batch_size)

    def call() -> None:
        state.cursor.consumed = 0
        step(loaded, rows_B)

    return Part(name, peer, case.batch_size, "images", call)


def _data() -> TrainingData:
    """Return random labels without a pack: all that a step asks for."""
    draw = np.random.default_rng(0)
    targets_NC = (draw.random((NUM_ROWS, len(NVUM_NIH.findings))) < 0.1).astype(np.float32)
    selection = Selection(
        space=NVUM_NIH,
        split="train",
        sample_index_n=np.arange(NUM_ROWS),
        targets_NC=targets_NC,
        mask_NC=np.ones(targets_NC.shape, np.bool_),
        left_out={},
    )
    return cast("TrainingData", SimpleNamespace(train=selection, prior_C=np.full(len(NVUM_NIH.findings), 0.1)))

"""How the exported files are read, in the model's card: with this project, and without it."""

from collections.abc import Mapping

from trainer.export.description import ModelDescription
from trainer.export.weights_file import KEY, WEIGHTS_FILE

WITH_PROJECT = """With cxr-nvum:

```python
from trainer.export import load_exported

model = load_exported("{folder}")          # model.module, model.description
probs = model.probs(images)                # uint8 [B, 1, {height}, {width}] -> float32 [B, {outputs}]
```

or, from files to a table: `cxr-train predict --run {folder} IMAGES...`."""

SAFETENSORS = """Weights without it (names and shapes of the network `{model}`; nothing in the file can run code):

```python
import json
from safetensors import safe_open

with safe_open("{weights}", framework="pt") as file:
    about = json.loads(file.metadata()["{key}"])
    weights = {{name: file.get_tensor(name) for name in file.keys()}}
print(about["findings"], about["preprocessing"])
```"""

PT2 = """The whole model without it, `model.pt2` (torch alone; preprocessing after the resize is inside):

```python
import torch

program = torch.export.load("model.pt2").module()
images = torch.zeros(3, 1, {height}, {width}, dtype=torch.uint8)
with torch.inference_mode():
    probs = program(images)
```"""

ONNX = """The same as `model.onnx`:

```python
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
images = np.zeros((3, 1, {height}, {width}), np.uint8)
(probs,) = session.run(["probabilities"], {{"images": images}})
```"""

PROGRAMS = {"model.pt2": PT2, "model.onnx": ONNX}


def loading_part(description: ModelDescription, differences: Mapping[str, float]) -> str:
    """Return the section on loading; programs are those that `differences` names."""
    spec = description.preprocessing.spec
    texts = [WITH_PROJECT, SAFETENSORS, *(text for name, text in PROGRAMS.items() if name in differences)]
    filled = [
        text.format(
            folder="DIR", weights=WEIGHTS_FILE, key=KEY, model=description.model, height=spec.height_px,
            width=spec.width_px, outputs=len(description.findings),
        )
        for text in texts
    ]  # fmt: skip
    measured = [
        f"`{name}` differs from the run's own model, in float32 on the same images of its pack, by at most "
        f"{difference:.1e} in a probability."
        for name, difference in differences.items()
    ]
    return "\n\n".join(["## How to load", *filled, *measured])

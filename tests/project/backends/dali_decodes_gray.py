"""DALI decodes a PNG to the very same gray pixels, with its CPU operators, bytes fed from outside."""

import io

import numpy as np
from nvidia.dali import Pipeline, fn, types
from PIL import Image

expected_HW = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
file = io.BytesIO()
Image.fromarray(expected_HW).save(file, format="PNG")
encoded = np.frombuffer(file.getvalue(), np.uint8)


pipeline = Pipeline(batch_size=2, num_threads=1, device_id=None)
with pipeline:
    source = fn.external_source(source=lambda: [encoded, encoded], batch=True, dtype=types.UINT8)
    pipeline.set_outputs(fn.decoders.image(source, device="cpu", output_type=types.GRAY))
pipeline.build()
(images,) = pipeline.run()
for index in range(2):
    np.testing.assert_array_equal(np.asarray(images[index])[:, :, 0], expected_HW)

"""The readers that other tools have for our packs, each as a function from a pack to what it found by sample_index."""

import gc
import io
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.pack import Pack

Found = dict[int, tuple[np.ndarray, np.ndarray]]
"""sample_index -> image [H, W], targets [C] (C = 0 where there are none)."""

NO_TARGETS = np.zeros(0, np.float32)


def example_of(tool: str) -> str:
    """Return the code of README's example that begins with a comment `# <tool>`; it hands every sample to `use`."""
    readme = (Path(__file__).resolve().parents[1] / "pipeline/README.md").read_text()
    (code,) = re.findall(rf"```python\n# {tool}\n(.*?)```", readme, re.DOTALL)
    return str(code)


def psnr_db(found: np.ndarray, expected: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio of 8-bit images."""
    return float(10 * np.log10(255**2 / np.mean((found.astype(float) - expected) ** 2)))


def tars_of(pack: Pack) -> list[Path]:
    """Return the shards of a `tar` pack that hold a sample: DALI refuses an empty one."""
    tars = [pack.shard_path(shard) for shard in pack.shards]
    return [tar for tar in tars if tar.with_suffix(".idx").read_bytes() != b"v1.2 0\n"]


def read_with_webdataset(pack: Pack) -> Found:
    """Read a `tar` pack with the webdataset package; Pillow decodes."""
    import webdataset as wds

    found: Found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # webdataset leaves its files to the garbage collector
        for sample in wds.WebDataset([str(tar) for tar in tars_of(pack)], shardshuffle=False):
            sample_index = int.from_bytes(sample["sample_index"], "little")
            assert sample["__key__"] == f"{sample_index:09d}"
            assert sample_index not in found
            with Image.open(io.BytesIO(sample[pack.encoding.image])) as image:
                found[sample_index] = (np.asarray(image), np.frombuffer(sample.get("targets", b""), "<f4"))
        gc.collect()
    return found


def read_with_dali(pack: Pack) -> Found:
    """Read a `tar` pack with DALI's readers.webdataset and its CPU decoder."""
    from nvidia.dali import fn, pipeline_def, types

    tars = tars_of(pack)
    extensions, dtypes = [pack.encoding.image, "sample_index"], [types.UINT8, types.INT64]
    if pack.encoding.targets is not None:
        extensions, dtypes = [*extensions, "targets"], [*dtypes, types.FLOAT]
    depth = types.UINT8 if pack.spec.bits == 8 else types.UINT16

    read_tars: Any = fn.readers.webdataset  # DALI's stubs say that it returns nothing

    @pipeline_def(batch_size=16, num_threads=1, device_id=None)  # type: ignore[untyped-decorator]
    def read() -> Any:
        encoded, *others = read_tars(
            paths=[str(tar) for tar in tars],
            index_paths=[str(tar.with_suffix(".idx")) for tar in tars],
            ext=extensions,
            dtypes=dtypes,
            missing_component_behavior="error",
            pad_last_batch=True,
            name="reader",
        )
        # With types.ANY_DATA DALI 2.4.0 ends the process with SIGSEGV at the first gray JPEG.
        return fn.decoders.image(encoded, output_type=types.GRAY, dtype=depth), *others

    pipeline = read()
    pipeline.build()
    num_samples = pipeline.reader_meta("reader")["epoch_size"]
    found: Found = {}
    for _ in range(-(-num_samples // 16)):
        images, indices, *targets = pipeline.run()
        for row in range(16):
            (sample_index,) = indices.at(row)
            assert images.at(row).shape[2] == 1
            targets_C = targets[0].at(row) if targets else NO_TARGETS
            if len(found) < num_samples:  # the rest of the last batch repeats the last sample
                assert int(sample_index) not in found
                found[int(sample_index)] = (images.at(row)[..., 0].copy(), np.array(targets_C))
    return found


def found_by_ffcv(out: Path) -> Found:
    """Return what `tests.ffcv_peer.read` has written; of RGB images, whose channels must be equal, one channel."""
    with np.load(out) as stored:
        images, indices = stored["image"], stored["sample_index"][:, 0]
        targets_NC = stored["targets"] if "targets" in stored else np.zeros((len(images), 0), np.float32)
    if images.ndim == 4:
        assert (images == images[..., :1]).all()
        images = images[..., 0]
    assert len(set(indices.tolist())) == len(indices)
    return {int(index): (images[row], targets_NC[row]) for row, index in enumerate(indices)}

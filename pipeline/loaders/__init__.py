"""Backends that stream batches with their sample_index, all in the same order.

`open_loader` is the door; what it gives keeps the `Loader` contract, whichever backend stands behind it.
"""

from pipeline.loaders.config import LoaderConfig
from pipeline.loaders.contract import LoadedStep, Loader
from pipeline.loaders.registry import BACKENDS, Backend, backend_named, open_loader

__all__ = ["BACKENDS", "Backend", "LoadedStep", "Loader", "LoaderConfig", "backend_named", "open_loader"]

"""Compiled loops of ours, where the package was installed with a C compiler at hand."""

import ctypes
import importlib.util


def compiled_library(module: str) -> ctypes.CDLL | None:
    """Return the library that was built as `module`, a full module name; None where it was not, or not for here."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return None
    try:
        return ctypes.CDLL(spec.origin)
    except OSError:  # built on another machine
        return None

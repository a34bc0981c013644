"""What must be installed for the files of a pack, asked before any of them is opened."""

import importlib.util
from collections.abc import Iterable

from manifests.errors import ConfigError

DICOM_SUFFIXES = (".dcm", ".dicom", ".dic")
INSTALL = 'pip install "cxr-nvum[dicom]"'


def require_readers(paths: Iterable[str]) -> None:
    """Return if the packages are installed that files of these names ask for.

    A name does not decide what a file is, but without pydicom a release of 100,000 DICOM files would be 100,000
    rejected images.

    Raises:
        ConfigError: DICOM files, and no pydicom.
    """
    if importlib.util.find_spec("pydicom") is not None:
        return
    example = next((path for path in paths if path.lower().endswith(DICOM_SUFFIXES)), None)
    if example is not None:
        raise ConfigError(f"{example}: DICOM files need pydicom, which is not installed: {INSTALL}")

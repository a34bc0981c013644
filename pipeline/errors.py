"""The user's errors that packs and loaders raise, beside those of `manifests.errors`."""

from manifests.errors import UserError


class PackError(UserError):
    """A pack that is missing, damaged, of another identity, or that cannot be written where it was asked for."""


class DamagedPackError(PackError):
    """A pack that was read and found not to be what was packed."""

    exit_code = 1


class TooManyRejectsError(PackError):
    """Packing was stopped because more images were rejected than the user allows."""

    exit_code = 1


class MissingBackendError(UserError):
    """A loader that was chosen but whose package is not installed; the message names the extra."""

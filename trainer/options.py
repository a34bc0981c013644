"""How configuration sections refuse a value that cannot work."""

from manifests.errors import ConfigError


def refuse_unless(holds: bool, option: str, value: object, expected: str) -> None:
    """Raise a `ConfigError` that names the option, the value found and the values expected, unless `holds`."""
    if not holds:
        raise ConfigError(f"{option}={value}: expected {expected}")

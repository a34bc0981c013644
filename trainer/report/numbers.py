"""Numbers of metrics.json as a report shows them."""

from typing import Any


def number(value: float | None) -> str:
    """Return a number with three digits, or n/a."""
    return "n/a" if value is None else f"{value:.3f}"


def with_interval(values: dict[str, Any], name: str) -> str:
    """Return the number `name` of an entry as HTML, with its interval where it has one."""
    interval = values.get(f"{name}_interval")
    ends = "" if interval is None else f" <small>({interval[0]:.3f} to {interval[1]:.3f})</small>"
    return f"{number(values[name])}{ends}"


def finding_name(name: str) -> str:
    """Return a finding for people."""
    return name.replace("_", " ")

"""Settings as the text of a recipe."""

import json
from collections.abc import Iterator

from trainer.sections import NONE, Values


def recipe_text(settings: Values, comment: str) -> str:
    """Return settings as TOML that `cxr-train --recipe` reads, with comments above."""
    return "\n".join([*(f"# {line}".rstrip() for line in comment.splitlines()), "", *settings_lines(settings)])


def settings_lines(settings: Values) -> Iterator[str]:
    """Yield settings as lines of TOML, the name of a section's choice first."""
    for section, keys in settings.items():
        yield f"[{section}]"
        for key, value in sorted(keys.items(), key=lambda item: item[0] != "name"):
            yield f"{key} = {json.dumps(NONE if value is None else value, ensure_ascii=False)}"
        yield ""

"""README's file map, rewritten from the first line of each file's docstring.

    python -m tools.file_map

A test compares the map's paths with the disk; this is the quick way to make it true again.
"""

import ast
import itertools
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("manifests", "pipeline", "trainer", "tools")


def main() -> None:
    """Put the map between the markers in README.md."""
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    map_text = f"<!-- file map -->\n```text\n{file_map()}```\n<!-- /file map -->"
    # A function, for re would take backslashes in a text for escapes.
    readme.write_text(
        re.sub(r"<!-- file map -->.*?<!-- /file map -->", lambda _: map_text, text, flags=re.DOTALL), encoding="utf-8"
    )


def file_map() -> str:
    """Return a line `path  what it is` for each tracked file; packages apart, their own files before their folders."""
    listing = subprocess.run(["git", "ls-files", *PACKAGES], cwd=ROOT, capture_output=True, text=True, check=True)
    files = [Path(name) for name in listing.stdout.splitlines()]
    files = [path for path in files if path.suffix == ".py" and path.name != "__init__.py" and (ROOT / path).is_file()]
    files.sort(key=lambda path: (PACKAGES.index(path.parts[0]), path.parent, path))
    width = max(len(str(path)) for path in files)
    blocks = [
        "".join(f"{path!s:<{width}}  {first_line(ROOT / path)}\n" for path in block)
        for _, block in itertools.groupby(files, key=lambda path: path.parts[0])
    ]
    return "\n".join(blocks)


def first_line(path: Path) -> str:
    """Return the first line of a file's docstring without its full stop."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0].removesuffix(".")


if __name__ == "__main__":
    main()

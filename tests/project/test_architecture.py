"""The laws of the layout: who may import whom, how files are named and described, what the README's map says."""

import ast
import re
from collections import Counter

from tests.project.source_tree import LAYERS, ROOT, imported_names, is_within, module_name, source_files, tracked_files

RUNTIME = ("pipeline.loaders", "pipeline.order", "pipeline.augment", "pipeline.batch", "pipeline.pack", "trainer")
"""What runs on a bare GPU machine with torch, numpy and pyarrow."""

NOT_ON_A_GPU_MACHINE = ("polars", "pipeline.packing")
AFTER_TRAINING = ("trainer.predict", "trainer.commands.predict", "trainer.export", "trainer.commands.export")
"""What decodes image files with the packing code, or tells of datasets: nothing that trains may import it."""

NAMES_THAT_SAY_NOTHING = {"utils", "util", "common", "helpers", "helper", "misc"}

FILES = source_files(*LAYERS)
MODULES = {module_name(path): path for path in FILES}


def test_imports_go_one_way() -> None:
    upward = [
        f"{path} imports {name}"
        for path in FILES
        for name in sorted(imported_names(path))
        for layer in (*LAYERS, "tests")
        if is_within(name, layer) and layer not in LAYERS[: LAYERS.index(path.parts[0]) + 1]
    ]
    assert not upward


def test_manifests_never_import_torch() -> None:
    assert not [
        f"{path} imports {name}"
        for path in source_files("manifests")
        for name in imported_names(path)
        if is_within(name, "torch")
    ]


def test_training_needs_neither_polars_nor_the_packing_code() -> None:
    offences = [
        " -> ".join([*chain, name])
        for module in MODULES
        if any(is_within(module, package) for package in RUNTIME) and not is_after_training(module)
        for chain in import_chains(module)
        for name in imported_names(MODULES[chain[-1]])
        if any(is_within(name, banned) for banned in NOT_ON_A_GPU_MACHINE)
    ]
    assert not offences


def test_only_their_commands_lead_to_what_comes_after_training() -> None:
    offences = [
        f"{module} imports {name}"
        for module, path in MODULES.items()
        if not is_after_training(module) and module.partition(".")[0] != "tools" and module != "trainer.cli"
        for name in imported_names(path)
        if is_after_training(name)
    ]
    assert not offences


def is_after_training(module: str) -> bool:
    """Return whether a module is one of those that training must do without."""
    return any(is_within(module, package) for package in AFTER_TRAINING)


def import_chains(module: str) -> list[list[str]]:
    """Return for each of our modules that `module` imports, itself first, one chain of imports that leads there.

    The command line names all commands; chains end where one leaves training behind.
    """
    chains = {module: [module]}
    waiting = [module]
    while waiting:
        importer = waiting.pop()
        for name in imported_names(MODULES[importer]):
            parents = [name[:end] for end, letter in enumerate(name) if letter == "."]
            for found in (*parents, name):  # importing a.b.c runs a and a.b too
                if found in MODULES and found not in chains and not is_after_training(found):
                    chains[found] = [*chains[importer], found]
                    waiting.append(found)
    return list(chains.values())


def test_every_file_is_named_after_what_it_holds() -> None:
    assert not [
        path for path in [*FILES, *source_files("tests")] if NAMES_THAT_SAY_NOTHING & {*path.with_suffix("").parts}
    ]


def test_every_file_says_what_it_is() -> None:
    assert not [path for path in FILES if not ast.get_docstring(ast.parse((ROOT / path).read_text(encoding="utf-8")))]


def test_readme_maps_every_file_once() -> None:
    mapped = Counter(readme_map())
    on_disk = [
        str(path)
        for path in tracked_files()
        if path.suffix == ".py" and path.parts[0] in LAYERS and path.name != "__init__.py"
    ]
    assert not [path for path in on_disk if mapped[path] == 0], "`python -m tools.file_map` writes the map"
    assert not [path for path, times in mapped.items() if times > 1]


def test_readme_maps_only_what_exists() -> None:
    assert not [path for path in readme_map() if not (ROOT / path).exists()]


def readme_map() -> list[str]:
    """Return the paths in the file maps of the READMEs, the root's and those of the packages that have one.

    Lines of a map are `path  what it is`, the path from the root, two spaces or more between.
    """
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *sorted(ROOT.glob("*/README.md")))]
    maps = [
        found[1]
        for text in texts
        for found in re.finditer(r"<!-- file map -->(.*?)<!-- /file map -->", text, re.DOTALL)
    ]
    assert maps, "no README has a file map between <!-- file map --> and <!-- /file map -->"
    return [path for text in maps for path in re.findall(r"^ *`?([\w./-]+)`?  +\S", text, re.MULTILINE)]


def test_tracked_files_speak_of_no_single_machine() -> None:
    # In pieces, so that this file does not find itself.
    home = r"(?<![\w.~])/(?:home|Users)/[a-z]|(?<!\w)/(?:root|work)/[\w.]"
    registry = "|".join(
        host.replace(".", r"\.") for host in ("pypi" + ".org", "pythonhosted" + ".org", "debian" + ".org")
    )
    offences = []
    for path in tracked_files():
        try:
            text = (ROOT / path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # an image or a Parquet file
        offences += [
            f"{path}:{number}: {line.strip()}"
            for number, line in enumerate(text.splitlines(), start=1)
            if re.search(home, line) or re.search(registry, line)
        ]
    assert not offences

"""Where things lie when no option says otherwise: ``./cxr-data`` or ``$CXR_HOME``.

::

    cxr-data/
      manifests/<dataset>.parquet       written by `cxr-prep build-manifest`
      packs/<dataset>-<size>-<format>/  written by `cxr-prep pack`
      runs/<name>/                      written by `cxr-train`
      roots.json                        dataset -> folder of the release, so that `cxr-prep pack` finds the images
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from manifests.atomic import write_bytes_atomically
from manifests.errors import ConfigError, ManifestError

HOME_VARIABLE = "CXR_HOME"
DEFAULT_HOME = "cxr-data"


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """Paths of one workspace; nothing is created before something is written."""

    home: Path
    """Folder that holds manifests, packs, runs and roots.json."""

    @classmethod
    def current(cls) -> "Workspace":
        """Return the workspace of this process: ``$CXR_HOME``, else ``./cxr-data``."""
        return cls(home=Path(os.environ.get(HOME_VARIABLE) or DEFAULT_HOME))

    @property
    def manifests(self) -> Path:
        """Folder of the manifests."""
        return self.home / "manifests"

    @property
    def packs(self) -> Path:
        """Folder of the packs."""
        return self.home / "packs"

    @property
    def runs(self) -> Path:
        """Folder of the training runs."""
        return self.home / "runs"

    @property
    def roots_file(self) -> Path:
        """File that remembers each dataset's release folder."""
        return self.home / "roots.json"

    def manifest_path(self, dataset: str) -> Path:
        """Return where a dataset's manifest lies by default."""
        return self.manifests / f"{dataset}.parquet"

    def pack_path(self, dataset: str, size: int | str, pack_format: str) -> Path:
        """Return where a pack lies by default."""
        return self.packs / f"{dataset}-{size}-{pack_format}"

    def only_manifest(self) -> Path:
        """Return the only manifest of the workspace.

        Raises:
            ManifestError: there is none, or several; the message lists them or names the command to run.
        """
        found = sorted(self.manifests.glob("*.parquet")) if self.manifests.is_dir() else []
        if not found:
            raise ManifestError(
                f"{self.manifests}: no manifest yet; run `cxr-prep build-manifest --dataset nih --root DIR` first"
            )
        if len(found) > 1:
            raise ManifestError(
                f"{self.manifests}: {len(found)} manifests; choose one with --manifest", [str(path) for path in found]
            )
        return found[0]

    def roots(self) -> dict[str, str]:
        """Return dataset -> release folder, as remembered by `remember_root`.

        Raises:
            ConfigError: roots.json is not a JSON object of strings.
        """
        try:
            text = self.roots_file.read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        try:
            roots = json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigError(f"{self.roots_file}: not JSON ({error}); repair or delete it") from error
        if not isinstance(roots, dict) or not all(isinstance(value, str) for value in roots.values()):
            raise ConfigError(f"{self.roots_file}: expected an object of dataset: folder; repair or delete it")
        return roots

    def remember_root(self, dataset: str, root: Path) -> None:
        """Write down where the release of `dataset` lies (absolute)."""
        roots = self.roots() | {dataset: str(root.resolve())}
        self.home.mkdir(parents=True, exist_ok=True)
        write_bytes_atomically(self.roots_file, (json.dumps(roots, indent=2, sort_keys=True) + "\n").encode())

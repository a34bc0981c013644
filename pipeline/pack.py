"""A pack on disk: what `cxr-prep pack` writes, and what loaders, the trainer and `cxr-prep verify` open.

::

    <pack>/
      pack.json          format, image spec, identity, shards with their checksums, rejected rows
      manifest.parquet   one row a sample; row number = sample_index
      rejected.parquet   sample_index, image_id, path, reason, num_bytes, detail of the images without pixels
      checksums.parquet  offset, num_bytes, crc32 of each sample within its shard; row number = sample_index
      shard-00000.npy    raw: uint8 [n, H, W], memory-mappable; rejected images are zeros

Nothing here decodes images: numpy's and pyarrow's machines can open a pack without Pillow, polars or torch.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa

from manifests.errors import ConfigError, ManifestError
from manifests.table import ManifestTable, read_manifest
from manifests.workspace import Workspace
from pipeline.encoding import Encoding, recorded_encoding
from pipeline.errors import PackError
from pipeline.file_checksum import SHA256, FileChecksum
from pipeline.image_spec import ImageSpec
from pipeline.pack_files import Shard as Shard
from pipeline.pack_files import SideFile as SideFile
from pipeline.pack_format import PackFormat

SCHEMA, SCHEMA_OF_SHA256 = "cxr-pack/3", "cxr-pack/2"
"""Of packs made by this version, and of those whose shards have SHA-256 for a checksum; both are read."""

PACK_FILE = "pack.json"
MANIFEST_FILE = "manifest.parquet"
REJECTED_FILE = "rejected.parquet"
CHECKSUMS_FILE = "checksums.parquet"
PARTIAL_SUFFIX = ".partial"


@dataclass(frozen=True, kw_only=True)
class Pack:
    """What pack.json says; `open_pack` makes one, `manifest()` reads the labels."""

    folder: Path
    """Where the pack lies; not part of pack.json."""

    format: PackFormat
    """How the pixels are stored."""

    spec: ImageSpec
    """What every image is."""

    encoding: Encoding
    """How the format stores images; of its fields pack.json records those that mean something there."""

    pixel_rule: str
    """Version of the meaning of a pixel (`pipeline.packing.pixels.PIXEL_RULE`)."""

    dataset: str
    """Name of the manifest's dataset."""

    identity: str
    """`identity_of` its manifest: memories and checkpoints bind to it."""

    num_samples: int
    """N: rows of the manifest, rejected ones included."""

    rejected: tuple[int, ...]
    """sample_index of the images without pixels, ascending."""

    shards: tuple[Shard, ...]
    """In order of sample_index, without gaps."""

    manifest_sha256: str
    """Checksum of manifest.parquet."""

    rejected_sha256: str
    """Checksum of rejected.parquet."""

    checksums_sha256: str = ""
    """Checksum of checksums.parquet."""

    target_names: tuple[str, ...] = ()
    """Findings whose targets each sample carries, in order; empty without `Encoding.targets`."""

    schema: str = SCHEMA
    """Of pack.json; an older pack stays what it is."""

    @property
    def height_px(self) -> int:
        """Rows of every image."""
        return self.spec.height_px

    @property
    def width_px(self) -> int:
        """Columns of every image."""
        return self.spec.width_px

    def manifest(self) -> ManifestTable:
        """Return the pack's manifest, read once; row number = sample_index.

        Raises:
            PackError: it is missing, broken, or not the manifest that was packed.
        """
        return self._manifest

    def shard_path(self, shard: Shard) -> Path:
        """Return where a shard lies."""
        return self.folder / shard.file

    def to_json(self) -> bytes:
        """Return the bytes of pack.json: the same for the same pack, with a checksum of its own."""
        document = {"schema": self.schema} | asdict(self)
        del document["folder"]
        if self.schema == SCHEMA_OF_SHA256:
            document["shards"] = [_with_sha256(shard) for shard in document["shards"]]
        document["encoding"] = recorded_encoding(self.format, self.encoding)
        return _serialise(document | {"checksum": _checksum(document)})

    @cached_property
    def _manifest(self) -> ManifestTable:
        path = self.folder / MANIFEST_FILE
        try:
            manifest = read_manifest(path)
        except (ManifestError, OSError, ValueError) as error:  # a damaged file may decode to wrong text
            raise PackError(f"{path}: not the pack's manifest ({error}); pack again") from error
        identity = identity_of_manifest(manifest)
        if manifest.num_rows != self.num_samples or identity != self.identity:
            raise PackError(
                f"{path}: the manifest of another pack ({manifest.num_rows:,} rows, identity {identity[:12]}; "
                f"expected {self.num_samples:,} rows, identity {self.identity[:12]}); restore it or pack again"
            )
        return manifest


def open_pack(folder: Path) -> Pack:
    """Return the pack in `folder`, its parts present and its manifest its own; contents are for `cxr-prep verify`.

    Sizes are compared and the identity is recomputed, checksums are not: 112,120 rows open in a fraction of a second.

    Raises:
        PackError: no pack there, pack.json broken or of another schema, a shard missing or cut short, or the manifest
            of another pack.
    """
    pack = read_pack_json(folder)
    problems = size_problems(pack)
    if problems:
        raise PackError("\n  ".join([f"{folder}: the pack is cut short; restore these files or pack again", *problems]))
    pack.manifest()
    return pack


def only_pack(workspace: Workspace, formats: Sequence[str]) -> Path:
    """Return the folder of the only pack in the workspace whose format is one of `formats`.

    Raises:
        PackError: there is none, or several; the message lists them or names the command to run.
    """
    folders = sorted(path.parent for path in workspace.packs.glob(f"*/{PACK_FILE}"))
    try:
        fitting = [folder for folder in folders if read_pack_json(folder).format in formats]
    except PackError as error:
        raise PackError(f"{error}; repair or delete it, or name the pack that is meant with --pack") from error
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        listed = "\n  ".join(str(folder) for folder in fitting)
        raise PackError(f"{workspace.packs}: {len(fitting)} packs; choose one with --pack\n  {listed}")
    unfinished = sorted(workspace.packs.glob(f"*{PARTIAL_SUFFIX}"))
    if unfinished:
        raise PackError(f"{unfinished[0]}: packing was interrupted; run `cxr-prep pack --resume` first")
    others = f" ({len(folders)} of another format)" if folders else ""
    raise PackError(
        f"{workspace.packs}: no pack of format {' or '.join(formats)}{others}; run `cxr-prep pack --format "
        f"{formats[0]}` first, name a pack with --pack, or choose another --loader"
    )


def identity_of(datasets: Iterable[str], image_ids: Iterable[str]) -> str:
    """Return the sha256 (hexadecimal) of the ordered (dataset, image_id) list: which image has which sample_index."""
    digest, separator = hashlib.sha256(), ""
    for dataset, image_id in zip(datasets, image_ids, strict=True):
        digest.update(f"{separator}{dataset}\x1f{image_id}".encode())
        separator = "\x1e"
    return digest.hexdigest()


def identity_of_manifest(manifest: ManifestTable) -> str:
    """Return `identity_of` the rows of a manifest."""
    return identity_of(*(strings_of(manifest.table.column(name)) for name in ("dataset", "image_id")))


def strings_of(column: pa.ChunkedArray) -> Iterator[str]:
    """Yield the values of a text column, without making Python strings of all of them at once."""
    for begin in range(0, len(column), 1 << 16):
        yield from column.slice(begin, 1 << 16).to_pylist()


def files_of(shards: Iterable[Shard]) -> Iterator[Shard | SideFile]:
    """Yield every shard, and after it its side files."""
    for shard in shards:
        yield shard
        yield from shard.side_files


def size_problems(pack: Pack) -> list[str]:
    """Return a line for every shard or side file that is missing or has another size than pack.json says."""
    problems = []
    for part in files_of(pack.shards):
        path = pack.folder / part.file
        if not path.is_file():
            problems.append(f"{part.file}: missing")
        elif (found := path.stat().st_size) != part.num_bytes:
            problems.append(f"{part.file}: {found:,} bytes, expected {part.num_bytes:,}")
    return problems


def read_pack_json(folder: Path) -> Pack:
    """Return what pack.json in `folder` says, without looking at any other file.

    Raises:
        PackError: no such folder, no pack.json in it, or one that is broken, changed by hand or of another schema.
    """
    path = folder / PACK_FILE
    try:
        document = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise PackError(f"{folder}: {_why_no_pack(folder)}") from error
    except (OSError, ValueError) as error:
        raise PackError(f"{path}: broken ({error}); pack again") from error
    if not isinstance(document, dict) or document.get("schema") not in (SCHEMA, SCHEMA_OF_SHA256):
        found = document.get("schema") if isinstance(document, dict) else type(document).__name__
        raise PackError(f"{path}: schema {found!r}, this version reads {SCHEMA!r}; pack again with this version")
    if document.pop("checksum", None) != _checksum(document):
        raise PackError(f"{path}: its checksum does not fit, so it was changed or damaged; restore it or pack again")
    return _from_document(path, document)


def _from_document(path: Path, document: dict[str, Any]) -> Pack:
    """Return the Pack of a document whose checksum fits; what it says must still make sense."""
    try:
        fields = dict(document)
        shards = tuple(map(_shard_of, fields.pop("shards")))
        pack = Pack(
            folder=path.parent,
            spec=ImageSpec(**fields.pop("spec")),
            encoding=Encoding(**fields.pop("encoding")),
            shards=shards,
            rejected=tuple(fields.pop("rejected")),
            target_names=tuple(fields.pop("target_names")),
            **fields,
        )
        first_indices = list(accumulate((shard.num_samples for shard in shards), initial=0))
        sound = (
            pack.format in get_args(PackFormat)
            and [shard.first_index for shard in shards] + [pack.num_samples] == first_indices
            and all(Path(part.file).name == part.file for part in files_of(shards))
            and sorted(set(pack.rejected) & set(range(pack.num_samples))) == list(pack.rejected)
        )
    except (ConfigError, KeyError, TypeError, ValueError) as error:
        raise PackError(f"{path}: broken ({error}); pack again") from error
    if not sound:
        raise PackError(f"{path}: broken (its shards or rejected rows do not fit its {pack.num_samples} samples)")
    return pack


def _shard_of(fields: dict[str, Any]) -> Shard:
    """Return the Shard of its part of pack.json, whose checksum is by an algorithm that is known."""
    if "sha256" in fields:
        fields = fields | {"checksum": f"{SHA256}:{fields['sha256']}"}
        del fields["sha256"]
    side_files = tuple(SideFile(**side_file) for side_file in fields["side_files"])
    FileChecksum.like(str(fields["checksum"]))
    return Shard(**fields | {"side_files": side_files})


def _with_sha256(fields: dict[str, Any]) -> dict[str, Any]:
    """Return a shard's part of pack.json as `SCHEMA_OF_SHA256` has it."""
    named = {"sha256" if name == "checksum" else name: value for name, value in fields.items()}
    return named | {"sha256": fields["checksum"].removeprefix(f"{SHA256}:")}


def _why_no_pack(folder: Path) -> str:
    """Say why a folder without pack.json holds no pack, and what helps."""
    partial = folder.with_name(folder.name + PARTIAL_SUFFIX)
    if partial.is_dir():
        return f"packing was interrupted ({partial} is there); finish it with `cxr-prep pack --resume`"
    if folder.exists() and not folder.is_dir():
        return "a file; name the folder of a pack, which holds pack.json"
    if not folder.is_dir():
        return "no such folder; make a pack with `cxr-prep pack`"
    return f"no {PACK_FILE} in it, so it is not a pack; make one with `cxr-prep pack`"


def _serialise(document: dict[str, Any]) -> bytes:
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()


def _checksum(document: dict[str, Any]) -> str:
    return hashlib.sha256(_serialise(document)).hexdigest()

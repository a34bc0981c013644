"""Labels of another manifest for the same images."""

from typing import Any

import pyarrow as pa

from manifests.label_spaces import LabelSpace
from manifests.selection import select
from manifests.table import ManifestTable
from trainer.relabel import relabelled


def table_of(images: list[str], labelled: list[str], **labels: list[int | None]) -> ManifestTable:
    columns: dict[str, Any] = {
        "dataset": ["chexpert"] * len(images),
        "image_id": images,
        "split": ["test"] * len(images),
    }
    columns |= {name: pa.array(values, pa.int8()) for name, values in labels.items()}
    return ManifestTable(table=pa.table(columns), metadata={"dataset": "chexpert", "labelled": {"chexpert": labelled}})


def test_what_the_other_manifest_does_not_say_is_masked_also_where_blanks_are_zeros() -> None:
    space = LabelSpace(name="two", findings=("Edema", "Fracture"), blank="zeros")
    images = table_of(["a", "b", "c"], ["Edema", "Fracture"], Edema=[1, 1, 1], Fracture=[1, 1, 1])
    labels = table_of(["b", "a"], ["Edema", "Mass"], Edema=[0, None], Mass=[None, 0])
    selection = select(relabelled(images, labels), space, None)
    # a: Edema is not mentioned; b: absent; c: no label at all. Fracture is labelled by nobody.
    assert selection.mask_NC.tolist() == [[True, False], [True, False], [False, False]]
    assert selection.targets_NC.tolist() == [[0, 0]] * 3

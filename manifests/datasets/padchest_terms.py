"""How PadChest's labels map to the harmonised findings: whole list items, never parts of them.

False friends that no row of the table has, so that they stay words without a finding: pseudonodule, pericardial
effusion, subcutaneous emphysema, breast mass, mediastinal mass, soft tissue mass.
"""

import re
from functools import lru_cache

from manifests.findings import NO_FINDING
from manifests.vocabulary import Term, Vocabulary, family

KIND_OF = {"Consolidation": "Infiltration", "Calcified Granuloma": "Granuloma"}
"""Finding -> wider finding that is present with it; NVUM's authors count consolidation among the infiltrates."""

VOCABULARY = Vocabulary(
    (
        *family("Atelectasis", "atelectasis", "atelectasis basal", "laminar atelectasis", "lobar atelectasis"),
        *family("Atelectasis", "round atelectasis", "segmental atelectasis", "total atelectasis"),
        Term("consolidation", "Consolidation"),
        *family("Infiltration", "infiltrates"),
        *family(
            "Infiltration", "interstitial pattern", "reticular interstitial pattern", because="a kind of infiltrate"
        ),
        *family("Infiltration", "reticulonodular interstitial pattern", because="a kind of infiltrate"),
        *family("Infiltration", "ground glass pattern", "alveolar pattern", because="a kind of infiltrate"),
        Term("air bronchogram", "Infiltration", "air-filled bronchi show where the air spaces are filled"),
        Term("pneumothorax", "Pneumothorax"),
        Term("hydropneumothorax", "Pneumothorax", "air beside fluid"),
        Term("pulmonary edema", "Edema"),
        Term("emphysema", "Emphysema"),
        Term("pulmonary fibrosis", "Fibrosis"),
        *family("Effusion", "pleural effusion", "loculated pleural effusion", "loculated fissural effusion"),
        *family("Pneumonia", "pneumonia", "atypical pneumonia", "viral pneumonia"),
        *family(
            "Pleural_Thickening", "pleural thickening", "apical pleural thickening", "calcified pleural thickening"
        ),
        Term("cardiomegaly", "Cardiomegaly"),
        *family("Nodule", "nodule", "multiple nodules"),
        *family("Mass", "mass", "pulmonary mass", "pleural mass"),
        Term("hiatal hernia", "Hernia"),
        *family("Fracture", "clavicle fracture", "humeral fracture", "rib fracture", "vertebral fracture"),
        Term("callus rib fracture", "Fracture", "a healed one"),
        Term("granuloma", "Granuloma"),
        Term("calcified granuloma", "Calcified Granuloma"),
        Term("flattened diaphragm", "Flattened Diaphragm"),
        Term("bronchiectasis", "Bronchiectasis"),
        *family(
            "Aortic Elongation", "aortic elongation", "ascendent aortic elongation", "descendent aortic elongation"
        ),
        Term("scoliosis", "Scoliosis"),
        *family("Hilar Enlargement", "hilar enlargement", "vascular hilar enlargement"),
        *family("Tuberculosis", "tuberculosis", "tuberculosis sequelae"),
        Term("air trapping", "Air Trapping"),
        Term("costophrenic angle blunting", "Costophrenic Angle Blunting"),
        Term("aortic atheromatosis", "Aortic Atheromatosis"),
        Term("hemidiaphragm elevation", "Hemidiaphragm Elevation"),
        *family("Support Devices", "electrical device", "pacemaker", "dual chamber device", "single chamber device"),
        Term("dai", "Support Devices", "Spanish for an implantable defibrillator"),
        *family("Support Devices", "artificial heart valve", "artificial aortic heart valve"),
        *family("Support Devices", "artificial mitral heart valve"),
        *family("Support Devices", "catheter", "central venous catheter", "reservoir central venous catheter"),
        *family("Support Devices", "central venous catheter via jugular vein"),
        *family("Support Devices", "central venous catheter via subclavian vein"),
        *family("Support Devices", "central venous catheter via umbilical vein"),
        *family("Tube", "tube", "endotracheal tube", "tracheostomy tube", "chest drain tube", "gastrostomy tube"),
        Term("nsg tube", "Tube", "nasogastric"),
        Term("normal", NO_FINDING, "and, with no-finding=paper, wherever no finding is named"),
    ),
    KIND_OF,
)
"""In lower case, as items are compared: the release writes `NSG tube` and `COPD signs`."""

TELL_NOTHING = ("unchanged", "suboptimal study", "exclude")
"""Labels that say neither what is there nor that nothing is."""

_ITEM = r"""(?:'[^'\\]*'|"[^"\\]*")"""
_LIST = re.compile(rf"\s*\[\s*(?:{_ITEM}(?:\s*,\s*{_ITEM})*\s*,?)?\s*\]\s*")
_ITEMS = re.compile(r"""'([^'\\]*)'|"([^"\\]*)\"""")


def parse_list(text: str) -> tuple[str, ...]:
    """Return the distinct items of the text of a Python list of strings, in lower case and without stray blanks.

    Nothing is evaluated. ``"['normal', ' cardiomegaly ']"`` gives ``("normal", "cardiomegaly")``.

    Raises:
        ValueError: it is no such list.
    """
    if not _LIST.fullmatch(text):
        raise ValueError(f"{text[:80]!r}: expected a list such as ['normal', 'cardiomegaly']")
    items = (_clean(single or double) for single, double in _ITEMS.findall(text))
    return tuple(dict.fromkeys(item for item in items if item))


@lru_cache(maxsize=10_000)
def _clean(item: str) -> str:
    return " ".join(item.lower().split())


def findings_of(items: tuple[str, ...]) -> frozenset[str]:
    """Return the findings that whole items name, `No Finding` aside."""
    named = {VOCABULARY.finding_of[item] for item in items if item in VOCABULARY.finding_of} - {NO_FINDING}
    return VOCABULARY.with_wider(named)


def no_finding(items: tuple[str, ...], found: frozenset[str], *, by: str) -> bool | None:
    """Tell whether `No Finding` holds; None: `items` tell neither that nor a finding.

    Args:
        items: labels of an image.
        found: the findings that they name.
        by: ``paper``: where no finding is named, whatever else is. ``normal``: where `normal` is; a label that names no
            finding here, such as sternotomy, is no sign of a normal image.
    """
    if found:
        return False
    if by == "paper" or "normal" in items:
        return True
    return None if set(items) <= set(TELL_NOTHING) else False

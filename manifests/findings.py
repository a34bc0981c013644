"""The harmonised findings: one name each, TorchXRayVision's canonical spelling where it has one, in a frozen order.

New findings are appended, never inserted: the order is part of the manifest's schema.
"""

NO_FINDING = "No Finding"

DEFINITIONS: dict[str, str] = {
    "Atelectasis": "Collapse or incomplete expansion of lung.",
    "Consolidation": "Air spaces filled with fluid, pus, blood or cells.",
    "Infiltration": "Ill-defined opacity in the lung; ChestX-ray14's wide term for what is not clearly consolidation.",
    "Pneumothorax": "Air in the pleural space.",
    "Edema": "Pulmonary edema: fluid in the interstitium or the air spaces.",
    "Emphysema": "Destruction of lung tissue with permanently enlarged air spaces; not subcutaneous emphysema.",
    "Fibrosis": "Scarring of lung tissue; not cystic fibrosis.",
    "Effusion": "Pleural effusion: fluid in the pleural space; not pericardial effusion.",
    "Pneumonia": "Infection of lung tissue, as the report calls it.",
    "Pleural_Thickening": "Thickening of the pleura, apical and calcified included.",
    "Cardiomegaly": "Enlarged heart.",
    "Nodule": "Rounded opacity of up to 3 cm in the lung.",
    "Mass": "Opacity of more than 3 cm in the lung or the pleura.",
    "Hernia": "Diaphragmatic or hiatal hernia.",
    NO_FINDING: "The source says that it found none of what it labels.",
}
"""Finding -> what it means, in the frozen order."""

FINDINGS: tuple[str, ...] = tuple(DEFINITIONS)
"""Names of all findings, in the frozen order; each is the name of an Int8 column of a manifest."""

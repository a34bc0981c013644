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
    # CheXpert and MIMIC-CXR
    "Enlarged Cardiomediastinum": "Widened mediastinum or enlarged heart: CheXpert's parent of Cardiomegaly.",
    "Lung Opacity": "Any opacity in the lung: CheXpert's parent of Edema, Consolidation, Pneumonia and more.",
    "Lung Lesion": "Nodule or mass in the lung, of any size.",
    "Pleural Other": "A pleural abnormality other than effusion, such as thickening or plaques.",
    "Fracture": "Fracture of a rib, a clavicle, a vertebra or the humerus, old or new.",
    "Support Devices": "Lines, tubes, pacemakers, valves and other devices.",
    # OpenI and PadChest
    "Granuloma": "Small inflammatory nodule, calcified or not.",
    "Calcified Granuloma": "Granuloma that the source calls calcified.",
    "Flattened Diaphragm": "Flat hemidiaphragms, a sign of hyperinflation.",
    "Bronchiectasis": "Permanently widened bronchi.",
    "Aortic Elongation": "Elongated or tortuous aorta.",
    "Scoliosis": "Sideways curvature of the spine.",
    "Hilar Enlargement": "Enlarged hilum, of vessels or lymph nodes.",
    "Tuberculosis": "Tuberculosis or its sequelae, as the report calls it.",
    "Air Trapping": "Air kept in the lung at expiration: hyperinflation.",
    "Costophrenic Angle Blunting": "Costophrenic angle no longer sharp, whatever the cause.",
    "Aortic Atheromatosis": "Atheroma or calcification of the aorta's wall.",
    "Hemidiaphragm Elevation": "One hemidiaphragm higher than it should be.",
    "Tube": "Endotracheal, nasogastric, chest or other tube.",
    # VinDr-CXR
    "Aortic Enlargement": "Widened aorta.",
    "Calcification": "Calcium in the lung, the pleura or the mediastinum.",
    "ILD": "Interstitial lung disease.",
    "Rib Fracture": "Fracture of a rib.",
    "Clavicle Fracture": "Fracture of a clavicle.",
    "Mediastinal Shift": "Mediastinum displaced to one side.",
    "Lung Cavity": "Gas-filled space within consolidation, a mass or a nodule.",
    "Lung Cyst": "Thin-walled, round, gas-filled space in the lung.",
    "Lung Tumor": "Tumour of the lung, as the reader calls it.",
    "COPD": "Chronic obstructive pulmonary disease, as the reader calls it.",
    "Other Disease": "A disease that the source's list does not have.",
    "Enlarged PA": "Enlarged pulmonary artery.",
    "Other Lesion": "A lesion that the source's list does not have.",
}
"""Finding -> what it means, in the frozen order."""

FINDINGS: tuple[str, ...] = tuple(DEFINITIONS)
"""Names of all findings, in the frozen order; each is the name of an Int8 column of a manifest."""

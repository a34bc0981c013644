"""How OpenI's MeSH terms map to the harmonised findings: by the paper's substrings, or by whole terms."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from manifests.findings import NO_FINDING
from manifests.vocabulary import Term, Vocabulary, family

PAPER_TERMS = (
    *family("Atelectasis", "atelectasis", "atelectases"),
    Term("cardiomegaly", "Cardiomegaly"),
    Term("effusion", "Effusion", "finds pericardial effusion too"),
    *family("Infiltration", "infiltration", "infiltrate"),
    Term("mass", "Mass", "finds thyroid, paratracheal and mediastinal masses too"),
    Term("nodule", "Nodule"),
    Term("pneumonia", "Pneumonia"),
    Term("pneumothorax", "Pneumothorax"),
    Term("edema", "Edema"),
    Term("emphysema", "Emphysema", "finds subcutaneous emphysema too"),
    Term("fibrosis", "Fibrosis", "finds cystic fibrosis too"),
    Term("pleural thickening", "Pleural_Thickening"),
    Term("hernia", "Hernia"),
    Term("fracture", "Fracture"),
    Term("opacity", "Lung Opacity", "the paper's Opacity, wherever it lies"),
    Term("lesion", "Lung Lesion", "the paper's Lesion, wherever it lies"),
    Term("calcified granuloma", "Calcified Granuloma"),
    Term("granuloma", "Granuloma", "finds granulomatous disease too"),
    Term("normal", NO_FINDING, "and wherever no finding is named"),
)
"""Looked for anywhere in a term, in lower case, as NVUM's authors do; `normal` alone is a whole term."""

AUTOMATIC_TERMS = (
    *family("Atelectasis", "atelectasis", "atelectases", "pulmonary atelectasis", "focal atelectasis"),
    *family("Atelectasis", "plate-like atelectasis", "patchy atelectasis", "discoid atelectasis"),
    *family("Atelectasis", "chronic atelectasis", "obstructive atelectasis"),
    *family("Cardiomegaly", "cardiomegaly", "enlarged heart"),
    *family("Effusion", "effusion", "effusions", "pleural effusion", "pleural effusions", "bilateral pleural effusion"),
    *family("Effusion", "right-sided pleural effusion", "left-sided pleural effusion"),
    *family("Effusion", "loculated effusion", "pulmonary effusion"),
    *family("Effusion", "pleural fluid", because="fluid in the pleural space is what an effusion is"),
    *family("Infiltration", "infiltrate", "infiltrates"),
    *family("Mass", "mass lesion", because="the one mass that no term places outside the lung"),
    *family("Nodule", "nodule", "nodules", "multiple pulmonary nodules", "solitary pulmonary nodule"),
    *family("Pneumonia", "pneumonia", "acute pneumonia", "recurrent pneumonia", "multilobar pneumonia"),
    *family("Pneumonia", "lower lobe pneumonia", "right lower lobe pneumonia", "pneumonia right lower lobe"),
    *family("Pneumonia", "left lower lobe pneumonia", "right upper lobe pneumonia", "left upper lobe pneumonia"),
    *family("Pneumonia", "pneumonia, viral", "viral pneumonias", "atypical pneumonias"),
    *family("Pneumonia", "pneumonia, mycoplasma", "mycoplasma pneumonia", "mycoplasma pneumoniae"),
    *family("Pneumonia", "peribronchial pneumonia", "postobstructive pneumonia"),
    *family("Pneumothorax", "pneumothorax"),
    *family("Pneumothorax", "hydropneumothorax", "hemopneumothorax", because="air beside fluid or blood"),
    *family("Edema", "pulmonary edema", "interstitial pulmonary edema", "alveolar edema"),
    *family("Edema", "edema", "edemas", "chronic edema", because="of the lung, in a report on the chest"),
    *family("Emphysema", "emphysema", "emphysemas", "pulmonary emphysema", "bullous emphysema"),
    *family("Emphysema", "centrilobular emphysema"),
    *family("Fibrosis", "fibrosis", "fibroses", "pulmonary fibrosis", "pulmonary fibroses", "interstitial fibrosis"),
    *family("Fibrosis", "diffuse fibrosis", "chronic fibrosis"),
    *family("Pleural_Thickening", "pleural thickening"),
    *family("Hernia", "hiatal hernia", "large hiatal hernia", "hernia, hiatal", "hiatus hernia", "hernia, hiatus"),
    *family("Hernia", "hernia, diaphragmatic", "morgagni hernia", "bochdalek hernia"),
    *family("Hernia", "hernias", "hernia sac", because="of the diaphragm, in a report on the chest"),
    *family("Fracture", "fracture", "rib fracture", "rib fractures", "fourth rib fracture", "clavicular fracture"),
    *family("Fracture", "spinal fractures", "vertebral fracture", "humeral fracture", "humeral fractures"),
    *family("Fracture", "fractures, bone", "displaced fractures", "non-displaced fracture", "multiple fractures"),
    *family("Fracture", "fracture, comminuted", "comminuted fracture", "rotated fracture", "stable fracture"),
    *family("Fracture", "fracture, pathologic", "fractures, pathologic", "pathologic fractures"),
    *family("Fracture", "fracture healing", "fracture-dislocation"),
    *family("Lung Opacity", "opacity", because="of the lung, in a report on the chest"),
    *family("Calcified Granuloma", "calcified granuloma"),
    *family("Granuloma", "granuloma", "granulomas", "lung granuloma", "pulmonary granuloma", "apical granuloma"),
    *family("Granuloma", "granulomatous disease", "chronic granulomatous disease", because="seen as granulomas"),
    *family("Granuloma", "granulomatous disease, chronic", "granulomatous infection", because="seen as granulomas"),
    Term("normal", NO_FINDING, "and wherever no finding is named"),
)
"""Whole terms of MeSH/automatic, in lower case; inverted terms and plurals are spelled out as they come."""

MAJOR_TERMS = (
    *family("Atelectasis", "Pulmonary Atelectasis"),
    *family("Consolidation", "Consolidation"),
    *family("Infiltration", "Infiltrate"),
    *family("Pneumothorax", "Pneumothorax"),
    *family("Pneumothorax", "Hydropneumothorax", "Hemopneumothorax", because="air beside fluid or blood"),
    *family("Edema", "Pulmonary Edema"),
    *family("Emphysema", "Emphysema", "Pulmonary Emphysema", "Bullous Emphysema"),
    *family("Fibrosis", "Pulmonary Fibrosis", "Fibrosis"),
    *family("Effusion", "Pleural Effusion"),
    *family("Pneumonia", "Pneumonia"),
    *family("Pleural_Thickening", "Thickening/pleura", because="other thickenings are of bronchi or the interstitium"),
    *family("Cardiomegaly", "Cardiomegaly"),
    *family("Cardiomegaly", "Cardiac Shadow/enlarged", because="the heart as a radiograph shows it"),
    *family("Nodule", "Nodule/lung", "Nodule/pleura"),
    *family("Mass", "Mass/lung", "Mass/pleura", because="other masses are of the breast or the mediastinum"),
    *family("Hernia", "Hernia, Hiatal", "Hernia, Diaphragmatic"),
    *family("Lung Opacity", "Opacity/lung", "Opacity/pulmonary alveoli", "Opacity/retrocardiac"),
    *family("Lung Opacity", "Airspace Disease", because="opacity of the air spaces, whatever the disease"),
    *family("Fracture", "Fractures, Bone"),
    *family("Support Devices", "Implanted Medical Device", "Medical Device", "Catheters, Indwelling", "Tube, Inserted"),
    *family("Granuloma", "Granuloma"),
    *family("Granuloma", "Granulomatous Disease", because="seen as granulomas"),
    *family("Calcified Granuloma", "Calcified Granuloma"),
    *family("Flattened Diaphragm", "Diaphragm/flattened"),
    *family("Bronchiectasis", "Bronchiectasis"),
    *family("Aortic Elongation", "Aorta/tortuous", "Aorta, Thoracic/tortuous", because="a long aorta winds"),
    *family("Scoliosis", "Scoliosis"),
    *family("Hilar Enlargement", "Lung/hilum/enlarged"),
    *family("Tuberculosis", "Tuberculosis"),
    *family("Air Trapping", "Lung/hyperdistention", because="hyperinflation is how a radiograph shows it"),
    *family("Costophrenic Angle Blunting", "Costophrenic Angle/blunted"),
    *family("Aortic Atheromatosis", "Atherosclerosis/aorta", "Atherosclerosis/aorta, thoracic"),
    *family("Aortic Atheromatosis", "Calcinosis/aorta", "Calcinosis/aorta, thoracic", because="calcified atheroma"),
    *family("Hemidiaphragm Elevation", "Diaphragm/elevated"),
    Term("normal", NO_FINDING, "and wherever no finding is named"),
)
"""Terms of MeSH/major: the heading, and qualifiers that must be among those of the term, as people chose them."""

KIND_OF = {"Calcified Granuloma": "Granuloma"}
"""Finding -> wider finding that is present with it."""

NOT_INDEXED = "No Indexing"
"""What people wrote in MeSH/major where they chose no term: nothing is known of such a report."""


@dataclass(frozen=True, kw_only=True)
class Matching:
    """One way from terms to findings: a table, and when one of its words matches a term."""

    vocabulary: Vocabulary
    """The table."""

    matches: Callable[[str, str], bool]
    """Whether a word of the table (first) names a term of a report."""

    def findings_of(self, terms: Iterable[str]) -> dict[str, frozenset[str]]:
        """Return each of `terms` -> the findings that it names; none: the table does not have it."""
        found = {}
        for term in terms:
            named = {name for word, name in self.vocabulary.finding_of.items() if self.matches(word, term)}
            found[term] = self.vocabulary.with_wider(named)
        return found


def is_part(word: str, term: str) -> bool:
    """Tell whether `word` stands anywhere in `term`; `normal` must be all of it (`abnormal` is another word)."""
    return word in term.lower() if word != "normal" else word == term.lower()


def is_whole(word: str, term: str) -> bool:
    """Tell whether `word` is `term`."""
    return word == term.lower()


def is_heading(word: str, term: str) -> bool:
    """Tell whether `term` has the heading of `word`, and all its qualifiers: ``Thickening/pleura/apex/right``."""
    heading, *qualifiers = word.lower().split("/")
    term_heading, *term_qualifiers = term.lower().split("/")
    return heading == term_heading and set(qualifiers) <= set(term_qualifiers)


MATCHINGS = {
    ("paper", "automatic"): Matching(vocabulary=Vocabulary(PAPER_TERMS, KIND_OF), matches=is_part),
    ("paper", "major"): Matching(vocabulary=Vocabulary(PAPER_TERMS, KIND_OF), matches=is_part),
    ("terms", "automatic"): Matching(vocabulary=Vocabulary(AUTOMATIC_TERMS, KIND_OF), matches=is_whole),
    ("terms", "major"): Matching(vocabulary=Vocabulary(MAJOR_TERMS, KIND_OF), matches=is_heading),
}
"""Options `labels` and `mesh` -> the way from terms to findings."""

TABLES = {
    "labels=paper: anywhere in a term": MATCHINGS["paper", "automatic"].vocabulary,
    "labels=terms mesh=automatic: whole terms": MATCHINGS["terms", "automatic"].vocabulary,
    "labels=terms mesh=major: headings, and qualifiers among others": MATCHINGS["terms", "major"].vocabulary,
}
"""Options, and how their tables are read -> table."""

EVERY_TERM = Vocabulary(tuple({term.source: term for term in (*MAJOR_TERMS, *AUTOMATIC_TERMS, *PAPER_TERMS)}.values()))
"""All tables in one: what the dataset can label, with one option or another."""

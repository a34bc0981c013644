"""OpenI, the chest X-rays of Indiana University: a report a patient, its MeSH terms are the labels.

Layout (https://openi.nlm.nih.gov/faq, or Kaggle's "Chest X-rays (Indiana University)")::

    NLMCXR_reports.tgz             or unpacked, ecgen-radiology/1.xml ... 3999.xml
    NLMCXR_png/*.png               or DICOM files
    indiana_reports.csv            Kaggle's, in place of the XML reports; without the automatic terms
    indiana_projections.csv        Kaggle's; tells frontal from lateral views
    nlmcxr_dicom_metadata.csv.gz   TorchXRayVision's table of DICOM headers; tells views, ages and sizes

All of it is one test set: nobody trains on it, and the split is `test` throughout.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import polars as pl

from manifests import left_out
from manifests.dataset import OFFICIAL, Dataset, Labels
from manifests.datasets import openi_kaggle
from manifests.datasets.openi_images import (
    HEADER_TABLES,
    IMAGE_SUFFIXES,
    NO_HEADER,
    Header,
    files_of_images,
    image_key,
    read_dicom_headers,
    read_header_table,
)  # fmt: skip
from manifests.datasets.openi_reports import ARCHIVES, REPORT_FILES, Report, read_reports
from manifests.datasets.openi_terms import EVERY_TERM, MATCHINGS, NOT_INDEXED, TABLES
from manifests.errors import ConfigError, ManifestError
from manifests.findings import NO_FINDING
from manifests.options import Option
from manifests.release import Release

WITHOUT_IMAGE = "report_without_image"
WITHOUT_TERMS = "report_not_indexed"

FALSE_FRIENDS = {
    "pericardial effusion": "Effusion",
    "subcutaneous emphysema": "Emphysema",
    "cystic fibrosis": "Fibrosis",
    "thyroid mass": "Mass",
    "paratracheal mass": "Mass",
    "mediastinal mass": "Mass",
    "anterior mediastinal masses": "Mass",
}
"""Term -> finding that it contains and does not mean; with `labels=paper` it counts as one, as in the paper."""


IMAGE_COLUMNS = {
    "image_id": pl.String, "path": pl.String, "patient_id": pl.String, "study_id": pl.String, "view": pl.String,
    "age_years": pl.Float32, "width": pl.Int32, "height": pl.Int32,
}  # fmt: skip


def read_labels(release: Release) -> Labels:
    """Return a row an image, labelled by its report.

    Raises:
        ManifestError: no reports, or some that cannot be used; problems of a file are reported together.
        ConfigError: an option asks for what is not there.
    """
    projections = openi_kaggle.read_projections(release)
    reports = read_reports(release) or openi_kaggle.read_reports(release, projections)
    if reports is None:
        release.require((*ARCHIVES, REPORT_FILES[0], openi_kaggle.REPORTS))
        raise ManifestError(f"{release.root}: no reports")
    mesh = release.option("mesh")
    matching = MATCHINGS[release.option("labels"), mesh]
    terms = {report.uid: terms_of(report, mesh, release) for report in reports}
    findings_of = matching.findings_of({term for some in terms.values() for term in some})
    files = files_of_images(release.listing, release.root)
    headers = read_headers(release, files, projections)
    frame = label_rows(reports, terms, findings_of, matching.vocabulary.findings).hstack(
        image_columns(reports, files, headers)
    )
    not_indexed = [uid for uid, some in terms.items() if mesh == "major" and set(some) <= {NOT_INDEXED}]
    frame, excluded = left_out.split_off(frame, {WITHOUT_TERMS: pl.col("study_id").is_in(not_indexed)})
    without_image = [report.uid for report in reports if not report.image_ids]
    counts = {
        "reports": len(reports),
        "reports_with_false_friends": sum(any(term.lower() in FALSE_FRIENDS for term in terms[uid]) for uid in terms),
        "images_without_view": int(frame["view"].null_count()),
    }
    release.notes.extend(warnings(counts, len(frame), release.option("labels")))
    return Labels(
        frame=frame.with_columns(pl.lit("test").alias(OFFICIAL)),
        has_official_split=True,
        split_rule="all test: a test set, on which nobody trains",
        counts=counts,
        excluded=pl.concat([excluded, left_out.listed(WITHOUT_IMAGE, pl.Series(without_image, dtype=pl.String))]),
        labelled=matching.vocabulary.findings,
        unmapped=Counter(
            word
            for some in terms.values()
            for word in {term.lower() for term in some if not findings_of[term] and term != NOT_INDEXED}
        ),
    )


def label_rows(
    reports: Sequence[Report],
    terms: Mapping[str, Iterable[str]],
    findings_of: Mapping[str, frozenset[str]],
    findings: Sequence[str],
) -> pl.DataFrame:
    """Return one Int8 column a finding, a row an image; `No Finding` is 1 where none of the others is.

    Args:
        reports: in the order of the rows.
        terms: report -> its terms.
        findings_of: term -> findings that it names.
        findings: those that the terms are looked through for.
    """
    rows: list[tuple[bool, ...]] = []
    for report in reports:
        present = {finding for term in terms[report.uid] for finding in findings_of[term]} - {NO_FINDING}
        present = present or {NO_FINDING}
        rows += [tuple(finding in present for finding in findings)] * len(report.image_ids)
    return pl.DataFrame(rows, schema=dict.fromkeys(findings, pl.Boolean()), orient="row").cast(pl.Int8)


def image_columns(reports: Sequence[Report], files: Mapping[str, str], headers: Mapping[str, Header]) -> pl.DataFrame:
    """Return the other columns, a row an image: `files` and `headers` are by the images' keys."""
    rows: list[tuple[str | int | None, ...]] = []
    for report in reports:
        patient_id = f"openi:{report.uid.removeprefix('CXR')}"
        for image_id in report.image_ids:
            key = image_key(image_id) or image_id
            path = files.get(key, f"{image_id}.png")
            rows.append((image_id, path, patient_id, report.uid, *headers.get(key, NO_HEADER)))
    return pl.DataFrame(rows, schema=IMAGE_COLUMNS, orient="row")


def warnings(counts: Mapping[str, int], num_images: int, style: str) -> Iterator[str]:
    """Yield what a person should know about views and labels."""
    if counts["images_without_view"]:
        yield f"the view of {counts['images_without_view']:,} of {num_images:,} images is not known: it is null"
    if style == "paper" and counts["reports_with_false_friends"]:
        yield (
            f"labels=paper looks for parts of terms: in {counts['reports_with_false_friends']:,} reports it takes "
            "pericardial effusion, cystic fibrosis and the like for findings of the lung; labels=terms does not"
        )


def terms_of(report: Report, mesh: str, release: Release) -> tuple[str, ...]:
    """Return the terms of a report that the option `mesh` asks for.

    Raises:
        ConfigError: the source has no automatic terms.
    """
    if mesh == "major":
        return report.major
    if report.automatic is None:
        raise ConfigError(
            f"{release.root}: {openi_kaggle.REPORTS} has no automatic MeSH terms; give --option mesh=major, or add "
            f"{ARCHIVES[0]} (https://openi.nlm.nih.gov/faq)"
        )
    return report.automatic


def read_headers(release: Release, files: dict[str, str], projections: pl.DataFrame | None) -> dict[str, Header]:
    """Return what is known of each image, by its key; views as the option `views` asks.

    Raises:
        ConfigError: what it asks for is not there.
    """
    asked = release.option("views")
    table = read_header_table(release)
    has_dicom = any(name.lower().endswith(".dcm") for name in files.values())
    there = {"projections": projections is not None, "table": table is not None, "dicom": has_dicom}
    source = next((name for name, is_there in there.items() if is_there), "none") if asked == "auto" else asked
    if not there.get(source, True):
        needs = {"projections": openi_kaggle.PROJECTIONS, "table": HEADER_TABLES[-1], "dicom": "DICOM images (.dcm)"}
        raise ConfigError(f"--option views={source}: {release.root} has no {needs[source]}")
    headers = read_dicom_headers(release, files) if source == "dicom" else dict(table or {})
    if source == "projections" and projections is not None:
        for key, view in projections.select("key", "view").iter_rows():
            headers[key] = headers.get(key, NO_HEADER)._replace(view=view)
    elif source == "none":
        headers = {key: header._replace(view=None) for key, header in headers.items()}
    told_by = {"projections": openi_kaggle.PROJECTIONS, "table": "the table of DICOM headers", "dicom": "DICOM headers"}
    release.notes.append(
        f"views are those of {told_by[source]}"
        if source in told_by
        else f"no view is known, frontal or lateral: add {openi_kaggle.PROJECTIONS} or {HEADER_TABLES[-1]}"
    )
    return headers


DATASET = Dataset(
    name="openi",
    title="OpenI (Indiana University)",
    num_images=7_470,
    num_patients=3_955,
    label_origin=(
        "MeSH terms of the reports: `automatic` found by a program, `major` chosen by people. A report is taken for a "
        "patient: the release does not tell which are of one person."
    ),
    citation="Demner-Fushman et al., Preparing a collection of radiology examinations, JAMIA 2016",
    terms="CC BY-NC-ND 4.0: no commercial use, no derivatives.",
    vocabulary=EVERY_TERM,
    tables=TABLES,
    image_suffixes=IMAGE_SUFFIXES,
    documents=(*ARCHIVES, *REPORT_FILES, openi_kaggle.REPORTS, openi_kaggle.PROJECTIONS, *HEADER_TABLES),
    read_labels=read_labels,
    layout=(
        "NLMCXR_reports.tgz: reports; or unpacked, 1.xml ... 3999.xml in one folder",
        "indiana_reports.csv, indiana_projections.csv: Kaggle's, in place of the reports (mesh=major only)",
        "*.png (CXR1_1_IM-0001-3001.png, or Kaggle's 1_IM-0001-3001.dcm.png) or *.dcm, anywhere below the root",
        "nlmcxr_dicom_metadata.csv.gz: TorchXRayVision's table of DICOM headers, for views, ages and sizes",
    ),
    exclusions={
        WITHOUT_IMAGE: "reports without an image",
        WITHOUT_TERMS: "images whose report bears no major term (`No Indexing`)",
    },
    options={
        "labels": Option(
            default="paper",
            values=("paper", "terms"),
            help="How terms name findings: by parts of them, as in NVUM's paper, or as whole terms of a table.",
        ),
        "mesh": Option(
            default="automatic",
            values=("automatic", "major"),
            help="Which MeSH terms: those found by a program, or those chosen by people.",
        ),
        "views": Option(
            default="auto",
            values=("auto", "projections", "table", "dicom", "none"),
            help="Where views come from: Kaggle's projections, the table of DICOM headers, DICOM files; auto: the "
            "first that is there.",
        ),
    },
    presets={"paper": {"labels": "paper", "mesh": "automatic"}},
)

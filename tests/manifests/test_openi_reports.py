"""OpenI's XML reports: what is read from one, and what of a report or an archive is never trusted."""

import gzip
import tarfile
from pathlib import Path

import pytest

from manifests.datasets.openi_reports import MAX_REPORT_BYTES, Report, archive_members, parse_report
from manifests.errors import ManifestError
from tests.manifests.tiny_openi import (
    IMAGES,
    REPORTS,
    archive,
    build,
    built,
    member,
    write_archive,
    write_folder,
    xml,
)  # fmt: skip

BOMB = '<!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;">]>\n'
EXTERNAL = '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>\n'


def test_a_report_is_its_number_its_images_and_its_terms() -> None:
    content = xml(
        7,
        ["CXR7_IM-2263-1001"],
        major=["Aorta, Thoracic/tortuous ", "Subcutaneous  Emphysema/right", "Cysts & co", "Cysts & co", ""],
        automatic=["cardiomegaly"],
    )
    assert parse_report(content) == Report(
        uid="CXR7",
        image_ids=("CXR7_IM-2263-1001",),
        major=("Aorta, Thoracic/tortuous", "Subcutaneous Emphysema/right", "Cysts & co"),
        automatic=("cardiomegaly",),
    )


def test_another_encoding_is_read_as_declared() -> None:
    content = xml(7, major=["Bernstörn"]).decode().replace("utf-8", "iso-8859-1").encode("latin-1")
    assert parse_report(content).major == ("Bernstörn",)


@pytest.mark.parametrize("before", [BOMB, EXTERNAL, "<!DOCTYPE eCitation>", '<!DOCTYPE e SYSTEM "http://x/e.dtd">'])
def test_a_document_type_declaration_is_refused_before_anything_is_expanded(before: str) -> None:
    with pytest.raises(ValueError, match="document type declaration"):
        parse_report(xml(1, major=["&c;" if "ENTITY c" in before else "x"], before=before))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "not well-formed XML"),
        (xml(1)[:-20], "not well-formed XML"),
        (xml(1) + b"<more/>", "not well-formed XML"),
        (xml(1).replace(b"normal", b"&undeclared;"), "not well-formed XML"),
        (b"<html></html>", "expected one uId such as CXR1, found none"),
        (xml("one"), "expected one uId such as CXR1, found 'CXRone'"),
        (xml(1, ["../../etc/passwd"]), r"parentImage '../../etc/passwd': expected an id"),
        (xml(1, [""]), "parentImage '': expected an id"),
    ],
)
def test_what_is_no_report_is_refused(content: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_report(content)


def test_archive_plain_archive_and_folder_give_the_same_rows_in_the_order_of_the_numbers(tmp_path: Path) -> None:
    tables = [
        built(write_archive(tmp_path / "a" / "release")),
        built(write_archive(tmp_path / "b" / "release", archive(mode="w"))),
        built(write_folder(tmp_path / "c" / "release")),
        built(write_folder(tmp_path / "d" / "release", folder="NLMCXR/deeper/xml")),
    ]
    assert tables[0].strings("image_id") == list(IMAGES)
    assert all(table.table.equals(tables[0].table) for table in tables)


def test_the_same_release_gives_the_same_bytes(tmp_path: Path) -> None:
    written = [build(write_archive(tmp_path / name / "release")).out.read_bytes() for name in ("a", "b")]
    assert written[0] == written[1]


def test_the_unpacked_files_are_one_source_whose_checksum_sees_each(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "release")
    first = built(root).metadata["sources"]
    assert [source["file"] for source in first] == ["ecgen-radiology/*.xml"]
    write_folder(root, {"33.xml": xml(33, ["CXR33_IM-1594-1001"])})
    assert built(root).metadata["sources"] != first


def test_the_archive_is_read_where_it_lies_beside_the_unpacked_files(tmp_path: Path) -> None:
    root = write_folder(write_archive(tmp_path / "release"))
    report = build(root)
    assert f"NLMCXR_reports.tgz was read; {len(REPORTS)} unpacked reports were not" in report.notes


def test_what_a_mac_or_a_person_leaves_in_the_archive_is_passed_over(tmp_path: Path) -> None:
    members = [
        (member("./ecgen-radiology", tarfile.DIRTYPE), b""),
        (member("./ecgen-radiology/._1.xml"), b"\0"),
        (member("./ecgen-radiology/readme.txt"), b"hello"),
        *((member(f"./ecgen-radiology/{name}"), content) for name, content in REPORTS.items()),
    ]
    assert built(write_archive(tmp_path / "release", archive(members))).num_rows == len(IMAGES)


@pytest.mark.parametrize(
    ("info", "reason"),
    [
        (member("/etc/cron.d/1.xml"), "an absolute path"),
        (member("\\\\host\\1.xml"), "an absolute path"),
        (member("C:\\1.xml"), "an absolute path"),
        (member("ecgen-radiology/../../1.xml"), "a path that leads out of the archive"),
        (member("a\\..\\..\\1.xml"), "a path that leads out of the archive"),
        (member("1.xml", tarfile.SYMTYPE, "/etc/passwd"), "a link or a device, not a file"),
        (member("1.xml", tarfile.LNKTYPE, "2.xml"), "a link or a device, not a file"),
        (member("1.xml", tarfile.CHRTYPE), "a link or a device, not a file"),
    ],
)
def test_a_member_that_no_release_has_is_refused(tmp_path: Path, info: tarfile.TarInfo, reason: str) -> None:
    root = write_archive(tmp_path / "release", archive([(member("2.xml"), REPORTS["2.xml"]), (info, b"")]))
    with pytest.raises(ManifestError, match=f"{reason}; download the archive again"):
        build(root)
    assert not (tmp_path / "manifest").exists()


def test_a_member_too_big_for_a_report_is_refused_unread() -> None:
    content = archive([(member("1.xml"), b"x" * (MAX_REPORT_BYTES + 1))])
    with pytest.raises(ManifestError, match="1,048,577 bytes, too many for a report"):
        list(archive_members(content, "x.tgz"))


def test_an_archive_that_swells_is_refused_before_its_members_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("manifests.datasets.openi_reports.MAX_ARCHIVE_BYTES", 10_000)
    with pytest.raises(ManifestError, match=r"x\.tgz: over 10,000 bytes, too many for the reports"):
        list(archive_members(gzip.compress(b"\0" * 1_000_000), "x.tgz"))


@pytest.mark.parametrize(
    "content", [archive()[:-200], archive()[:60], gzip.compress(b"no archive" * 99), b"<html>Log in</html>" * 99]
)
def test_an_archive_cut_short_or_none_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ManifestError, match=r"NLMCXR_reports\.tgz: .*download it again"):
        build(write_archive(tmp_path / "release", content))


def test_all_reports_that_cannot_be_used_are_named_together(tmp_path: Path) -> None:
    reports = {
        "1.xml": REPORTS["1.xml"],
        "2.xml": REPORTS["1.xml"],
        "3.xml": b"<eCitation>",
        "4.xml": xml(4, before=BOMB),
        "5.xml": xml(5, ["CXR5_IM-1", "CXR5_IM-1"]),
    }
    with pytest.raises(ManifestError, match="7 problems") as caught:
        build(write_folder(tmp_path / "release", reports))
    assert [problem.partition(": ")[0].rpartition("/")[2] for problem in caught.value.problems] == [
        "2.xml", "2.xml", "2.xml", "3.xml", "4.xml", "5.xml", "5.xml",
    ]  # fmt: skip


def test_a_report_in_two_folders_is_refused(tmp_path: Path) -> None:
    root = write_folder(write_folder(tmp_path / "release"), folder="copy")
    with pytest.raises(ManifestError, match="6 reports are in two folders; give one as --root"):
        build(root)


def test_an_unpacked_file_too_big_for_a_report_is_refused(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "release", {"1.xml": b" " * (MAX_REPORT_BYTES + 1)})
    with pytest.raises(ManifestError, match="too many for a report"):
        build(root)


def test_a_root_without_reports_says_what_it_looked_for(tmp_path: Path) -> None:
    root = tmp_path / "release"
    root.mkdir()
    with pytest.raises(ManifestError, match=r"expected NLMCXR_reports\.tgz or .*1\.xml or indiana_reports\.csv"):
        build(root)

"""Wrong labels are as wrong as was asked for, come together as was asked for, and nothing else changes."""

from itertools import combinations
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from manifests.build import write_manifest
from manifests.errors import ConfigError, ManifestError
from manifests.findings import NO_FINDING
from manifests.noise import inject_noise
from manifests.noise_config import NoiseConfig, Rates
from manifests.noise_model import correlation_of_noise, nearest_correlation, odds_ratios, with_odds_ratio
from manifests.noise_report import NoiseReport
from manifests.normal import cdf, joint_cdf, quantile
from manifests.schema import SCHEMA_VERSION
from manifests.table import labels_NC, read_manifest
from tests.manifests.toy_manifest import make_toy
from tests.prep_command import run

FINDINGS = ("Atelectasis", "Effusion", "Mass", "Hernia")
NUM_IMAGES, FILMS = 12_000, 4


def clean_manifest(out: Path, *, num_images: int = NUM_IMAGES, seed: int = 0) -> Path:
    """Patients of four films; Atelectasis, Effusion and Mass come together, Hernia comes alone and seldom."""
    rng = np.random.default_rng(seed)
    num_patients = num_images // FILMS
    shared = rng.normal(size=(num_images, 1))
    latent = 0.7 * shared + np.sqrt(1 - 0.49) * rng.normal(size=(num_images, 3))
    present = np.column_stack([latent > quantile([0.85, 0.8, 0.93]), rng.random(num_images) < 0.03]).astype(np.int8)
    patient = [f"nih:{1 + i // FILMS}" for i in range(num_images)]
    split = [["train", "train", "valid", "test"][(i // FILMS) % 4] for i in range(num_images)]
    frame = pl.DataFrame(
        {
            "dataset": ["nih"] * num_images,
            "image_id": [f"{i:07d}.png" for i in range(num_images)],
            "path": [f"{i:07d}.png" for i in range(num_images)],
            "patient_id": patient,
            **{name: pl.Series([None] * num_images, dtype=pl.String) for name in ("study_id", "view", "sex")},
            "age_years": pl.Series([None] * num_images, dtype=pl.Float32),
            "split": split,
            **{name: pl.Series([None] * num_images, dtype=pl.Int32) for name in ("width", "height")},
            **{name: present[:, c] for c, name in enumerate(FINDINGS)},
            NO_FINDING: (present == 0).all(axis=1).astype(np.int8),
        }
    )
    assert num_patients * FILMS == num_images
    write_manifest(out, frame, {"schema_version": SCHEMA_VERSION, "dataset": "nih"})
    return out


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clean_manifest(tmp_path_factory.mktemp("clean") / "clean.parquet")


def noisy(clean: Path, out: Path, **settings: object) -> NoiseReport:
    return inject_noise(NoiseConfig(manifest=clean, out=out, **settings))  # type: ignore[arg-type]


def labels(path: Path, *, of: tuple[str, ...] = FINDINGS, in_noise: bool = True) -> np.ndarray:
    table = read_manifest(path)
    rows = ~table.in_split("test") if in_noise else table.in_split("test")
    return np.asarray(labels_NC(table, of)[0][rows] == 1)


@pytest.mark.parametrize("co_occurrence", ["keep", "ignore"])
@pytest.mark.parametrize("patient_correlation", [0.0, 0.7])
def test_sensitivity_and_ppv_are_those_asked_for(
    co_occurrence: str, patient_correlation: float, clean: Path, tmp_path: Path
) -> None:
    own = Rates(sensitivity=0.8, ppv=0.6)
    report = noisy(
        clean, tmp_path / "noisy.parquet", co_occurrence=co_occurrence, patient_correlation=patient_correlation,
        by_finding={"Mass": own}, rates=Rates(sensitivity=0.5, ppv=0.7),
    )  # fmt: skip
    assert [row.finding for row in report.reached] == [*FINDINGS, NO_FINDING]
    for row in report.reached[:-1]:
        asked = own if row.finding == "Mass" else Rates(sensitivity=0.5, ppv=0.7)
        assert row.sensitivity is not None
        assert row.ppv is not None
        # Films of a patient are up to one draw: four standard deviations of a share of as many patients.
        assert abs(row.sensitivity - asked.sensitivity) < 4 * 0.5 / np.sqrt(row.present / (1 + 3 * patient_correlation))
        assert abs(row.ppv - asked.ppv) < 4 * 0.5 / np.sqrt(row.labelled_present / (1 + 3 * patient_correlation))


def test_labels_without_noise_are_the_labels(clean: Path, tmp_path: Path) -> None:
    report = noisy(clean, tmp_path / "noisy.parquet", rates=Rates(sensitivity=1.0, ppv=1.0))
    assert read_manifest(tmp_path / "noisy.parquet").table.equals(read_manifest(clean).table)
    assert not report.flips.exists()
    assert {(row.sensitivity, row.ppv, row.flips) for row in report.reached} == {(1.0, 1.0, 0)}


def test_the_noisy_labels_are_as_associated_as_the_clean_ones(clean: Path, tmp_path: Path) -> None:
    kept = noisy(clean, tmp_path / "kept.parquet", co_occurrence="keep")
    faint = noisy(clean, tmp_path / "faint.parquet", co_occurrence="ignore")
    assert kept.num_out_of_reach == 0
    known = np.ones_like(labels(clean))
    pairs = list(combinations(range(3), 2))  # Hernia is too seldom to measure
    before, after, without = (
        np.log([odds_ratios(labels(path), known)[pair] for pair in pairs])
        for path in (clean, tmp_path / "kept.parquet", tmp_path / "faint.parquet")
    )
    assert before.min() > 1
    assert np.abs(after - before).max() < 0.3
    assert (without < 0.5 * before).all(), "independent flips leave less than half of it"
    assert faint.odds_ratio[0] == kept.odds_ratio[0]
    assert faint.odds_ratio[1] < kept.odds_ratio[1]


def test_the_patients_share_of_the_noise_is_the_one_asked_for(clean: Path, tmp_path: Path) -> None:
    """Two films of a patient who has the finding on both: how often both labels are missed is known exactly."""
    for rho in (0.0, 0.6, 1.0):
        noisy(clean, tmp_path / "noisy.parquet", patient_correlation=rho, co_occurrence="ignore")
        there, labelled = (
            labels(path, of=("Effusion",)).reshape(-1, FILMS) for path in (clean, tmp_path / "noisy.parquet")
        )
        both = [(there[:, i] & there[:, j], labelled[:, i] & labelled[:, j]) for i, j in combinations(range(FILMS), 2)]
        num_pairs = sum(int(pair.sum()) for pair, _ in both)
        share = sum(int((pair & seen).sum()) for pair, seen in both) / num_pairs
        middle = np.array(0.0)  # sensitivity 0.5
        expected = 0.5 if rho == 1 else float(joint_cdf(middle, middle, np.array(rho)))
        assert share == pytest.approx(expected, abs=4 * 0.5 / np.sqrt(num_pairs))


def test_only_the_chosen_splits_change_and_the_table_says_what(clean: Path, tmp_path: Path) -> None:
    report = noisy(clean, tmp_path / "noisy.parquet")
    before, after = read_manifest(clean), read_manifest(tmp_path / "noisy.parquet")
    others = [name for name in before.table.column_names if name not in (*FINDINGS, NO_FINDING)]
    assert after.table.select(others).equals(before.table.select(others))
    assert np.array_equal(labels(clean, in_noise=False), labels(tmp_path / "noisy.parquet", in_noise=False))
    flips = pl.read_csv(report.flips)
    assert flips.columns == ["dataset", "image_id", "patient_id", "split", "finding", "clean", "noisy"]
    assert set(flips["split"]) == {"train", "valid"}
    for row in report.reached:
        assert len(flips.filter(finding=row.finding)) == row.flips
    names = (*FINDINGS, NO_FINDING)
    values, image = labels_NC(before, names)[0].copy(), before.strings("image_id")
    place = {(name, image): (row, column) for row, image in enumerate(image) for column, name in enumerate(names)}
    for finding, image_id, old, new in flips.select("finding", "image_id", "clean", "noisy").iter_rows():
        assert values[place[finding, image_id]] == old
        values[place[finding, image_id]] = new
    assert np.array_equal(values, labels_NC(after, names)[0])


def test_no_finding_says_what_the_others_leave(clean: Path, tmp_path: Path) -> None:
    noisy(clean, tmp_path / "noisy.parquet")
    both = labels(tmp_path / "noisy.parquet", of=(*FINDINGS, NO_FINDING))
    assert np.array_equal(both[:, -1], ~both[:, :-1].any(axis=1))


def test_a_draw_depends_on_seed_image_and_patient_and_not_on_the_row(clean: Path, tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.parquet" for name in ("one", "again", "other", "turned")]
    noisy(clean, paths[0], patient_correlation=0.4)
    noisy(clean, paths[1], patient_correlation=0.4)
    noisy(clean, paths[2], patient_correlation=0.4, seed=1)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert not np.array_equal(labels(paths[0]), labels(paths[2]))
    turned = pl.read_parquet(clean).reverse()
    write_manifest(tmp_path / "clean.parquet", turned, {"schema_version": SCHEMA_VERSION, "dataset": "nih"})
    noisy(tmp_path / "clean.parquet", paths[3], patient_correlation=0.4)
    assert np.array_equal(labels(paths[3])[::-1], labels(paths[0]))


def test_what_is_not_labelled_or_uncertain_stays_so(tmp_path: Path) -> None:
    toy = make_toy(tmp_path / "toy.parquet")
    noisy(toy, tmp_path / "noisy.parquet", splits=("train", "valid", "test"), co_occurrence="keep")
    before, after = read_manifest(toy), read_manifest(tmp_path / "noisy.parquet")
    for (values, told), (now, told_now) in [
        (labels_NC(before, (name,)), labels_NC(after, (name,))) for name in before.findings
    ]:
        assert np.array_equal(told, told_now)
        assert np.array_equal(values == -1, now == -1)


@pytest.mark.parametrize(
    ("settings", "kind", "message"),
    [
        ({"patient_correlation": 1.5}, ConfigError, "--patient-correlation 1.5: expected a share from 0 to 1"),
        ({"splits": ("train", "tets")}, ConfigError, "--split train,tets: expected"),
        ({"co_occurrence": "kept"}, ConfigError, "expected keep or ignore"),
        ({"by_finding": {"Nodule": Rates()}}, ConfigError, "--finding Nodule: not labelled by"),
        ({"rates": Rates(sensitivity=0.9, ppv=0.05)}, ManifestError, r"Atelectasis: present in 1.*PPV is 0\.1"),
    ],
)
def test_what_cannot_be_is_refused(
    settings: dict[str, object], kind: type[Exception], message: str, clean: Path, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=message):
        noisy(clean, tmp_path / "noisy.parquet", **settings)
    assert not (tmp_path / "noisy.parquet").exists()


def test_the_trusted_labels_are_never_overwritten(clean: Path) -> None:
    with pytest.raises(ConfigError, match="the trusted labels themselves"):
        noisy(clean, clean)


def test_the_command_reports_what_was_reached(
    clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "noisy.parquet"
    asked = ["inject-noise", clean, "--out", out, "--finding", "Mass:0.9:0.8"]
    assert run(monkeypatch, *asked) == 0
    shown = capsys.readouterr().out
    assert "findings 0.5 and 0.5, Mass 0.9 and 0.8" in shown
    (line,) = (line for line in shown.splitlines() if "Mass" in line and "%" in line)
    sensitivity, ppv = (float(cell.strip(" %")) for cell in line.split("│")[5:7])
    assert abs(sensitivity - 90) < 4
    assert abs(ppv - 80) < 5
    for wrong in ("Mass", "Mass:0.5", "Mass:a:b", "Mass:0:1"):
        assert run(monkeypatch, "inject-noise", clean, "--out", out, "--finding", wrong) == 2
        assert f"--finding {wrong}" in capsys.readouterr().err


def test_quantiles_and_shares_of_two_normal_variables_are_those_of_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    shares = np.concatenate([np.linspace(1e-9, 1 - 1e-9, 10_000), 10.0 ** -np.arange(10, 300, 10)])
    assert np.allclose(quantile(shares), stats.norm.ppf(shares), rtol=1e-13, atol=1e-14)
    assert quantile([0.0, 0.5, 1.0]).tolist() == [-np.inf, 0.0, np.inf]
    points = np.linspace(-9, 9, 101)
    assert np.allclose(cdf(points), stats.norm.cdf(points), rtol=1e-13, atol=0)
    rng = np.random.default_rng(0)
    for rho in (0.0, 0.5, -0.8, 0.99, -0.99):
        for first, second in [(0.3, 0.3), *rng.normal(size=(5, 2)) * 1.5]:
            expected = stats.multivariate_normal([0, 0], [[1, rho], [rho, 1]]).cdf([first, second])
            assert float(joint_cdf(np.array(first), np.array(second), np.array(rho))) == pytest.approx(
                expected, abs=1e-12
            )


def test_an_odds_ratio_and_two_shares_give_the_share_of_both() -> None:
    first, second, odds = np.array([0.3, 0.3, 0.01]), np.array([0.2, 0.2, 0.5]), np.array([4.0, 1.0, 0.1])
    both = with_odds_ratio(first, second, odds)
    found = both * (1 - first - second + both) / ((first - both) * (second - both))
    assert np.allclose(found, odds)


def test_a_matrix_that_is_no_correlation_matrix_becomes_one() -> None:
    impossible = np.array([[1, 0.9, -0.9], [0.9, 1, 0.9], [-0.9, 0.9, 1]])
    near = nearest_correlation(impossible)
    assert np.linalg.eigvalsh(near).min() > 0
    assert np.allclose(np.diag(near), 1)
    fine = np.array([[1, 0.5], [0.5, 1]])
    assert np.array_equal(nearest_correlation(fine), fine)


def test_an_association_that_noise_cannot_give_is_counted() -> None:
    always_together = np.repeat(np.arange(400) % 4 == 0, 2).reshape(400, 2)
    known, rates = np.ones_like(always_together), (np.array([0.2, 1.0]), np.array([0.1, 0.0]))
    correlation, num_out_of_reach = correlation_of_noise(always_together, known, *rates)
    assert num_out_of_reach == 1
    assert correlation[0, 1] == 0, "the second finding has no noise that could be correlated"

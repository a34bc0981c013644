"""`cxr-train export`: what is read back is the run's model to the bit, and programs give what it gives."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from manifests.errors import ConfigError
from pipeline.errors import MissingBackendError, PackError
from pipeline.prepare import prepare_images
from tests.project.source_tree import ROOT
from trainer.cli import app
from trainer.export import export as exporting
from trainer.export import load_exported
from trainer.export.card import model_card
from trainer.export.description import ModelDescription
from trainer.export.export import ExportConfig, export
from trainer.export.from_run import model_of_run
from trainer.export.graph import ImagesToProbs, graph_of
from trainer.export.image_model import ImageModel
from trainer.export.probes import largest_difference, tells_nothing
from trainer.export.training_data import TrainedOn
from trainer.trained_model import load_trained_model


@pytest.fixture(scope="module")
def exported(evaluated_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the run's model in every format."""
    out = tmp_path_factory.mktemp("exported") / "model"
    report = export(ExportConfig(run=evaluated_run, out=out, formats=("safetensors", "pt2", "onnx")))
    assert {path.name for path in report.files} == {
        "config.json", "model.onnx", "model.pt2", "model.safetensors", "model_card.md",
    }  # fmt: skip
    assert report.differences.keys() == {"model.pt2", "model.onnx"}
    assert all(value <= 1e-5 for value in report.differences.values())
    return out


def images(num_images: int, height_px: int = 32, width_px: int = 32) -> torch.Tensor:
    rng = np.random.default_rng(num_images)
    return torch.from_numpy(rng.integers(0, 256, (num_images, 1, height_px, width_px), dtype=np.uint8))


@pytest.mark.parametrize("checkpoint", ["best", "last"])
def test_the_loaded_model_is_the_runs_to_the_bit(evaluated_run: Path, tmp_path: Path, checkpoint: str) -> None:
    file = tmp_path / "one.safetensors"
    export(ExportConfig(run=evaluated_run, checkpoint=checkpoint, out=file))
    own, loaded = load_trained_model(evaluated_run, checkpoint=checkpoint), load_exported(file)
    assert not loaded.module.training
    weights, expected = loaded.module.state_dict(), own.module.state_dict()
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], value) for name, value in expected.items())
    with torch.inference_mode():
        probs_BC = own.module(own.prepare(images(5))).sigmoid()
    assert torch.equal(loaded.probs(images(5)), probs_BC)
    assert loaded.description == model_of_run(evaluated_run, checkpoint=checkpoint).description
    assert loaded.description.is_teacher
    export(ExportConfig(run=evaluated_run, checkpoint=checkpoint, out=tmp_path / "two.safetensors"))
    assert file.read_bytes() == (tmp_path / "two.safetensors").read_bytes()


def test_the_description_is_the_same_everywhere(exported: Path, evaluated_run: Path) -> None:
    about = load_exported(exported).description
    config = json.loads((exported / "config.json").read_text())
    files = config.pop("files")
    assert config.pop("torch") == torch.__version__
    assert config == json.loads(about.to_json())
    assert files.keys() == {path.name for path in exported.iterdir()} - {"config.json"}
    assert about.preprocessing.spec.size == "32"
    assert about.findings[0] == "Atelectasis"
    assert about.identities == load_trained_model(evaluated_run).identities


def test_the_code_in_the_card_runs_without_this_project(exported: Path) -> None:
    card = (exported / "model_card.md").read_text()
    snippets = [code for code in re.findall(r"```python\n(.*?)```", card, re.DOTALL) if "trainer" not in code]
    assert len(snippets) == 3
    checks = """
assert not {"trainer", "pipeline", "manifests"} & sys.modules.keys()
assert list(about["findings"])[0] == "Atelectasis" and len(weights) > 20
assert tuple(probs.shape) == (3, 14)
assert abs(probs - program(torch.zeros(3, 1, 32, 32, dtype=torch.uint8)).detach().numpy()).max() < 1e-5
"""
    program = "import sys, warnings\nwarnings.simplefilter('ignore')\n" + "\n".join(snippets) + checks
    result = subprocess.run(
        [sys.executable, "-P", "-c", program], cwd=exported, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_the_code_in_the_card_runs_with_this_project(exported: Path) -> None:
    card = (exported / "model_card.md").read_text()
    code = next(code for code in re.findall(r"```python\n(.*?)```", card, re.DOTALL) if "trainer" in code)
    names: dict[str, object] = {"images": images(2)}
    exec(code.replace('"DIR"', repr(str(exported))), names)
    assert torch.equal(names["probs"], load_exported(exported).probs(images(2)))  # type: ignore[arg-type]


def test_loading_needs_neither_polars_nor_the_packing_code(exported: Path) -> None:
    program = (
        f"import sys; from trainer.export import load_exported; load_exported({str(exported)!r}); "
        "print(sorted(name for name in ('polars', 'pipeline.packing', 'PIL') if name in sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))
def test_the_graph_prepares_images_as_a_loader_does(height_px: int, width_px: int, out_size_px: int) -> None:
    graph = ImagesToProbs(
        torch.nn.Identity(), height_px=height_px, width_px=width_px, out_size_px=out_size_px, mean=0.4, std=0.2
    )
    some = images(2, height_px, width_px)
    expected = prepare_images(some, None, out_size_px, mean=0.4, std=0.2).sigmoid()
    assert (graph(some) - expected).abs().max() < 2e-6


def test_a_program_that_differs_is_refused_and_nothing_stays(
    evaluated_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    def brighter(model: ImageModel) -> ImagesToProbs:
        graph = graph_of(model)
        graph.bias += 0.5
        return graph

    monkeypatch.setattr(exporting, "graph_of", brighter)
    with pytest.raises(ConfigError, match=r"model.pt2: a probability differs by .* nothing was written"):
        export(ExportConfig(run=evaluated_run, out=tmp_path / "out", formats=("pt2",)))
    assert list(tmp_path.iterdir()) == []


def test_not_a_number_is_a_difference() -> None:
    broken = torch.tensor([[0.5, float("nan")]])
    with pytest.raises(ConfigError, match="differs by nan"):
        largest_difference([broken], [torch.tensor([[0.5, 0.5]])], Path("model.pt2"))


def test_a_comparison_that_tells_nothing_is_known() -> None:
    assert tells_nothing(torch.tensor([[0.0, 1.0]]))
    assert not tells_nothing(torch.tensor([[0.0, 1.0], [0.0, 0.999]]))


def test_mistakes_are_refused(
    evaluated_run: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="exists already"):
        export(ExportConfig(run=evaluated_run, out=exported))
    with pytest.raises(ConfigError, match=r"--format torchscript.*take pt2"):
        ExportConfig(run=evaluated_run, formats=("torchscript",))
    with pytest.raises(ConfigError, match="a file holds the weights only"):
        ExportConfig(run=evaluated_run, out=tmp_path / "x.safetensors", formats=("onnx",))
    with pytest.raises(ConfigError, match="not the folder of a run"):
        export(ExportConfig(run=tmp_path, out=tmp_path / "out"))
    with pytest.raises(ConfigError, match="no such file"):
        load_exported(tmp_path)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingBackendError, match=r"cxr-nvum\[onnx\]"):
        export(ExportConfig(run=evaluated_run, out=tmp_path / "out", formats=("onnx",)))
    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_damaged_or_of_others_are_refused(exported: Path, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes((exported / "model.safetensors").read_bytes()[:-7])
    with pytest.raises(ConfigError, match="not a safetensors file that can be read"):
        load_exported(file)
    state = load_file(exported / "model.safetensors")
    save_file(state, file)
    with pytest.raises(ConfigError, match="without a description"):
        load_exported(file)
    about = load_exported(exported).description.to_json()
    state.popitem()
    for text, words in (
        (about, "not those of the model small"),
        (about.replace("model/1", "model/9"), "schema 'cxr-nvum model/9'"),
        (about.replace('"findings"', '"outcomes"'), "no description of a model"),
        ("[]", "no description of a model"),
    ):
        save_file(state, file, {"cxr-nvum": text})
        with pytest.raises(ConfigError, match=words):
            load_exported(file)


def test_the_card_tells_data_terms_numbers_and_thresholds(exported: Path, evaluated_run: Path) -> None:
    card = (exported / "model_card.md").read_text()
    entry = json.loads((evaluated_run / "metrics.json").read_text())["evaluations"][0]
    for words in (
        "Not a medical device", "Wang et al., ChestX-ray8, CVPR 2017", "terms of use: Use is unrestricted",
        "Mined from radiology reports", f"{entry['mean_auroc']:.3f}", "binary cross-entropy and an EMA teacher",
        "32 x 32 px", "Label noise", f"{entry['num_images']:,} images.",
    ):  # fmt: skip
        assert words in card, words
    for finding in entry["findings"]:
        assert f"| {finding['finding']} | {finding['positives']} |" in card


def test_the_card_says_what_is_not_known(evaluated_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(evaluated_run, tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    config["data"]["pack"] = str(tmp_path / "gone")
    (run / "config.json").write_text(json.dumps(config))
    report = export(ExportConfig(run=run, checkpoint="last", out=tmp_path / "out"))
    card = (tmp_path / "out" / "model_card.md").read_text()
    assert [note for note in report.notes if "was not evaluated" in note]
    assert "Not evaluated" in card
    assert "Training data\n\nNot known: the pack" in card
    assert load_exported(tmp_path / "out").description.preprocessing.spec.size == "32"
    with pytest.raises(PackError, match="gone"):
        export(ExportConfig(run=run, out=tmp_path / "program", formats=("pt2",)))


def test_the_card_names_injected_noise_and_data_of_unknown_origin(exported: Path) -> None:
    data = TrainedOn(
        datasets={"ours": 9}, num_train=9, num_valid=1, positives=(1,) * 14, labelled=(9,) * 14, labels="noisy.parquet",
        noise='{"seed": 3}',
    )  # fmt: skip
    card = model_card(load_exported(exported).description, data, [], method="", num_parameters=1, differences={})
    assert "No public release of this name" in card
    assert "made noisy on purpose" in card
    assert "noisy.parquet" in card


def test_a_run_of_before_the_record_takes_its_preprocessing_from_its_pack(evaluated_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(evaluated_run, tmp_path / "run")
    lines = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    kept = [{key: value for key, value in line.items() if key != "preprocessing"} for line in lines]
    assert kept != lines
    (run / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in kept))
    assert model_of_run(run).description.preprocessing == model_of_run(evaluated_run).description.preprocessing


def test_the_description_survives_json(exported: Path) -> None:
    about = load_exported(exported).description
    assert ModelDescription.from_json(about.to_json(), "here") == about


def test_the_command_prints_what_it_wrote(evaluated_run: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app, ["export", "--run", str(evaluated_run), "--out", str(tmp_path / "out"), "--checkpoint", "last"]
    )
    assert result.exit_code == 0
    assert str(tmp_path / "out" / "model.safetensors") in result.output
    assert "has no numbers" in result.output

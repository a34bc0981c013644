"""Pretrained weights: torchvision's layout, from the network or a path, and every way in which they do not fit."""

import hashlib
import logging
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from torch import nn

from manifests.errors import ConfigError
from trainer.models import weights
from trainer.models.densenet import DenseNet121
from trainer.models.weights import fit_state, load_pretrained

State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def three_channel() -> nn.Module:
    """A network as torchvision has it: three input channels; eight outputs."""
    torch.manual_seed(0)
    model = DenseNet121(num_outputs=8)
    model.features.conv0 = nn.Conv2d(3, 64, kernel_size=7, stride=2, padding=3, bias=False)
    return model.eval()


@pytest.fixture
def state(three_channel: nn.Module) -> State:
    return dict(three_channel.state_dict())


@pytest.fixture
def file(state: State, tmp_path: Path) -> Path:
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    return path


def one_channel(num_outputs: int = 8, seed: int = 1) -> DenseNet121:
    torch.manual_seed(seed)
    return DenseNet121(num_outputs).eval()


def legacy(state: State) -> State:
    """Return the state dict as torchvision's file spells it: norm.1 for norm1, no counters of batches."""
    renamed = {}
    for name, value in state.items():
        for part in ("norm", "conv"):
            for number in "12":
                name = name.replace(f".{part}{number}.", f".{part}.{number}.") if "denselayer" in name else name
        if not name.endswith("num_batches_tracked"):
            renamed[name] = value
    return renamed


def test_one_channel_equals_three_on_replicated_gray_at_every_pixel(three_channel: nn.Module, file: Path) -> None:
    model = one_channel()
    load_pretrained(model, "densenet121", str(file))
    gray_B1HW = (torch.rand(2, 1, 65, 64, generator=torch.Generator().manual_seed(2)) - 0.449) / 0.226
    rgb_B3HW = gray_B1HW.expand(-1, 3, -1, -1)
    with torch.no_grad():
        stems = [net.get_submodule("features.conv0")(x) for net, x in ((model, gray_B1HW), (three_channel, rgb_B3HW))]
        assert stems[0].shape == (2, 64, 33, 32)
        torch.testing.assert_close(*stems, rtol=0, atol=1e-5)
        torch.testing.assert_close(model(gray_B1HW), three_channel(rgb_B3HW), rtol=0, atol=1e-5)


def test_legacy_names_load_like_the_new_ones(state: State) -> None:
    old = legacy(state)
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    new_model, old_model = one_channel(), one_channel()
    new_model.load_state_dict(fit_state(state, new_model, "new"))
    old_model.load_state_dict(fit_state(old, old_model, "old"))
    ours, theirs = new_model.state_dict(), old_model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("wrapper", ["model", "state_dict"])
def test_a_state_dict_inside_a_checkpoint_is_found(state: State, tmp_path: Path, wrapper: str) -> None:
    torch.save({wrapper: state, "epoch": 3}, tmp_path / "checkpoint.pth")
    model = one_channel()
    load_pretrained(model, "densenet121", str(tmp_path / "checkpoint.pth"))
    assert torch.equal(model.get_parameter("features.norm5.bias"), state["features.norm5.bias"])


def test_one_channel_weights_load_as_they_are(tmp_path: Path) -> None:
    source, model = one_channel(seed=3), one_channel(seed=4)
    torch.save(source.state_dict(), tmp_path / "gray.pth")
    load_pretrained(model, "densenet121", str(tmp_path / "gray.pth"))
    ours, theirs = model.state_dict(), source.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_classifier_of_another_width_keeps_its_initialisation_and_says_so(
    file: Path, state: State, caplog: pytest.LogCaptureFixture
) -> None:
    model = one_channel(num_outputs=14)
    before = model.classifier.weight.clone()
    with caplog.at_level(logging.WARNING):
        load_pretrained(model, "densenet121", str(file))
    assert torch.equal(model.classifier.weight, before)
    assert torch.equal(model.get_parameter("features.norm5.weight"), state["features.norm5.weight"])
    assert [record.message for record in caplog.records] == [
        f"{file}: its classifier has 8 outputs, the model 14: the classifier starts from its initialisation"
    ]


def test_same_width_loads_the_classifier_without_a_warning(
    file: Path, state: State, caplog: pytest.LogCaptureFixture
) -> None:
    model = one_channel()
    load_pretrained(model, "densenet121", str(file))
    assert torch.equal(model.classifier.weight, state["classifier.weight"])
    assert not caplog.records


def test_every_other_mismatch_is_listed(state: State, tmp_path: Path) -> None:
    del state["features.norm0.weight"]
    state["features.norm9.bias"] = torch.zeros(3)
    state["features.transition1.conv.weight"] = torch.zeros(64, 256, 1, 1)
    torch.save(state, tmp_path / "other.pth")
    model = one_channel()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ConfigError, match=r"weights of another model") as refusal:
        load_pretrained(model, "densenet121", str(tmp_path / "other.pth"))
    for problem in (
        "missing features.norm0.weight",
        "unknown features.norm9.bias",
        "features.transition1.conv.weight is 64 x 256 x 1 x 1, the model's 128 x 256 x 1 x 1",
    ):
        assert problem in str(refusal.value)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_weights_of_quite_another_network_are_refused_in_one_line(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "linear.pth")
    with pytest.raises(ConfigError, match=r"and 598 more") as refusal:
        load_pretrained(one_channel(), "densenet121", str(tmp_path / "linear.pth"))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "not weights that torch.save wrote"),
        (b"<!DOCTYPE html><html>", "not weights that torch.save wrote"),
        (b"PK\x03\x04 cut short", "not weights that torch.save wrote"),
    ],
)
def test_a_file_that_holds_no_weights_is_refused(tmp_path: Path, content: bytes, complaint: str) -> None:
    (tmp_path / "broken.pth").write_bytes(content)
    with pytest.raises(ConfigError, match=complaint):
        load_pretrained(one_channel(), "densenet121", str(tmp_path / "broken.pth"))


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    torch.save([1, 2, 3], tmp_path / "list.pth")
    with pytest.raises(ConfigError, match="expected a state dict"):
        load_pretrained(one_channel(), "densenet121", str(tmp_path / "list.pth"))


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save(one_channel(), tmp_path / "module.pth")  # a pickled object, not a state dict
    with pytest.raises(ConfigError, match=r"not weights that torch\.save wrote$"):  # and no advice to run it
        load_pretrained(one_channel(), "densenet121", str(tmp_path / "module.pth"))


def test_an_old_file_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut.pth"
    torch.save({"a": torch.zeros(3), "b": torch.ones(2)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(ConfigError, match=r"not weights that torch\.save wrote"):
            load_pretrained(one_channel(), "densenet121", str(path))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_pretrained(one_channel(), "densenet121", str(tmp_path / "nowhere.pth"))


def serve(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, state: State, digest: str | None = None) -> None:
    """Offer a state dict where torchvision's file would be, under a name that ends in the start of its sha256."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    torch.save(state, tmp_path / "served.pth")
    digest = digest or hashlib.sha256((tmp_path / "served.pth").read_bytes()).hexdigest()[:8]
    named = (tmp_path / "served.pth").rename(tmp_path / f"densenet121-{digest}.pth")
    monkeypatch.setitem(weights.IMAGENET_URLS, "densenet121", named.as_uri())


def test_imagenet_weights_are_downloaded_and_checked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, state: State
) -> None:
    serve(monkeypatch, tmp_path, legacy(state))
    model = one_channel()
    load_pretrained(model, "densenet121", "imagenet")
    stem = model.get_parameter("features.conv0.weight")
    torch.testing.assert_close(stem, state["features.conv0.weight"].sum(dim=1, keepdim=True))


def test_a_download_of_another_checksum_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, state: State
) -> None:
    serve(monkeypatch, tmp_path, state, digest="a639ec97")
    with pytest.raises(ConfigError, match="invalid hash value"):
        load_pretrained(one_channel(), "densenet121", "imagenet")


def test_no_network_names_the_path_option(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    with pytest.raises(ConfigError, match=r"densenet121-a639ec97.pth could not be had .*model.pretrained=PATH"):
        load_pretrained(one_channel(), "densenet121", "imagenet")


def test_a_model_without_imagenet_weights_says_which_have_them() -> None:
    with pytest.raises(ConfigError, match="there are for densenet121"):
        load_pretrained(one_channel(), "small", "imagenet")

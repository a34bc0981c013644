"""`timm:NAME` against a stand-in: the package needs a torchvision that machines without a GPU cannot have."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from manifests.errors import ConfigError
from pipeline.errors import MissingBackendError
from trainer.models.registry import build_model
from trainer.models.weights import load_pretrained

SIZES = {"convnet": False, "vit": True}
"""Network -> whether it is made for one size of images only."""


class Net(nn.Module):
    """A network as timm makes them: `in_chans`, `num_classes`, some with `img_size`."""

    def __init__(self, name: str, *, pretrained: bool, in_chans: int, num_classes: int, img_size: int = 0) -> None:
        super().__init__()
        if img_size % 16:
            raise AssertionError(f"Input image size {img_size} is not a multiple of 16\nand more")
        self.num_classes, self.img_size = num_classes, img_size
        self.stem = nn.Conv2d(in_chans, 4, 3)
        self.norm = nn.Identity() if name == "vit" else nn.BatchNorm2d(4)
        self.head = nn.Linear(4, num_classes)
        self.recomputes = False
        if pretrained:
            nn.init.constant_(self.stem.weight, 0.25)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.norm(self.stem(images)).mean(dim=(2, 3)))
        return logits

    def set_grad_checkpointing(self, enable: bool) -> None:
        self.recomputes = enable


@pytest.fixture
def timm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-in for the package, with the functions of its public interface that are used."""

    def create_model(name: str, pretrained: bool = False, **options: Any) -> Net:
        return Net(name.partition(".")[0], pretrained=pretrained, **options)

    module = ModuleType("timm")
    vars(module).update(
        __version__="1.0",
        create_model=create_model,
        is_model=lambda name: name in SIZES,
        list_models=lambda: list(SIZES),
        get_pretrained_cfg=lambda name: SimpleNamespace(fixed_input_size=SIZES[name.partition(".")[0]]),
    )
    monkeypatch.setitem(sys.modules, "timm", module)


@pytest.mark.usefixtures("timm")
def test_a_network_gets_one_channel_its_outputs_and_where_needed_its_size() -> None:
    convnet = build_model("timm:convnet.tag", 5, input_size_px=64)
    assert convnet(torch.randn(2, 1, 64, 64)).shape == (2, 5)
    assert convnet.img_size == 0
    assert convnet.stem.weight.is_contiguous(memory_format=torch.channels_last)  # type: ignore[operator, union-attr]
    assert build_model("timm:vit", 5, input_size_px=64).img_size == 64


@pytest.mark.usefixtures("timm")
def test_imagenet_means_the_weights_that_timm_has() -> None:
    model = build_model("timm:convnet", 5, input_size_px=64)
    load_pretrained(model, "timm:convnet", "imagenet", input_size_px=64)
    assert torch.equal(model.stem.weight, torch.full((4, 1, 3, 3), 0.25))  # type: ignore[arg-type, union-attr]


@pytest.mark.usefixtures("timm")
@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("timm:convnt", {}, "timm 1.0 has no such network; did you mean timm:convnet"),
        ("timm:vit", {"input_size_px": 60}, "cannot be made for 60 px .Input image size 60 is not a multiple of 16.$"),
        ("timm:convnet", {"recompute": True}, "count each batch twice"),
    ],
)
def test_what_cannot_be_made_is_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_model(name, 5, **({"input_size_px": 64} | options))


@pytest.mark.usefixtures("timm")
def test_recomputation_is_switched_on_where_there_are_no_batch_statistics() -> None:
    model = build_model("timm:vit", 5, input_size_px=64, recompute=True)
    assert isinstance(model, Net)
    assert model.recomputes


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingBackendError, match=r"pip install 'cxr-nvum\[timm\]'"):
        build_model("timm:resnet50", 5, input_size_px=64)

"""One setting of NVUM at a time: what the losses that only the study has compute, and its table."""

from pathlib import Path

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from tools.noise_study import nvum_settings
from tools.noise_study.nvum_settings import SEEDS, SETTINGS, after, main, measured, plain, read, table, weighted
from trainer.memory import NVUMMemory
from trainer.methods import LossConfig, LossInputs

CONFIG = LossConfig(name="nvum", reg_weight=2.0, mixup=False)


def inputs(epoch: int) -> LossInputs:
    draw = torch.Generator().manual_seed(0)
    prior_C = torch.tensor([0.04, 0.25])
    return LossInputs(
        logits_BC=torch.randn(6, 2, generator=draw),
        teacher_logits_BC=torch.randn(6, 2, generator=draw),
        targets_BC=(torch.rand(6, 2, generator=draw) < 0.5).float(),
        mask_BC=torch.ones(6, 2, dtype=torch.bool),
        index_B=torch.arange(6),
        num_global=6,
        memory=NVUMMemory(6, 2),
        log_prior_C=prior_C.log(),
        log_odds_C=torch.logit(prior_C),
        epoch=epoch,
        num_epochs=9,
    )


def test_before_it_begins_there_is_no_regulariser_but_the_memory_is_written() -> None:
    early, late = inputs(2), inputs(3)
    early_parts, late_parts = after(3)(early, CONFIG), after(3)(late, CONFIG)
    assert early_parts.loss.item() == pytest.approx(
        binary_cross_entropy_with_logits(early.logits_BC, early.targets_BC).item()
    )
    assert late_parts.loss.item() == pytest.approx(plain(inputs(3), CONFIG).loss.item())
    assert early_parts.loss.item() != pytest.approx(late_parts.loss.item())
    assert early.memory is not None
    assert late.memory is not None
    early.memory.end_epoch()
    late.memory.end_epoch()
    assert torch.equal(early.memory.previous_NC, late.memory.previous_NC)
    assert early.memory.previous_NC.abs().min() > 0


def test_a_weight_of_a_finding_weighs_its_cross_entropy_alone() -> None:
    given = inputs(0)
    parts, unweighted = weighted(-0.5)(given, CONFIG), plain(inputs(0), CONFIG)
    weight_C = torch.tensor([5.0, 2.0]) / 3.5
    entries_BC = binary_cross_entropy_with_logits(given.logits_BC, given.targets_BC, reduction="none")
    assert parts.bce.item() == pytest.approx((entries_BC * weight_C).mean().item(), rel=1e-5)
    assert parts.reg.item() == pytest.approx(unweighted.reg.item(), rel=1e-5)


def test_settings_and_loss_reach_the_training() -> None:
    tried = ("weight 0", "weight 10", "regulariser after 5 epochs")
    found = {name: measured(SETTINGS[name], 1, num_epochs=3, num_rows=512) for name in tried}
    assert found["regulariser after 5 epochs"] == found["weight 0"] != found["weight 10"]


def test_rows_that_are_there_are_not_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def value_of(setting: nvum_settings.Setting, seed: int) -> dict[str, float]:
        asked.append(seed)
        weight = float(setting.changed.get("reg_weight", 0.36))
        return {"valid_auroc": 0.6, "clean_test_auroc": 0.8 + 0.01 * weight, "clean_test_auroc_last": 0.7}

    monkeypatch.setattr(nvum_settings, "RESULTS", tmp_path)
    monkeypatch.setattr(nvum_settings, "measured", value_of)
    main()
    assert len(asked) == len(SETTINGS) * len(SEEDS)
    first = capsys.readouterr().out
    main()
    assert len(asked) == len(SETTINGS) * len(SEEDS)
    assert first.endswith(capsys.readouterr().out)
    found = read(tmp_path / "noise_study_nvum.csv")
    assert "| weight 1 | 0.6000 | 0.8100 | 0.7000 | +0.0100 (+0.0100 to +0.0100) |" in table(found)
    del found["weight 3", SEEDS[0]]
    assert "| weight 3 |" not in table(found)

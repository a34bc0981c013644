"""Methods that a comparison can ask for together by the name of a preset."""

from trainer.sections import Values

_BCE: Values = {"loss": {"name": "bce"}, "ema": {"enabled": "off"}}


def _nvum(*, teacher: bool = True, **loss: object) -> Values:
    settings = {"name": "nvum", "regulariser": "elementwise", "mixup": True} | loss
    return {"loss": settings, "ema": {"enabled": "on" if teacher else "off"}}


ABLATION: dict[str, Values] = {
    "BCE": _BCE,
    "BCE + EMA": _BCE | {"ema": {"enabled": "on"}},
    "NVUM elementwise": _nvum(),
    # The inner product sums over the outputs where the elementwise form takes their mean: 1/14 of its weight, for the
    # 14 outputs of nvum-nih and nih14.
    "NVUM inner product": _nvum(regulariser="inner_product", reg_weight=0.07),
    "NVUM without prior": _nvum(prior_temperature=0.0),
    "NVUM without teacher": _nvum(teacher=False),
    "NVUM without mixup": _nvum(mixup=False),
    "ELR": {"loss": {"name": "elr"}, "ema": {"enabled": "off"}},
    "ASL": {"loss": {"name": "asl"}, "ema": {"enabled": "off"}},
    "GCE": {"loss": {"name": "gce"}, "ema": {"enabled": "off"}},
}
"""What NVUM is made of, one part left out at a time, beside plain cross-entropy and other losses for wrong labels.

Settings that no entry names (weights, decays, the prior's form) are those of the comparison's ``[base]``.
"""

PRESETS: dict[str, dict[str, Values]] = {"ablation": ABLATION}
"""Name of a preset -> name of a method -> its settings."""

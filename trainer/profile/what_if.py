"""What other hardware or another pack would give, by the model; each row says what it assumes."""

from dataclasses import dataclass, replace

from trainer.profile.limits import Limits
from trainer.profile.measurements import Measurements
from trainer.profile.model import limits_of, stored_raw

BYTES_PER_PARAM = 4
LINK_BYTES_PER_S = {"cuda": 50e9, "cpu": 1.25e9}
"""Assumed between GPUs of a node, and between machines without GPUs (10 Gbit/s)."""


@dataclass(frozen=True, kw_only=True)
class WhatIf:
    """One row of the table."""

    what: str
    """What would be different."""

    images_per_s: float | None
    """Of all ranks; None: it means nothing here, and `assumption` says why."""

    assumption: str
    """What the number rests on."""

    hours: float | None
    """Of the run's epochs, without validation and checkpoints; None as above."""


def what_ifs(measured: Measurements) -> list[WhatIf]:
    """Return the table, the run as it is first."""
    limits, on_cpu = limits_of(measured), measured.subject.device == "cpu"
    rows = [
        _row("as it is", measured, limits, "by the model"),
        _row("first epoch, nothing cached", measured, limits.uncached(), "each image is read from the disk"),
        _row(
            "twice the cores",
            measured,
            limits.with_cores(2, step_on_cores=on_cpu),
            "threads for them, used perfectly" + ("; the step computes on them too" if on_cpu else ""),
        ),
        _row("all cached", measured, limits.all_cached(), "no read waits for the disk"),
        _raw(measured, limits),
        _gpu_decode(measured, limits),
    ]
    first, *others = [_more_devices(number, measured, limits) for number in (2, 4, 8)]
    rows.append(first)
    return rows + [replace(row, assumption="the same") if row.assumption == first.assumption else row for row in others]


def exposed_reduce_s(num_devices: int, *, num_bytes: float, link_bytes_per_s: float, backward_s: float) -> float:
    """Return the seconds of a step's all-reduce that do not hide behind the backward pass.

    A ring sends 2 (n - 1) / n of the gradients' bytes over each link, while the backward pass goes on.
    """
    return max(0.0, 2 * (num_devices - 1) / num_devices * num_bytes / link_bytes_per_s - backward_s)


def _raw(measured: Measurements, limits: Limits) -> WhatIf:
    what = "raw instead of encoded images"
    if "decode" not in measured.ranks[0].stages:
        return _nothing(what, f"nothing is decoded: the pack is {measured.subject.pack_format}")
    raw, fits = stored_raw(limits, measured)
    assumption = "all of it cached" if fits else "read from the disk at as many bytes a second as now"
    return _row(what, measured, raw, assumption)


def _gpu_decode(measured: Measurements, limits: Limits) -> WhatIf:
    what = "decoding on the GPU"
    if "decode" not in measured.ranks[0].stages:
        return _nothing(what, f"nothing is decoded: the pack is {measured.subject.pack_format}")
    if measured.subject.device != "cuda":
        return _nothing(what, "there is no GPU here to measure its decoder")
    if measured.subject.loader == "dali":
        return _nothing(what, "it is decoded there already")
    return _row(
        what, measured, limits.decoded_elsewhere(), "the decoder keeps up and takes nothing from the step: at most"
    )


def _more_devices(number: int, measured: Measurements, limits: Limits) -> WhatIf:
    """Return `number` devices instead of those that were measured, each with the step that was measured."""
    on_cpu = measured.subject.device == "cpu"
    what = f"{number} such machines" if on_cpu else f"{number} GPUs"
    now = len(measured.ranks)
    if number <= now:
        return _nothing(what, f"{now} were measured")
    times = number / now
    link = LINK_BYTES_PER_S[measured.subject.device]
    images_a_step = measured.subject.batch_size * now
    exposed_s = exposed_reduce_s(
        number,
        num_bytes=BYTES_PER_PARAM * measured.num_params,
        link_bytes_per_s=link,
        backward_s=limits.parts_s.get("backward", 0.0) * images_a_step,
    )
    computed = limits.without_part("all-reduce")  # its own is in `exposed_s`
    more = replace(computed, copy_s=limits.copy_s / times).with_loader_threads(times)
    more = replace(more, step_s=(computed.step_s + exposed_s / images_a_step) / times)
    shared = "cores and disk shared by all"
    if on_cpu:
        more = replace(more, cores=limits.cores * times)
        shared = "each with its own cores"
    return _row(what, measured, more, f"{shared}; {link / 1e9:g} GB/s between them, hidden by the backward pass")


def _row(what: str, measured: Measurements, limits: Limits, assumption: str) -> WhatIf:
    return WhatIf(
        what=what,
        images_per_s=limits.images_per_s,
        assumption=assumption,
        hours=measured.epochs * measured.num_train * limits.image_s / 3600,
    )


def _nothing(what: str, why: str) -> WhatIf:
    return WhatIf(what=what, images_per_s=None, assumption=why, hours=None)

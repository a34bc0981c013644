"""The head of a report: what was trained in one paragraph, the numbers that matter, and the run's history."""

from typing import Any

from trainer.report.record import RunRecord


def evaluation_title(entry: dict[str, Any]) -> str:
    """Return what was evaluated, for people: dataset, split, labels and checkpoint."""
    pack = f" of {entry['pack']}" if entry.get("pack") else ""
    labels = "" if entry["labels"] == "pack" else f", labels: {entry['labels']}"
    return f"{entry['dataset']} {entry['split']}{pack}{labels}, {entry['checkpoint']} checkpoint"


def summary(record: RunRecord) -> str:
    """Return one paragraph: model, method, data, length, and the first evaluation."""
    num_epochs = len(record.of_kind("epoch"))
    if num_epochs:
        images = next((f" on {start['num_train']:,} images" for start in record.of_kind("start")), "")
        trained = (
            f"The model {record.setting('model', 'name') or 'of this run'} was trained{images} for {num_epochs} "
            f"epoch{'s' if num_epochs != 1 else ''}{method_phrase(record)}."
        )
    else:
        trained = "No epoch of this run has ended yet."
    if not record.evaluations:
        return f"{trained} Not evaluated yet: cxr-train evaluate adds its numbers here."
    entry = record.evaluations[0]
    auroc = entry["mean_auroc"]
    value = "no finding had both classes" if auroc is None else f"mean AUROC {auroc:.3f}"
    return (
        f"{trained} Evaluated on {entry['num_images']:,} images ({evaluation_title(entry)}): {value} over "
        f"{entry['num_findings_in_mean']} findings."
    )


def key_numbers(record: RunRecord) -> list[tuple[str, str]]:
    """Return the first numbers that a reader looks for, each with what it is."""
    numbers = [
        (f"{entry['mean_auroc']:.3f}", f"mean AUROC, {evaluation_title(entry)}")
        for entry in record.evaluations[:2]
        if entry["mean_auroc"] is not None
    ]
    scores = [
        (epoch["valid_mean_auroc"], epoch["epoch"] + 1)
        for epoch in record.of_kind("epoch")
        if epoch.get("valid_mean_auroc") is not None and epoch.get("is_best")
    ]
    if scores:
        best, number = scores[-1]  # each is better than those before, or of weights that began anew
        numbers.append((f"{best:.3f}", f"best on validation, epoch {number}"))
    return numbers


def history(record: RunRecord) -> dict[str, Any]:
    """Return what the run started with, and each time that it was stopped, went on, or ended."""
    stations = [event for event in record.events if event["event"] in _STATIONS]
    names = [f"{number}. {_STATIONS[event['event']]}" for number, event in enumerate(stations, start=1)]
    return {
        name: {key: value for key, value in event.items() if key not in _NOT_SHOWN}
        for name, event in zip(names, stations, strict=True)
    }


def method_phrase(record: RunRecord) -> str:
    """Return how it was trained, as the end of a sentence; nothing where the configuration does not say."""
    loss, teacher = record.setting("loss", "name"), record.setting("ema", "enabled") == "on"
    if loss == "nvum":
        form = str(record.setting("loss", "regulariser")).replace("_", " ")
        return f" with NVUM (regulariser: {form}, weight {record.setting('loss', 'reg_weight')})"
    if loss == "bce":
        return " with binary cross-entropy" + (" and an EMA teacher" if teacher else "")
    return f" with the loss {loss}" if loss else ""


_STATIONS = {"start": "started", "resume": "went on", "stop": "stopped", "end": "ended"}

_NOT_SHOWN = {"event", "best_epoch", "best_valid_mean_auroc", "preprocessing"}
"""The best epoch is in the curves, counted from 1 as people do; events count from 0. What becomes of an
image is for `cxr-train predict`."""

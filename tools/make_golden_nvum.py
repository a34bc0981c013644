"""Write golden values of the NVUM step: float64, derived from the equations one row and one finding at a time.

    python -m tools.make_golden_nvum [--out FILE]

Shares no code with `trainer` and imports no torch, so that the two can only agree by both being right. The gradient is
written down by hand and checked here against central differences before anything is written.
"""

import argparse
import json
import random
from collections.abc import Callable, Mapping
from math import exp, inf, isfinite, log, log1p
from pathlib import Path
from typing import Any

DEFAULT_OUT = Path(__file__).parent.parent / "tests" / "trainer" / "golden" / "nvum.json"

Rows = list[list[float]]


def sigmoid(x: float) -> float:
    """Return 1 / (1 + exp(-x)) without overflow."""
    return 1 / (1 + exp(-x)) if x >= 0 else exp(x) / (1 + exp(x))


def log_one_minus_sigmoid(x: float) -> float:
    """Return log(1 - sigmoid(x)) = -log(1 + exp(x)) without overflow."""
    return -(max(x, 0.0) + log1p(exp(-abs(x))))


def cross_entropy(logit: float, target: float) -> float:
    """Return -(t log p + (1 - t) log(1 - p)) for p = sigmoid(logit)."""
    return -(target * log_one_minus_sigmoid(-logit) + (1 - target) * log_one_minus_sigmoid(logit))


def clamped(logit: float, clamp: float) -> tuple[float, float]:
    """Return p = clamp(sigmoid(logit)) and dp / dlogit."""
    p = sigmoid(logit)
    if p <= clamp:
        return clamp, 0.0
    if p >= 1 - clamp:
        return 1 - clamp, 0.0
    return p, p * (1 - p)


def memory_of(case: Mapping[str, Any]) -> tuple[Rows, Rows]:
    """Return the memory after the step [N, C], and q [B, C]: each row's own mixture (zeros for skipped rows)."""
    settings, index = case["settings"], case["index"]
    memory = [list(row) for row in case["memory"]]
    new: Rows = []
    for row, teacher in zip(index, case["teacher"], strict=True):
        if row < 0:
            new.append([0.0] * len(teacher))
        elif all(isfinite(logit) for logit in teacher):
            decay, tau = settings["memory_decay"], settings["prior_temperature"]
            new.append(
                [
                    decay * old + (1 - decay) * (logit - tau * log(prior + 1e-12))
                    for old, logit, prior in zip(case["memory"][row], teacher, case["prior"], strict=True)
                ]
            )
            memory[row] = new[-1]
        else:
            new.append(list(case["memory"][row]))
    q: Rows = []
    for own, partner in enumerate(case["perm"]):
        counts = 0 <= partner < len(index) and index[partner] >= 0
        lam = case["lam"] if counts and settings["mixup"] else 1.0
        mixed = new[partner] if counts else new[own]
        q.append([lam * a + (1 - lam) * b for a, b in zip(new[own], mixed, strict=True)])
    return memory, q


def loss_of(case: Mapping[str, Any], student: Rows, q: Rows, form: str) -> tuple[float, float, float, Rows]:
    """Return loss, its cross-entropy, its regulariser, and the gradient [B, C] of the loss in the student's logits."""
    clamp, weight = case["settings"]["clamp"], case["settings"]["reg_weight"]
    num_rows, num_outputs = case["num_global"], len(case["prior"])
    num_entries = num_rows * num_outputs
    bce = reg = 0.0
    grad: Rows = [[0.0] * num_outputs for _ in student]
    for b, row in enumerate(case["index"]):
        if row < 0:
            continue
        total = 0.0
        for c in range(num_outputs):
            if not case["mask"][b][c]:
                continue
            logit, target = student[b][c], case["target"][b][c]
            p, slope = clamped(logit, clamp)
            bce += cross_entropy(logit, target) / num_entries
            grad[b][c] += (sigmoid(logit) - target) / num_entries
            total += q[b][c] * p
            if form == "elementwise":
                reg += log_one_minus_sigmoid(q[b][c] * p) / num_entries
                grad[b][c] -= weight * sigmoid(q[b][c] * p) * q[b][c] * slope / num_entries
        if form == "inner_product":
            reg += log_one_minus_sigmoid(total) / num_rows
            for c in range(num_outputs):
                if case["mask"][b][c]:
                    slope = clamped(student[b][c], clamp)[1]
                    grad[b][c] -= weight * sigmoid(total) * q[b][c] * slope / num_rows
    return bce + weight * reg, bce, reg, grad


def check_gradient(case: Mapping[str, Any], q: Rows, form: str) -> None:
    """Compare the hand-written gradient with central differences of the loss."""
    grad = loss_of(case, case["student"], q, form)[3]
    step = 1e-6
    for b, row in enumerate(case["student"]):
        for c, logit in enumerate(row):
            losses = []
            for moved in (logit + step, logit - step):
                student = [list(values) for values in case["student"]]
                student[b][c] = moved
                losses.append(loss_of(case, student, q, form)[0])
            numeric = (losses[0] - losses[1]) / (2 * step)
            assert abs(numeric - grad[b][c]) < 1e-7, (case["name"], form, b, c, numeric, grad[b][c])


def make_case(name: str, batch: int, outputs: int, rows: int, seed: int, spread: float = 3.0) -> dict[str, Any]:
    """Return the inputs of a case: random logits, labels, memory, priors and a random partner for each row."""
    draw = random.Random(seed)

    def table(height: int, value: Callable[[], float]) -> Rows:
        return [[value() for _ in range(outputs)] for _ in range(height)]

    return {
        "name": name,
        "settings": {"reg_weight": 1.0, "memory_decay": 0.9, "prior_temperature": 1.0, "mixup": True, "clamp": 1e-4},
        "student": table(batch, lambda: round(draw.uniform(-spread, spread), 6)),
        "teacher": table(batch, lambda: round(draw.uniform(-spread, spread), 6)),
        "target": table(batch, lambda: float(draw.random() < 0.3)),
        "mask": table(batch, lambda: 1.0),
        "index": draw.sample(range(rows), batch),
        "memory": table(rows, lambda: round(draw.uniform(-4, 4), 6)),
        "prior": [round(draw.uniform(0.002, 0.6), 6) for _ in range(outputs)],
        "perm": draw.sample(range(batch), batch),
        "lam": round(draw.uniform(0.5, 1), 6),
        "num_global": batch,
    }


def make_inputs() -> list[dict[str, Any]]:
    """Return the inputs of every case."""
    plain = make_case("plain", batch=5, outputs=4, rows=11, seed=1)

    off = make_case("each_switch_off", batch=4, outputs=3, rows=6, seed=2)
    off["settings"] |= {"prior_temperature": 0.0, "mixup": False, "reg_weight": 0.25, "memory_decay": 0.0}

    extreme = make_case("extreme_logits", batch=6, outputs=5, rows=7, seed=3, spread=70.0)
    extreme["settings"]["reg_weight"] = 3.0

    masked = make_case("masked_with_a_row_without_labels", batch=5, outputs=6, rows=9, seed=4)
    draw = random.Random(40)
    masked["mask"] = [[float(draw.random() < 0.6) for _ in row] for row in masked["mask"]]
    masked["mask"][2] = [0.0] * 6
    masked["target"] = [[0.5 if draw.random() < 0.2 else target for target in row] for row in masked["target"]]

    skipped = make_case("skipped_rows_and_their_partners", batch=6, outputs=3, rows=8, seed=5)
    skipped["index"][0] = skipped["index"][4] = -1
    skipped["perm"] = [1, 0, 3, 5, 2, 4]
    skipped["num_global"] = 4

    strangers = make_case("partners_out_of_the_batch", batch=4, outputs=3, rows=4, seed=6)
    strangers["perm"] = [-1, 4, 3, 2]

    broken = make_case("teacher_not_finite", batch=5, outputs=3, rows=9, seed=7)
    broken["teacher"][1][2] = inf
    broken["teacher"][3][0] = -inf
    broken["perm"] = [1, 0, 3, 2, 4]

    share = make_case("one_rank_of_several", batch=3, outputs=14, rows=5, seed=8)
    share["num_global"] = 11

    rare = make_case("prior_zero_and_one", batch=3, outputs=3, rows=3, seed=9)
    rare["prior"] = [0.0, 1.0, 1e-5]

    single = make_case("one_by_one", batch=1, outputs=1, rows=1, seed=10)
    return [plain, off, extreme, masked, skipped, strangers, broken, share, rare, single]


def make_golden() -> list[dict[str, Any]]:
    """Return every case: its inputs, the memory after the step, q, and loss, bce, reg and grad of both forms."""
    golden = []
    for case in make_inputs():
        memory, q = memory_of(case)
        expected: dict[str, Any] = {"memory": memory, "q": q}
        for form in ("elementwise", "inner_product"):
            check_gradient(case, q, form)
            loss, bce, reg, grad = loss_of(case, case["student"], q, form)
            expected[form] = {"loss": loss, "bce": bce, "reg": reg, "grad": grad}
        golden.append(case | {"expected": expected})
    return golden


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="file to write (default: %(default)s)")
    out: Path = parser.parse_args().out
    cases = [json.dumps(case, separators=(",", ":")) for case in make_golden()]
    out.write_text("[\n" + ",\n".join(cases) + "\n]\n", encoding="utf-8")
    print(f"{out}: {len(cases)} cases")


if __name__ == "__main__":
    main()

"""The kernel's machine code, made without a GPU: it compiles, spills nothing, and orders its sums as it must."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.project.source_tree import ROOT

CODE = """
import json, subprocess, sys
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import get_ptxas
from triton.compiler import ASTSource

from trainer.nvum_kernel import nvum_kernel
from trainer.nvum_triton import NUM_WARPS

for number, (capability, elementwise, mixes, dtype, mask, lam, shape) in enumerate(json.loads(sys.argv[1])):
    names = nvum_kernel.arg_names
    constants = {"NUM_OUTPUTS": shape[0], "ELEMENTWISE": elementwise, "MIXES": mixes, "LAM_IS_POINTER": lam == "*fp32"}
    constants |= dict(zip(("BLOCK_B", "BLOCK_C", "BLOCK_P"), shape[1:]))
    pointers = ["*" + dtype, "*" + dtype, "*fp32", "*" + mask, "*i64", "*i64", "*fp32", "*fp32"]
    pointers += ["*fp32", "*u8", "*i32", "*fp32", "*fp32", "*fp32", "*i64"]
    types = pointers + ["i32", "i32", lam] + ["fp32"] * (len(names) - len(pointers) - 3 - len(constants))
    source = ASTSource(
        nvum_kernel,
        signature=dict(zip(names, types)) | dict.fromkeys(constants, "constexpr"),
        constexprs={(names.index(name),): value for name, value in constants.items()},
        attrs={(place,): [["tt.divisibility", 16]] for place in range(len(pointers))},
    )
    kernel = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": NUM_WARPS})
    file = Path(sys.argv[2]) / f"{number}.ptx"
    file.write_text(kernel.asm["ptx"])
    architecture = f"sm_{capability}a" if capability >= 90 else f"sm_{capability}"
    command = [get_ptxas(capability).path, f"-arch={architecture}", "-v", str(file), "-o", f"{file}.cubin"]
    print(subprocess.run(command, check=True, capture_output=True, text=True).stderr)
"""

VARIANTS = [
    (80, True, True, "bf16", "u8", "fp32", (14, 32, 16, 32)),
    (90, False, True, "fp16", "u8", "*fp32", (64, 8, 64, 512)),
    (90, True, False, "fp32", "fp32", "fp32", (1, 1, 1, 1)),
]
"""Capability, elementwise, mixup, types of logits, mask and lam; outputs, blocks of rows, of outputs and of sums."""


def test_compiles_without_spills_and_with_a_release_before_the_last_sum(tmp_path: Path) -> None:
    """In a process of its own, since the interpreter and the compiler do not share one."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error", "-c", CODE, json.dumps(VARIANTS), str(tmp_path)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("0 bytes spill stores, 0 bytes spill loads") == len(VARIANTS)
    for number in range(len(VARIANTS)):
        ptx = (tmp_path / f"{number}.ptx").read_text(encoding="utf-8")
        before, atomic, after = ptx.partition("atom.global.gpu.acq_rel.add.u32")
        assert atomic
        assert "atom.global" not in before + after, "a float atomic would leave the order of the sums to chance"
        assert "red.global" not in before + after
        assert "bar.sync" in before[before.rindex("st.global") :], "all stores come before the release"
        assert after.count("ld.global.cg") >= 4
        assert "ld.global." not in after.replace("ld.global.cg", ""), "others' sums must not come from a stale cache"

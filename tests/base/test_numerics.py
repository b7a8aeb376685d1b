"""Portable numerics: the same digests under processors of different makers, and results that are right at all."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sysdpo.__main__ import asked_numerics
from sysdpo.base import numerics
from sysdpo.base.errors import UserError

SUPPORT = Path(__file__).parents[1] / "support"
COMMITTED = (SUPPORT / "digests.txt").read_text()
EMULATOR = shutil.which("qemu-x86_64")
EMULATED = ("EPYC-v1", "Haswell-v4")  # of AMD and of Intel
DIGESTS = [sys.executable, str(SUPPORT / "digests.py")]


def test_the_digests_are_those_committed() -> None:
    assert subprocess.run(DIGESTS, check=True, capture_output=True, text=True).stdout == COMMITTED


@pytest.fixture(scope="module")
def emulated() -> Iterator[dict[str, subprocess.Popen]]:
    """The digests under every emulated processor, at the same time: each takes minutes."""
    started = {
        name: subprocess.Popen(
            [str(EMULATOR), "-cpu", name, *DIGESTS], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        for name in EMULATED
    }
    yield started
    for process in started.values():
        process.kill()
        process.wait()


@pytest.mark.skipif(EMULATOR is None, reason="qemu-user is not installed")
@pytest.mark.parametrize("processor", EMULATED)
def test_the_digests_are_the_same_on_another_processor(emulated: dict[str, subprocess.Popen], processor: str) -> None:
    assert emulated[processor].communicate()[0] == COMMITTED


@pytest.mark.parametrize("shape", [(3, 5, 7), (128, 96, 384), (300, 2048, 64)])
def test_products_and_their_gradients_are_right(shape: tuple[int, int, int]) -> None:
    rows, inside, outside = shape
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(rows, inside, generator=generator), torch.randn(outside, inside, generator=generator)
    bias = torch.randn(outside, generator=generator)
    results, exact = [], []
    for into, dtype in ((results, torch.float32), (exact, torch.float64)):
        inputs = [tensor.detach().to(dtype, copy=True).requires_grad_() for tensor in (x, weight, bias)]
        layer = torch.nn.functional.linear(*inputs)
        layer.square().sum().backward()
        gradients, (x_, weight_, _) = [tensor.grad for tensor in inputs], (tensor.detach() for tensor in inputs)
        scaled = torch.addmm(layer.detach(), x_, weight_.t(), beta=0.5, alpha=-2)
        into += [layer.detach(), *gradients, scaled, x_ @ weight_.t()]
    for ours, theirs in zip(results, exact, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-5 * float(theirs.abs().max()))


def test_a_square_root_is_rounded_as_ieee_754_asks() -> None:
    values = torch.rand(100_003, generator=torch.Generator().manual_seed(0)) * 100
    assert np.array_equal(values.sqrt().numpy(), np.sqrt(values.numpy()))
    special = torch.tensor([0.0, -0.0, torch.inf, -1.0])
    assert special.sqrt().tolist()[:3] == [0.0, 0.0, torch.inf]
    assert special.sqrt()[3].isnan()
    assert torch.equal(torch.tensor([4, 9]).sqrt(), torch.tensor([2.0, 3.0]))
    assert torch.tensor([4.0], dtype=torch.bfloat16).sqrt().dtype == torch.bfloat16
    assert torch.tensor([-1, 3 + 4j]).sqrt().tolist() == pytest.approx([1j, 2 + 1j])
    assert np.array_equal((values**0.5).numpy(), np.sqrt(values.numpy()))
    assert np.array_equal(values.clone().pow_(0.5).numpy(), np.sqrt(values.numpy()))
    assert torch.equal(torch.tensor([4, 9]) ** 2, torch.tensor([16, 81]))
    four = torch.tensor([4.0], requires_grad=True)
    four.sqrt().backward()
    assert four.grad == 0.25


def test_a_bias_of_any_layout_is_read_right() -> None:
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(300, 256, generator=generator), torch.randn(512, 256, generator=generator)
    product = x.double() @ weight.double().t()
    layouts = [torch.zeros(1).expand(512), torch.arange(1024.0)[::2], torch.zeros(1), torch.randn(300, 512)]
    for bias in [*layouts, torch.randn(300, 1), torch.tensor(2.0)]:
        torch.testing.assert_close(torch.addmm(bias, x, weight.t()).double(), product + bias, rtol=1e-4, atol=1e-3)
    nothing = torch.full((300, 512), torch.nan)
    torch.testing.assert_close(torch.addmm(nothing, x, weight.t(), beta=0).double(), product, rtol=1e-4, atol=1e-3)
    assert torch.addmm(torch.ones(512), x * torch.inf, weight.t(), alpha=0).unique().tolist() == [1.0]


@pytest.mark.parametrize(
    "mistake",
    [
        lambda x: torch.mm(x, x),
        lambda x: torch.mm(x[0], x.t()),
        lambda x: torch.mm(x[None], x.t()),
        lambda x: torch.mm(x, x.t().double()),
        lambda x: torch.addmm(torch.ones(512, dtype=torch.int64), x, x.t()),
        lambda x: torch.tensor([4]).sqrt_(),
    ],
)
def test_mistakes_are_refused_as_torch_refuses_them(mistake: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(RuntimeError):
        mistake(torch.ones(512, 256))


def python(code: str, **environment: str) -> subprocess.CompletedProcess:
    """A new interpreter with these variables, and none of this one's choice."""
    shipped = {name: value for name, value in os.environ.items() if name not in numerics.PORTABLE}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=shipped | environment, capture_output=True, text=True, check=False)


def test_the_environment_chooses_for_a_program_of_one_s_own() -> None:
    code = "import os, sysdpo, sysdpo.method.system, torch; print(os.environ['MKL_CBWR'], torch.get_num_threads())"
    assert python(code, SYSDPO_NUMERICS="portable", MKL_CBWR="AVX2").stdout == "COMPATIBLE 1\n"
    assert "KeyError" in python(code, SYSDPO_NUMERICS="native").stderr


def test_a_choice_that_comes_too_late_is_refused() -> None:
    code = "import numpy; from sysdpo import numerics; numerics.choose('portable')"
    assert "numerics: 'portable' should be chosen before numpy is imported" in python(code).stderr
    wrong = python("import sysdpo.method.system", SYSDPO_NUMERICS="Portable").stderr
    assert "SYSDPO_NUMERICS: 'Portable' should be one of ['portable', 'native']" in wrong
    assert numerics.chosen() == "portable"
    numerics.choose("portable")  # again is no other choice
    with pytest.raises(UserError, match="'fast' should be one of"):
        numerics.choose("fast")


def test_native_after_portable_leaves_the_environment_as_it_was() -> None:
    code = (
        "import os; from sysdpo import numerics; before = dict(os.environ); numerics.choose('portable'); "
        "assert os.environ['OMP_NUM_THREADS'] == '1' and numerics.shipped_environment() == before; "
        "numerics.choose('native'); assert dict(os.environ) == before"
    )
    assert python(code, OMP_NUM_THREADS="7").stderr == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [("numerics: native\nsystems: {}", "native"), ("systems: {}", "portable"), ("{", "portable"), ("- 1", "portable")],
)
def test_a_step_s_configuration_says_which(tmp_path: Path, text: str, expected: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    assert asked_numerics(["train", "--config", str(file), "--seed", "1"]) == expected
    assert asked_numerics(["train", f"--config={file}"]) == expected


def test_without_a_configuration_the_environment_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(numerics.VARIABLE, "native")
    assert asked_numerics(["warm", "snakemake"]) == "native"
    assert asked_numerics(["train", "--config", "nowhere.yaml"]) == "native"
    monkeypatch.delenv(numerics.VARIABLE)
    assert asked_numerics(["warm", "snakemake"]) == "portable"


def test_portable_is_refused_on_a_processor_without_avx2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numerics, "_chosen", [])
    monkeypatch.setattr(numerics, "_flags", lambda: "flags\t\t: fpu sse4_2 avx avx2x")
    for name in ("numpy", "torch"):
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(UserError, match="'portable' should be 'native' on this processor, which has no AVX2"):
        numerics.choose("portable")


def test_a_configuration_that_is_silent_leaves_it_to_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.yaml").write_text("systems: {}")
    monkeypatch.setenv(numerics.VARIABLE, "native")
    assert asked_numerics(["train", "--config", str(tmp_path / "config.yaml")]) == "native"

"""The same numbers on every x86-64 processor, or whatever is fastest on the one at hand.

Libraries choose instructions by the processor, and these round differently: after a training, another processor's
rounding is another draw of the seeds. `portable` numerics restrict every library to what all processors with AVX2 do
alike, and torch to one thread, whose number decides the order of sums. Two parts of torch need more than that:

- MKL's matrix products agree between makers only in its compatible mode, which takes twice to three times as long.
  oneDNN's kernel for AVX2 does what the processor's own fused multiply-adds do, in an order that depends on the shapes
  alone, so float32 products of some size go there.
- MKL's vector square root starts from an approximate instruction that each maker implements differently; numpy's is
  rounded as IEEE 754 asks, so square roots are numpy's. (`torch.atan` has the same fault and is left alone: nothing
  here needs it.)

What this cannot do alike: other architectures than x86-64, GPUs, other versions of the libraries. All of it is our
choice, found by comparing digests of operations and of trainings between processors.

No library is imported here at the top: they read the variables when they are imported.
"""

import functools
import os
import sys
import warnings
from typing import TYPE_CHECKING, Any

from sysdpo.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

NUMERICS = ("portable", "native")
VARIABLE = "SYSDPO_NUMERICS"
"""Environment variable that chooses the numerics where no configuration does."""

PORTABLE = {
    "OMP_NUM_THREADS": "1",
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_CBWR": "COMPATIBLE",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4,AVX512_ICL,AVX512_SPR",
}
"""What the libraries read when they are imported."""

WORTH_ONEDNN = 1 << 18
"""Multiplications in a product below which oneDNN's start costs more than MKL's compatible mode."""

_shipped: dict[str, str | None] = {}
"""The variables as they were before a choice."""

_chosen: list[str] = []
_libraries: list[Any] = []
"""torch's registrations of kernels last as long as these objects."""


def choose(numerics: str) -> None:
    """Choose this process's numerics, before numpy or torch are imported.

    Raises `UserError` where there is no such choice, and where a library has been imported under another one.
    """
    if numerics not in NUMERICS:
        raise UserError(f"numerics: '{numerics}' should be one of {list(NUMERICS)}")
    if numerics == chosen():
        return
    if imported := [name for name in ("numpy", "torch") if name in sys.modules]:
        raise UserError(
            f"numerics: '{numerics}' should be chosen before {' and '.join(imported)} is imported; set "
            f"{VARIABLE}={numerics} in the environment"
        )
    if numerics == "portable":
        _shipped.update({name: os.environ.get(name) for name in PORTABLE})
        os.environ.update(PORTABLE)  # over what is there: some machines set them to something else
    else:
        shipped = shipped_environment()
        os.environ.clear()
        os.environ.update(shipped)
    _chosen[:] = [numerics]


def chosen() -> str:
    """This process's numerics."""
    return _chosen[0] if _chosen else "native"


def shipped_environment() -> dict[str, str]:
    """The environment as it was before a choice: what a command gets whose steps choose for themselves."""
    environment = {name: value for name, value in os.environ.items() if name not in _shipped}
    return environment | {name: value for name, value in _shipped.items() if value is not None}


def use_kernels() -> None:
    """Make torch of this process compute with the numerics that were chosen."""
    if chosen() == "native" or _libraries:
        return
    import torch

    torch.set_num_threads(1)
    library = torch.library.Library("aten", "IMPL")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that a kernel takes another's place is the purpose
        for name, kernel in _KERNELS.items():
            library.impl(name, kernel, "CPU", allow_override=True)
    _libraries.append(library)


@functools.cache
def _operators() -> Any:
    """The operators below, looked up once."""
    import torch

    aten = torch.ops.aten
    return torch.ops.mkldnn._linear_pointwise.default, aten.mm.out, aten.addmm.out, torch.float32


def _goes_to_onednn(left: "Tensor", right: "Tensor") -> bool:
    rows, inner = left.shape
    *_, float32 = _operators()
    return left.dtype is float32 and right.dtype is float32 and rows * inner * right.shape[1] >= WORTH_ONEDNN


def _mm(left: "Tensor", right: "Tensor") -> "Tensor":
    linear, mm_out, *_ = _operators()
    if _goes_to_onednn(left, right):
        return linear(left, right.t(), None, "none", [], "")
    return mm_out(left, right, out=left.new_empty(left.shape[0], right.shape[1]))


def _addmm(added: "Tensor", left: "Tensor", right: "Tensor", *, beta: float = 1, alpha: float = 1) -> "Tensor":
    linear, _, addmm_out, _ = _operators()
    if _goes_to_onednn(left, right):
        if added.dim() == 1 and beta == 1 and alpha == 1:
            return linear(left, right.t(), added, "none", [], "")
        product = linear(left, right.t(), None, "none", [], "")
        return product.mul_(alpha).add_(added, alpha=beta)
    out = left.new_empty(left.shape[0], right.shape[1])
    return addmm_out(added, left, right, beta=beta, alpha=alpha, out=out)


def _sqrt(values: "Tensor") -> "Tensor":
    import numpy as np
    import torch

    if values.dtype not in (torch.float32, torch.float64):
        return values.float().sqrt().to(values.dtype if values.is_floating_point() else torch.float32)
    with np.errstate(invalid="ignore"):
        return torch.from_numpy(np.asarray(np.sqrt(values.detach().numpy())))


def _sqrt_(values: "Tensor") -> "Tensor":
    return values.copy_(_sqrt(values))


def _sqrt_out(values: "Tensor", *, out: "Tensor") -> "Tensor":
    root = _sqrt(values)
    return out.resize_(root.shape).copy_(root)


_KERNELS = {"mm": _mm, "addmm": _addmm, "sqrt": _sqrt, "sqrt_": _sqrt_, "sqrt.out": _sqrt_out}

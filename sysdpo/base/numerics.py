"""The same numbers on every x86-64 processor (`portable`), or whatever is fastest on this one (`native`).

Libraries choose instructions by the processor, and these round differently; over a whole training, different rounding
changes results as much as another seed does. `portable` restricts every library to instructions that behave alike on
all processors with AVX2, and torch to one thread, since the order of sums depends on the number of threads. Two kinds
of operations in torch need more than that:

- MKL's matrix products agree between processor makers only in its compatible mode, which takes two to three times as
  long. oneDNN's AVX2 kernel uses the processor's fused multiply-adds in an order that depends on the shapes alone, so
  larger float32 products use oneDNN.
- MKL's vector square root starts from an approximate instruction that each maker implements differently; numpy's is
  rounded as IEEE 754 requires, so square roots and powers of one half use numpy. (`torch.atan` has the same fault and
  is left alone: nothing here needs it.)

Not covered: other architectures than x86-64, GPUs, other versions of the libraries. All of this is our choice, found by
comparing digests of operations and of trainings between processors.

No library is imported at the top: libraries read these variables when they are imported.
"""

import functools
import os
import platform
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sysdpo.base.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

NUMERICS = ("portable", "native")
VARIABLE = "SYSDPO_NUMERICS"
"""Environment variable that chooses the numerics of programs, and of steps whose configuration does not."""

PORTABLE = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_CBWR": "COMPATIBLE",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4,AVX512_ICL,AVX512_SPR",
}
"""Environment variables that the libraries read when they are imported."""

WORTH_ONEDNN = 1 << 18
"""Products with fewer multiplications are faster in MKL's compatible mode than in oneDNN."""

_shipped: dict[str, str | None] = {}
"""The values of the variables in `PORTABLE` before a choice."""

_chosen: list[str] = []
_libraries: list[Any] = []
"""The kernels stay registered with torch as long as these objects live."""


def choose(numerics: str) -> None:
    """Choose this process's numerics, before numpy or torch are imported.

    Raises `UserError` for an unknown choice, if a library was already imported under another one, and for `portable` on
    an x86-64 processor without AVX2.
    """
    if numerics not in NUMERICS:
        raise UserError(f"numerics: '{numerics}' should be one of {list(NUMERICS)}")
    if numerics == chosen():
        return
    if imported := [name for name in ("numpy", "torch") if name in sys.modules]:
        raise UserError(
            f"numerics: '{numerics}' should be chosen before {' and '.join(imported)} is imported; set "
            f"{VARIABLE}={numerics} in the environment, and import sysdpo first"
        )
    if numerics == "portable":
        if is_x86() and " avx2 " not in f"{_flags()} ":
            raise UserError("numerics: 'portable' should be 'native' on this processor, which has no AVX2")
        _shipped.update({name: os.environ.get(name) for name in PORTABLE})
        os.environ.update(PORTABLE)  # overrides what a machine may have set
    else:
        shipped = shipped_environment()
        os.environ.clear()
        os.environ.update(shipped)
    _chosen[:] = [numerics]


def is_x86() -> bool:
    """Whether this is an x86-64 machine, the only architecture on which `portable` means anything."""
    return platform.machine() in ("x86_64", "AMD64")


def _flags() -> str:
    """The line of processor flags in Linux's `/proc/cpuinfo`; without that file, a line with AVX2 in it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    return next((line for line in lines if line.startswith("flags")), "flags: avx2")


def chosen() -> str:
    """This process's numerics."""
    return _chosen[0] if _chosen else "native"


def shipped_environment() -> dict[str, str]:
    """The environment as it was before a choice, for a command whose steps choose for themselves."""
    environment = {name: value for name, value in os.environ.items() if name not in _shipped}
    return environment | {name: value for name, value in _shipped.items() if value is not None}


def use_kernels() -> None:
    """Register the chosen numerics' kernels with torch; raises `UserError` if the environment names unknown ones."""
    if (named := os.environ.get(VARIABLE)) not in (None, *NUMERICS):
        raise UserError(f"{VARIABLE}: '{named}' should be one of {list(NUMERICS)}")
    if chosen() == "native" or _libraries or not is_x86():
        return
    import torch

    torch.set_num_threads(1)
    library = torch.library.Library("aten", "IMPL")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it warns that kernels are overridden, which is intended
        for name, kernel in _KERNELS.items():
            library.impl(name, kernel, "CPU", allow_override=True)
    _libraries.append(library)


@functools.cache
def _torch() -> Any:
    import torch

    return torch


@functools.cache
def _linear() -> Any:
    return _torch().ops.mkldnn._linear_pointwise.default


def _goes_to_onednn(left: "Tensor", right: "Tensor") -> bool:
    if left.dim() != 2 or right.dim() != 2 or left.shape[1] != right.shape[0]:
        return False  # torch raises the error
    float32 = _torch().float32
    size = left.shape[0] * left.shape[1] * right.shape[1]
    return left.dtype is float32 and right.dtype is float32 and size >= WORTH_ONEDNN


def _mm(left: "Tensor", right: "Tensor") -> "Tensor":
    if _goes_to_onednn(left, right):
        return _linear()(left, right.t(), None, "none", [], "")
    return _torch().ops.aten.mm.out(left, right, out=left.new_empty(0))


def _addmm(added: "Tensor", left: "Tensor", right: "Tensor", *, beta: float = 1, alpha: float = 1) -> "Tensor":
    if added.dtype is _torch().float32 and beta != 0 and alpha != 0 and _goes_to_onednn(left, right):
        # oneDNN reads a bias as if it were contiguous and as long as it should be.
        if beta == alpha == 1 and added.shape == right.shape[1:] and added.is_contiguous():
            return _linear()(left, right.t(), added, "none", [], "")
        return _linear()(left, right.t(), None, "none", [], "").mul_(alpha).add_(added, alpha=beta)
    return _torch().ops.aten.addmm.out(added, left, right, beta=beta, alpha=alpha, out=left.new_empty(0))


def _root(values: "Tensor") -> "Tensor":
    import numpy as np

    torch = _torch()
    if values.dtype in (torch.float32, torch.float64):
        with np.errstate(invalid="ignore"):
            return torch.from_numpy(np.asarray(np.sqrt(values.detach().numpy())))
    if values.is_complex():
        return values.pow(0.5 + 0j)
    if values.is_floating_point():
        return _root(values.float()).to(values.dtype)
    return _root(values.to(torch.get_default_dtype()))


def _root_into(values: "Tensor", out: "Tensor") -> "Tensor":
    root = _root(values)
    if not _torch().can_cast(root.dtype, out.dtype):
        raise RuntimeError(f"result type {root.dtype} can't be cast to the desired output type {out.dtype}")
    return out.resize_(root.shape).copy_(root)


def _power(values: "Tensor", exponent: Any) -> "Tensor":
    if exponent == 0.5 and not values.is_complex():
        return _root(values)
    torch = _torch()
    out = torch.empty(0, dtype=torch.result_type(values, exponent))
    return torch.ops.aten.pow.Tensor_Scalar_out(values, exponent, out=out)


def _power_(values: "Tensor", exponent: Any) -> "Tensor":
    return values.copy_(_power(values, exponent))


_KERNELS: dict[str, Any] = {
    "mm": _mm,
    "addmm": _addmm,
    "sqrt": _root,
    "sqrt_": lambda values: _root_into(values, values),
    "sqrt.out": lambda values, *, out: _root_into(values, out),
    "pow.Tensor_Scalar": _power,
    "pow_.Scalar": _power_,
}

"""SysDPO: aligning compound AI systems with system-level preferences (Wang et al., arXiv 2502.17721).

    import sysdpo

What is named here is imported when it is used: the model libraries take seconds.
"""

import os
from importlib import import_module
from typing import Any

from sysdpo.base import numerics

__version__ = "0.1.0"

# Libraries read it when they are imported, so it is chosen before anything here imports one.
if os.environ.get(numerics.VARIABLE) in numerics.NUMERICS:
    numerics.choose(os.environ[numerics.VARIABLE])

_HOMES = {
    "sysdpo.method.system": ("Node", "System"),
    "sysdpo.method.function": ("Function",),
    "sysdpo.components.language": ("LanguageModel",),
    "sysdpo.components.diffusion": ("DiffusionModel",),
    "sysdpo.components.vision_language": ("VisionLanguageModel",),
    "sysdpo.components.classifier": ("Classifier",),
    "sysdpo.components.chat_api": ("ChatAPI",),
    "sysdpo.components.table": ("Table",),
    "sysdpo.library.preferences": ("Preferences", "read_preferences"),
    "sysdpo.library.aligning": ("Alignment", "align", "compare", "evaluate", "preference_accuracy"),
    "sysdpo.library.exporting": ("export",),
    "sysdpo.library.benchmark": ("Benchmark",),
    "sysdpo.method.description": ("Metric",),
    "sysdpo.base.errors": ("UserError",),
}
_MODULES = {name: module for module, names in _HOMES.items() for name in names}
__all__ = ["__version__", *_MODULES]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'sysdpo' has no attribute '{name}'")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})

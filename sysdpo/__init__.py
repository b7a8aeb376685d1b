"""SysDPO: aligning compound AI systems with system-level preferences (Wang et al., arXiv 2502.17721)."""

import os

from sysdpo.base import numerics

__version__ = "0.1.0"

# Libraries read it when they are imported, so it is chosen before anything here imports one.
if os.environ.get(numerics.VARIABLE) in numerics.NUMERICS:
    numerics.choose(os.environ[numerics.VARIABLE])

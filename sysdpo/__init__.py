"""SysDPO: aligning compound AI systems with system-level preferences (Wang et al., arXiv 2502.17721)."""

__version__ = "0.1.0"

"""Graphics cards: memory and speed from their data sheets, and the time that a job takes on them."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from sysdpo.components.meter import Usage

GIB = 2**30

# Reached shares of the data sheets' peaks: our assumptions, on the cautious side of usual values.
ARITHMETIC_REACHED = 0.4
READING_REACHED = 0.6
# A CUDA context with its libraries, and the allocator's fragmentation.
RESERVED_BYTES, RESERVED_SHARE = 1.0 * GIB, 0.05
START_SECONDS, LOADED_PER_SECOND = 60.0, 1.0e9


@dataclass(frozen=True)
class Card:
    """memory: GiB. half, single: peak FLOP/s of dense matrix products in 16 bits and in float32. reads: bytes/s."""

    name: str
    memory: float
    half: float
    single: float
    reads: float

    def fits(self, memory: float) -> bool:
        """Whether a job that needs this many bytes fits."""
        return memory * (1 + RESERVED_SHARE) + RESERVED_BYTES <= self.memory * GIB

    def hours(self, usage: Usage, *, starts: int, weights: float) -> float:
        """Hours of arithmetic and reading without overlap, and of `starts` processes that load `weights` bytes each."""
        peaks = {kind: self.half if kind in (torch.bfloat16, torch.float16) else self.single for kind in usage.flops}
        computing = sum(flops / peaks[kind] for kind, flops in usage.flops.items()) / ARITHMETIC_REACHED
        reading = usage.read / self.reads / READING_REACHED
        return (computing + reading + starts * (START_SECONDS + weights / LOADED_PER_SECOND)) / 3600


CARDS: Mapping[str, Card] = {
    card.name: card
    for card in (
        # NVIDIA Ada GPU architecture, white paper v2.02, appendix A (FP16 tensor cores with FP32 accumulation)
        Card("RTX 4090", 24, 165.2e12, 82.6e12, 1008e9),
        # NVIDIA A100 tensor core GPU, data sheet, 2021 (SXM)
        Card("A100 40", 40, 312e12, 19.5e12, 1555e9),
        Card("A100 80", 80, 312e12, 19.5e12, 2039e9),
        # NVIDIA H100 tensor core GPU, data sheet, 2022 (SXM; half of its value for sparse products)
        Card("H100 80", 80, 989.4e12, 67e12, 3350e9),
        # NVIDIA H200 tensor core GPU, data sheet, 2024 (SXM); its 141 GB are 140 GiB in the driver
        Card("H200 141", 140, 989.4e12, 67e12, 4800e9),
    )
}

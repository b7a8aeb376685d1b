"""Settings that several applications share. No model library is imported here."""

from typing import Annotated

from pydantic import Field

from sysdpo.base.settings import Count, Positive, Seed, Settings


class SplitSizes(Settings):
    """How many prompts each split has, and how they are drawn."""

    train: Count = 300
    """Prompts for trajectories, preference pairs and training."""
    validation: Count = 150
    """Prompts for choosing settings."""
    test: Count = 300
    """Prompts for comparing methods."""
    seed: Seed = 0
    """Seed of the draw of prompts."""


class SmallLlamaSettings(Settings):
    """How a small Llama is pretrained."""

    steps: Count = 500
    """Updates."""
    batch_size: Count = 64
    """Examples in an update."""
    learning_rate: Positive = 3e-3
    """Peak learning rate."""
    width: Annotated[int, Field(ge=16, le=10**6, multiple_of=16)] = 64
    """Hidden size."""
    layers: Count = 2
    """Number of layers."""
    initializer_range: Positive = 0.02
    """Standard deviation of the initial weights."""

"""Random generators from names and whole numbers: every number counts in full, whatever its size or sign.

`torch.Generator.manual_seed` on a CPU uses the lower 32 bits of a seed and refuses more than 64. Here a stream is named
by any number of names and whole numbers, say what is drawn, a seed, and a row, and each tuple of them has a stream of
its own: SHAKE-256 of the tuple is the generator's state (our choice).
"""

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

KEY_BYTES = 16  # of Philox
STATE = slice(24, 24 + 8 * 624)  # where torch keeps the 624 words of its Mersenne Twister, in 8 bytes each


def numpy_generator(*parts: int | str) -> np.random.Generator:
    """The stream of these numbers for arrays: its draws are the same on every machine, and the faster ones.

    Take its arrays to torch with `torch.from_numpy`.
    """
    return np.random.Generator(np.random.Philox(key=int.from_bytes(_digest(parts, KEY_BYTES), "little")))


def torch_generator(*parts: int | str) -> "torch.Generator":
    """The stream of these numbers for what takes a torch generator only, a pipeline of diffusers say; on the CPU."""
    import torch  # some environments have none, and draw all the same

    generator = torch.Generator().manual_seed(0)
    state = generator.get_state()
    words = np.frombuffer(_digest(parts, 4 * 624), dtype="<u4").astype("<u8")
    state.numpy()[STATE] = words.view(np.uint8)
    return generator.set_state(state)


def seed_torch(*parts: int | str) -> None:
    """Make torch's global stream on the CPU, from which new weights are drawn, the one of these numbers."""
    import torch

    torch.set_rng_state(torch_generator(*parts).get_state())


def _digest(parts: tuple[int | str, ...], length: int) -> bytes:
    # Text keeps (1, 2) apart from (12,), and a number apart from itself with zeros behind it.
    text = ",".join(repr(part) if isinstance(part, str) else str(int(part)) for part in parts)
    return hashlib.shake_256(text.encode()).digest(length)

"""Random generators keyed by names and integers of any size and sign.

`torch.Generator.manual_seed` on a CPU uses the lower 32 bits of a seed and refuses more than 64. Here a stream has a
key of any number of names and integers, such as what is drawn, a seed and a row, and different keys have independent
streams: the generator's state is SHAKE-256 of the key (our choice).
"""

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

KEY_BYTES = 16  # of Philox
STATE = slice(24, 24 + 8 * 624)  # where torch keeps the 624 words of its Mersenne Twister, in 8 bytes each


def numpy_generator(*key: int | str) -> np.random.Generator:
    """The stream of this key for arrays, the same on every machine and faster than torch's.

    Use `torch.from_numpy` to pass its arrays to torch.
    """
    return np.random.Generator(np.random.Philox(key=int.from_bytes(_digest(key, KEY_BYTES), "little")))


def torch_generator(*key: int | str) -> "torch.Generator":
    """The stream of this key for code that needs a torch generator, such as a diffusers pipeline; on the CPU."""
    import torch  # some environments that draw numbers have no torch

    generator = torch.Generator().manual_seed(0)
    state = generator.get_state()
    words = np.frombuffer(_digest(key, 4 * 624), dtype="<u4").astype("<u8")
    state.numpy()[STATE] = words.view(np.uint8)
    return generator.set_state(state)


def seed_torch(*key: int | str) -> None:
    """Seed torch's global CPU generator, from which new weights are drawn, with this key."""
    import torch

    torch.set_rng_state(torch_generator(*key).get_state())


def _digest(key: tuple[int | str, ...], length: int) -> bytes:
    # As text, (1, 2) differs from (12,), and "1" from 1.
    text = ",".join(repr(entry) if isinstance(entry, str) else str(int(entry)) for entry in key)
    return hashlib.shake_256(text.encode()).digest(length)

"""Streams of random numbers: every number that names one counts in full, and the same name is the same stream."""

from itertools import combinations

import numpy as np
import pytest
import torch

from sysdpo.base.seeds import numpy_generator, torch_generator

# Numbers that share their lower 32 or 64 bits, lie past what a seed may be, differ in sign, or read alike in a row.
NAMES = [(1,), (1, 0), (0, 1), (12,), (1, 2), (2, 1), (1 + 2**32,), (1 + 2**64,), (1 + 2**200,), (-1,), (), (2**63,)]


def draws(make, name: tuple[int, ...]) -> list[float]:
    generator = make(*name)
    if isinstance(generator, torch.Generator):
        return torch.rand(8, dtype=torch.float64, generator=generator).tolist()
    return generator.random(8).tolist()


@pytest.mark.parametrize("make", [numpy_generator, torch_generator])
def test_each_name_has_a_stream_of_its_own(make) -> None:
    streams = {name: draws(make, name) for name in NAMES}
    for one, other in combinations(NAMES, 2):
        assert not set(streams[one]) & set(streams[other])
    assert all(streams[name] == draws(make, name) for name in NAMES)


@pytest.mark.parametrize("make", [numpy_generator, torch_generator])
def test_numbers_of_libraries_name_the_same_stream(make) -> None:
    assert draws(make, (np.int64(7), np.uint32(3))) == draws(make, (7, 3))
    assert draws(make, (torch.tensor(7), 3)) == draws(make, (7, 3))


@pytest.mark.parametrize("make", [numpy_generator, torch_generator])
def test_first_draws_of_neighbours_are_independent(make) -> None:
    """Uniform, and of neighbours uncorrelated: 4 standard errors each."""
    first = np.array([draws(make, (3, number))[0] for number in range(4000)])
    assert abs(first.mean() - 0.5) < 4 * (1 / 12 / 4000) ** 0.5
    assert abs(first.var() - 1 / 12) < 4 * (1 / 180 / 4000) ** 0.5
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 4 / 4000**0.5


def test_a_torch_generator_goes_on_as_a_mersenne_twister_does() -> None:
    """All of its state is the stream's: numpy's twister, put into that state, says the same for 2,000 draws."""
    state = torch_generator(5, 6).get_state().numpy()
    twister = np.random.MT19937()
    words = state[24 : 24 + 8 * 624].view(np.uint64).astype(np.uint32)
    assert len(np.unique(words)) > 620
    twister.state = {"bit_generator": "MT19937", "state": {"key": words, "pos": 624}}
    expected = (twister.random_raw(2000) & (2**24 - 1)) / 2**24
    assert torch.rand(2000, generator=torch_generator(5, 6)).tolist() == expected.tolist()


def test_the_streams_stay_as_they_are() -> None:
    """A run is made again by its seed: other numbers here would be another run."""
    assert numpy_generator(0, 1).integers(10**9, size=3).tolist() == [245575019, 50007179, 48421296]
    assert torch.randint(10**9, (3,), generator=torch_generator(0, 1)).tolist() == [90923282, 171314692, 895852430]

"""Finding the benchmark that a configuration names."""

import pytest
from coin_system import CONFIG, Coins

from sysdpo.base.errors import UserError
from sysdpo.method.benchmark import load_benchmark


def test_any_importable_factory_will_do() -> None:
    assert isinstance(load_benchmark("coins", CONFIG["systems"]["coins"]), Coins)


@pytest.mark.parametrize("factory", ["no_such_module:build", "coin_system:no_such_name", "coin_system", "", ":build"])
def test_a_factory_that_cannot_be_found_is_refused(factory: str) -> None:
    with pytest.raises(UserError, match=rf"systems.coins.factory: '{factory}' should name a function"):
        load_benchmark("coins", {"factory": factory})


def test_a_missing_factory_is_refused() -> None:
    with pytest.raises(UserError, match=r"systems.coins.factory: '' should name a function"):
        load_benchmark("coins", {})

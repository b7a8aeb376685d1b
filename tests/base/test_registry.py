"""Whatever registers itself can be named in a configuration."""

import sys
from pathlib import Path

import pytest

from sysdpo.base.errors import UserError
from sysdpo.base.registry import Registry


def test_entries_are_found_by_name_in_order() -> None:
    colours: Registry[object] = Registry("colour")

    @colours.register("red")
    def red() -> str:
        return "#f00"

    @colours.register("blue")
    def blue() -> str:
        return "#00f"

    assert list(colours) == ["red", "blue"]
    assert colours["red"] is red
    assert colours.named("blue", "system.colour") is blue


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    colours: Registry[object] = Registry("colour")
    colours.register("red")(len)
    with pytest.raises(UserError, match=r"system\.colour: 'rde' should be one of \['red'\]"):
        colours.named("rde", "system.colour")


def test_a_name_is_registered_once() -> None:
    colours: Registry[object] = Registry("colour")
    colours.register("red")(len)
    with pytest.raises(UserError, match="colour: 'red' is there already"):
        colours.register("red")(max)
    assert colours.register("red")(len) is colours["red"]


def test_a_file_in_the_package_is_all_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "shades"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "from sysdpo.base.registry import Registry\nSHADES = Registry('shade', 'shades')\n"
    )
    for name in ("dark", "light"):
        (folder / f"{name}.py").write_text(
            f"from shades import SHADES\n@SHADES.register('{name}')\ndef {name}(): pass\n"
        )
    monkeypatch.syspath_prepend(str(tmp_path))
    from shades import SHADES  # type: ignore[import-not-found]

    assert list(SHADES) == ["dark", "light"]
    for name in ("shades", "shades.dark", "shades.light"):
        sys.modules.pop(name)

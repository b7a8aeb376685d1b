"""Outputs are whole or absent; unreadable inputs are named."""

from pathlib import Path

import pandas as pd
import pytest

from sysdpo.errors import UserError
from sysdpo.files import read_table, whole, write_table


def interrupted(path: Path) -> None:
    with whole(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("interrupted")


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.txt"
    with whole(path) as temporary:
        temporary.write_text("all of it")
        assert not path.exists()
    assert path.read_text() == "all of it"
    assert list(path.parent.iterdir()) == [path]


def test_an_interrupted_file_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="interrupted"):
        interrupted(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_replaces_the_whole_old_folder(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "stale").mkdir()
    (path / "file").write_text("old")
    with whole(path) as temporary:
        temporary.mkdir()
        (temporary / "file").write_text("new")
    assert {each.name: each.read_text() for each in path.iterdir()} == {"file": "new"}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_tables_survive_a_round_trip(tmp_path: Path, ending: str) -> None:
    table = pd.DataFrame({"name": ["a", "b"], "value": [0.25, -3.0]})
    write_table(table, tmp_path / f"table.{ending}")
    pd.testing.assert_frame_equal(read_table(tmp_path / f"table.{ending}", ["name", "value"]), table)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    write_table(pd.DataFrame({"a": [1]}), tmp_path / "table.parquet")
    with pytest.raises(UserError, match=r"table.parquet' lacks the columns \['b', 'c'\]; it has \['a'\]"):
        read_table(tmp_path / "table.parquet", ["a", "c", "b"])


def test_an_empty_table_is_refused_unless_allowed(tmp_path: Path) -> None:
    write_table(pd.DataFrame({"a": []}), tmp_path / "table.parquet")
    with pytest.raises(UserError, match="has no rows"):
        read_table(tmp_path / "table.parquet", ["a"])
    assert read_table(tmp_path / "table.parquet", ["a"], allow_empty=True).empty


@pytest.mark.parametrize("name", ["absent.parquet", "absent.csv", "text.parquet"])
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "text.parquet").write_text("not a table")
    with pytest.raises(UserError, match=r"should be a .* table, but cannot be read"):
        read_table(tmp_path / name, ["a"])

"""Outputs are whole or absent and replace nothing but their like; unreadable inputs are named."""

import errno
import json
import multiprocessing
import os
import resource
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from sysdpo.base.errors import UserError
from sysdpo.base.files import check_outputs, read_table, whole, write_table


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
    (path / ".snakemake_timestamp").touch()
    with whole(path) as temporary:
        temporary.mkdir()
        (temporary / "file").write_text("new")
    assert {file.name: file.read_text() for file in path.iterdir()} == {"file": "new"}
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_has_left_is_removed_and_what_a_running_one_has_is_not(tmp_path: Path) -> None:
    host, child = socket.gethostname(), multiprocessing.get_context("fork").Process(target=os.getpid)
    child.start()
    child.join()
    names = [f".file-{host}-{child.pid}-ab", f".file-{host}-{os.getppid()}-ab", f".file-elsewhere-{child.pid}-ab"]
    names += [f".other-{host}-{child.pid}-ab", f".file-{host}-ab"]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("half")
    with whole(tmp_path / "file") as temporary:
        temporary.write_text("whole")
    assert {path.name for path in tmp_path.iterdir()} == {"file", *names[1:]}


def make_file(content: bytes | str) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(content if isinstance(content, bytes) else content.encode())


def make_folder(*names: str) -> Callable[[Path], Any]:
    def make(path: Path) -> None:
        for name in names:
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_text(name)

    return make


def make_table(*columns: str) -> Callable[[Path], Any]:
    def make(path: Path) -> None:
        table = pd.DataFrame({column: [path.name] for column in columns})
        table.to_csv(path, index=False) if path.suffix == ".csv" else table.to_parquet(path)

    return make


def content_of(path: Path) -> Any:
    if path.is_dir():
        return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}
    return path.read_bytes()


@pytest.mark.parametrize(
    ("name", "theirs", "ours"),
    [
        ("out", make_folder("thesis.md"), make_folder("training.jsonl", "adapters/a")),
        ("out", make_folder("training.jsonl", "adapters/a", "thesis.md"), make_folder("training.jsonl", "adapters/a")),
        ("out", make_folder("adapters/mine/a"), make_folder("adapters/a")),
        ("out", make_folder(".git/config"), make_folder("config")),
        ("out", make_folder("a"), make_file("text")),
        ("out", make_file("text"), make_folder("a")),
        ("thesis.md", make_file("# Thesis"), make_table("a")),
        ("page.html", make_file("%PDF-1.7"), make_file("<!doctype html>")),
        ("table.parquet", make_file("text"), make_table("prompt_id")),
        ("table.parquet", make_file(b"PAR1 but cut"), make_table("prompt_id")),
        ("table.parquet", make_table("prompt_id", "mine"), make_table("prompt_id", "text")),
        ("table.csv", make_table("system", "mine"), make_table("system", "method")),
        ("data.json", make_file('{"mine": 1}'), make_file('{"theirs": 1}')),
        ("data.json", make_file("no json"), make_file('{"theirs": 1}')),
    ],
)
def test_what_is_not_its_like_is_not_replaced(
    tmp_path: Path, name: str, theirs: Callable[[Path], Any], ours: Callable[[Path], Any]
) -> None:
    path = tmp_path / name
    theirs(path)
    before = content_of(path)
    with pytest.raises(UserError, match=rf"^'{path}' .*(another name)"), whole(path) as temporary:
        ours(temporary)
    assert content_of(path) == before
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_step_will_not_make_is_refused_before_it_begins(tmp_path: Path) -> None:
    kind = ("training.jsonl", "adapters/*")
    (tmp_path / "file").touch()
    make_folder("training.jsonl", "notes.md")(tmp_path / "folder")
    for name in ("file", "folder"):
        with pytest.raises(UserError), whole(tmp_path / name, holds=kind):
            raise AssertionError("it has begun")
    make_folder("adapters/one/weights")(tmp_path / "other")
    with whole(tmp_path / "other", holds=kind) as temporary:
        make_folder("adapters/two/weights")(temporary)
    assert content_of(tmp_path / "other") == {"adapters/two/weights": b"adapters/two/weights"}


def make_weights(size: int) -> Callable[[Path], Any]:
    return lambda path: save_file({f"weight {size}": torch.zeros(size)}, path)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("empty.parquet", make_file(""), make_table("prompt_id")),
        ("table.parquet", make_table("prompt_id", "text"), make_table("prompt_id", "text")),
        ("table.csv", make_table("system"), make_table("system")),
        ("data.json", make_file('{"a": 1, "b": 2}'), make_file('{"b": 3, "a": 4}')),
        ("page.html", make_file("<!doctype html> old"), make_file("<!doctype html> new")),
        ("kept.pt", make_weights(3), make_weights(12345)),
        ("folder", make_folder("a", "b/c"), make_folder("a", "b/c", "d")),
        ("folder", lambda path: path.mkdir(), make_folder("a")),
    ],
)
def test_its_like_is_replaced(
    tmp_path: Path, name: str, old: Callable[[Path], Any], new: Callable[[Path], Any]
) -> None:
    path = tmp_path / name
    old(path)
    with whole(path) as temporary:
        new(temporary)
        expected = content_of(temporary)
    assert content_of(path) == expected
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    make_folder("a")(tmp_path / "disk" / "folder")
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "folder")
    with whole(tmp_path / "link") as temporary:
        make_folder("a", "b")(temporary)
    assert (tmp_path / "link").is_symlink()
    assert set(content_of(tmp_path / "disk" / "folder")) == {"a", "b"}


FULL: dict[str, Callable[[Path], Any]] = {
    "a text": make_file("x" * 100_000),
    "a folder": lambda path: (path.mkdir(), (path / "part").write_bytes(bytes(100_000))),
    "safetensors": make_weights(100_000),
    "parquet": lambda path: pd.DataFrame({"a": os.urandom(400_000).hex()}, index=[0]).to_parquet(path),
    "csv": lambda path: pd.DataFrame({"a": range(50_000)}).to_csv(path),
    "json": lambda path: path.write_text(json.dumps(list(range(50_000)))),
}


def written_where_little_fits(path: Path, write: Callable[[Path], Any]) -> None:
    """Exits with 0 if the disk's refusal becomes the one sentence."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    try:
        with whole(path) as temporary:
            write(temporary)
    except UserError as error:
        os._exit(0 if str(error) == f"'{path}' cannot be written (File too large)" else 3)
    except BaseException:
        os._exit(4)
    os._exit(5)


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
@pytest.mark.parametrize("write", FULL.values(), ids=FULL)
def test_a_full_disk_is_reported_in_one_sentence_and_nothing_is_left(
    tmp_path: Path, write: Callable[[Path], Any]
) -> None:
    path = tmp_path / "file"
    child = multiprocessing.get_context("fork").Process(target=written_where_little_fits, args=(path, write))
    child.start()
    child.join()
    assert child.exitcode == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.EDQUOT])
@pytest.mark.parametrize("where", ["while it is made", "when it is to last", "when it takes its name"])
def test_a_disk_that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, where: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    if where != "while it is made":
        monkeypatch.setattr(*{"when it is to last": (os, "fsync")}.get(where, (Path, "replace")), fail)
    path = tmp_path / "file.txt"
    path.write_text("text before")

    def write() -> None:
        with whole(path) as temporary:
            temporary.write_text("text after")
            if where == "while it is made":
                fail()

    with pytest.raises(UserError, match=rf"'{path}' cannot be written \({os.strerror(number)}\)"):
        write()
    assert path.read_text() == "text before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_whose_change_fails_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "folder"
    make_folder("a")(path)

    def fail(*_: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(UserError, match="Input/output error"), whole(path) as temporary:
        make_folder("a", "b")(temporary)
    assert content_of(path) == {"a": b"a"}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("beside", ["a file", "a read-only disk"])
def test_a_folder_that_cannot_be_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beside: str) -> None:
    path = tmp_path / "parent" / "file"
    if beside == "a file":
        path.parent.write_text("no folder")
    else:

        def refuse(*_: Any, **__: Any) -> None:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

        monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(UserError, match=rf"'{path}' cannot be written \("), whole(path):
        raise AssertionError("it has begun")


def test_errors_that_are_not_the_disk_s_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), whole(tmp_path / "file"):
        (tmp_path / "elsewhere").read_text()
    with pytest.raises(ConnectionError), whole(tmp_path / "file"):
        raise ConnectionError(errno.ECONNREFUSED, "refused")


def test_an_output_is_no_input_and_no_other_output(tmp_path: Path) -> None:
    check_outputs({"output": tmp_path / "a" / "b"}, [tmp_path / "a", tmp_path / "a" / "bc"])
    (tmp_path / "link").symlink_to(tmp_path / "a")
    for output, read in (("a", "a"), ("a", "a/b/c"), ("link", "a"), (".", "a"), ("a/../b", "b")):
        with pytest.raises(UserError, match=r"--output: '.*' would replace '.*', which this step reads"):
            check_outputs({"output": tmp_path / output}, [tmp_path / read])
    with pytest.raises(UserError, match=r"--comparisons: '.*' should be another path than --output"):
        check_outputs({"output": tmp_path / "a", "comparisons": tmp_path / "link"}, [])


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

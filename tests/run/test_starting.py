"""What `sysdpo new` refuses, and what it leaves alone; `tests/workflow` runs what it writes."""

from pathlib import Path

import pytest
import yaml

from sysdpo.run.cli import main

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text((REPOSITORY / "config.yaml").read_text())
    return tmp_path


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["My-System"], "NAME: 'My-System' should be a Python identifier of small letters, digits and underscores, a"),
        (["1st"], "NAME: '1st' should be a Python identifier"),
        (["class"], "NAME: 'class' should be a Python identifier"),
        (["../mine"], "NAME: '../mine' should be a Python identifier"),
        (["json"], "NAME: 'json' is a module that Python has already"),
        (["torch"], "NAME: 'torch' is a module that Python has already"),
        (["two_stage_qa"], "NAME: 'two_stage_qa' is one of the systems of config.yaml"),
        (["theory"], "NAME: 'theory' is one of the studies of config.yaml"),
        (["mine", "--folder", "a b"], "--folder: 'a b' should be without spaces"),
    ],
)
def test_a_name_that_will_not_do_is_refused(
    folder: Path, words: list[str], said: str, capsys: pytest.CaptureFixture
) -> None:
    assert main(["new", *words]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"sysdpo new: {said}")
    assert printed.err.count("\n") == 1
    assert [path.name for path in folder.iterdir()] == ["config.yaml"]


@pytest.mark.parametrize("suffix", [".py", ".yaml", ".jsonl"])
def test_an_existing_file_is_left_as_it_is(folder: Path, suffix: str, capsys: pytest.CaptureFixture) -> None:
    (folder / f"mine{suffix}").write_text("what was there before")
    assert main(["new", "mine"]) == 2
    assert capsys.readouterr().err == (
        f"sysdpo new: NAME: 'mine{suffix}' exists already; take another name or another folder\n"
    )
    assert {path.name for path in folder.iterdir()} == {"config.yaml", f"mine{suffix}"}
    assert (folder / f"mine{suffix}").read_text() == "what was there before"


def test_three_files_speak_of_the_name_and_the_folder(folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["new", "mine", "--folder", "some/where"]) == 0
    assert "sysdpo check some/where/mine.py" in capsys.readouterr().out
    texts = {path.name: path.read_text() for path in (folder / "some/where").iterdir()}
    assert set(texts) == {"mine.py", "mine.yaml", "mine.jsonl"}
    assert not [name for name, text in texts.items() if "starter" in text or "FOLDER" in text]
    config = yaml.safe_load(texts["mine.yaml"])
    assert config["only"] == ["mine"]
    assert config["systems"]["mine"]["factory"] == "some/where/mine.py:benchmark"

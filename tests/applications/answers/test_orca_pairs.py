"""A data set in the layout of Intel/orca_dpo_pairs is read as it lies on the hub, or refused in one sentence."""

import json
from pathlib import Path

import pandas as pd
import pytest
from tiny_chat import orca_pairs, save_orca_pairs

from sysdpo.applications.answers.orca_pairs import COLUMNS, read_orca_pairs
from sysdpo.base.errors import UserError

WHERE = "systems.mine.data"
PAIRS = orca_pairs()


def read(source: Path | str, revision: str | None = None) -> pd.DataFrame:
    return read_orca_pairs(str(source), revision, where=WHERE)


def lines(*rows: dict[str, object]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def row(**over: object) -> dict[str, object]:
    return {"system": "", "question": "Why?", "chosen": "So.", "rejected": "No."} | over


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_a_folder_as_on_the_hub(tmp_path: Path, kind: str) -> None:
    folder = save_orca_pairs(tmp_path / "hub", kind)
    (folder / ".cache").mkdir()
    (folder / ".cache" / "left.parquet").write_bytes(b"half a download")
    assert read(folder).to_dict("records") == PAIRS.to_dict("records")


def test_a_file_of_either_kind_or_several_of_one(tmp_path: Path) -> None:
    whole = tmp_path / "orca.json"
    whole.write_text(json.dumps(PAIRS.to_dict("records")))
    assert read(whole).to_dict("records") == PAIRS.to_dict("records")
    (tmp_path / "two").mkdir()
    PAIRS.head(20).to_parquet(tmp_path / "two" / "train-00000-of-00002.parquet")
    PAIRS.tail(34).to_parquet(tmp_path / "two" / "train-00001-of-00002.parquet")
    assert read(tmp_path / "two").to_dict("records") == PAIRS.to_dict("records")
    assert list(read(tmp_path / "two").index) == list(range(54))


def test_texts_stay_as_they_are(tmp_path: Path) -> None:
    odd = row(question="007", chosen="2024-01-01", rejected="a\u2028b\nc \u00e9", system="null")
    path = tmp_path / "orca_rlhf.jsonl"
    path.write_text(json.dumps(odd, ensure_ascii=False) + "\n", encoding="utf-8")
    assert read(path).to_dict("records") == [odd]


def test_other_columns_and_their_order_do_not_matter(tmp_path: Path) -> None:
    save_orca_pairs(tmp_path, pairs=PAIRS[list(COLUMNS)[::-1]].assign(model="gpt"))
    assert list(read(tmp_path).columns) == list(COLUMNS)


def test_a_question_occurs_once_and_never_with_two_equal_answers(tmp_path: Path) -> None:
    path = tmp_path / "orca.jsonl"
    same, spaced = row(rejected="So."), row(rejected=" So.\n")
    path.write_text(lines(same, spaced, row(chosen="Yes."), row(chosen="Second."), row(question="How?")))
    pairs = read(path)
    assert pairs["question"].tolist() == ["Why?", "How?"]
    assert pairs["chosen"].tolist() == ["Yes.", "So."]
    assert list(pairs.index) == [2, 4]  # rows of the file
    path.write_text(lines(same))
    with pytest.raises(UserError, match=r"data.source: .* should have rows whose chosen answer is not the rejected"):
        read(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.jsonl",
            lines({"system": "", "question": "Why?", "answer": "So."}),
            r"a.jsonl' lacks the columns \['chosen",
        ),
        ("a.jsonl", lines(row(), row(chosen=None)), r"a.jsonl' has null in the column 'chosen' of row 1, which"),
        ("a.jsonl", lines(row(), {"system": ""}), r"has null in the column 'question' of row 1"),
        ("a.jsonl", lines(row(rejected=4)), r"has 4 in the column 'rejected' of row 0, which should be a text"),
        ("a.jsonl", lines(row(system=[1])), r"has \[1\] in the column 'system' of row 0"),
        ("a.jsonl", "", r"a.jsonl' has no rows; it should have at least one"),
        ("a.json", "[]", r"a.json' has no rows"),
        ("a.jsonl", lines(row()) + '{"system": ', r"a.jsonl' should be a .jsonl table, but cannot be read"),
        ("a.parquet", "PAR", r"a.parquet' should be a .parquet table, but cannot be read"),
        ("a.csv", "system,question", r"should hold files that end with one of \['.parquet', '.jsonl', '.json'\]"),
    ],
)
def test_mistakes_are_reported_in_one_sentence(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        read(tmp_path)
    assert str(caught.value).startswith(f"{WHERE}.source: '{tmp_path}")
    assert "\n" not in str(caught.value)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("system,question")
    with pytest.raises(UserError, match=r"a.csv' should end with one of"):
        read(tmp_path / "a.csv")


def test_a_hub_id_is_fetched_at_its_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, call = save_orca_pairs(tmp_path / "snapshot"), {}

    def snapshot_download(name: str, **settings: object) -> str:
        call.update(settings, name=name)
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert len(read("Intel/orca_dpo_pairs", "5a1b3e7")) == 54
    assert (call["name"], call["repo_type"], call["revision"]) == (
        "Intel/orca_dpo_pairs",
        "dataset",
        "5a1b3e7",
    )


@pytest.mark.parametrize("source", ["Intel/orca_dpo_pairs", "/no/such/folder"])
def test_what_cannot_be_fetched_is_refused(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=rf"^{WHERE}.source: '{source}' at {WHERE}.revision 'v1' should be") as caught:
        read(source, "v1")
    assert "\n" not in str(caught.value)

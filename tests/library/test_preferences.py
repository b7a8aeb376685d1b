"""Preferences in every form that people have them in."""

import json
from pathlib import Path

import pandas as pd
import pytest
import tiny_models
import torch
from PIL import Image

from sysdpo import DiffusionModel, Node, System, Table, UserError, read_preferences

PIPELINE = "sysdpo.applications.images.pipeline:SmallStableDiffusion3Pipeline"
WORDS = ("red", "blue", "green")


def colours() -> System:
    """question → hint → answer, all tables over three words."""
    seen = [(question, hint) for question in WORDS for hint in WORDS]
    return System(
        ["question"],
        [
            Node("hint", Table([(word,) for word in WORDS], WORDS, torch.zeros(3, 3)), ["question"]),
            Node("answer", Table(seen, WORDS, torch.zeros(9, 3)), ["question", "hint"]),
        ],
    )


def judged(source) -> set[tuple[str, str, str]]:
    """Each pair as question, chosen and rejected answer."""
    found = read_preferences(source, colours())
    rows = found.trajectories.set_index("trajectory_id")
    return {
        (rows.loc[pair["chosen_id"], "question"], *(rows.loc[pair[f"{side}_id"], "answer"] for side in SIDES))
        for pair in found.pairs.to_dict("records")
    }


SIDES = ("chosen", "rejected")
PAIRS = {("red", "red", "blue"), ("blue", "blue", "green")}
ROWS = [{"prompt": question, "chosen": chosen, "rejected": rejected} for question, chosen, rejected in sorted(PAIRS)]
CHAT = [
    {
        "prompt": [{"role": "user", "content": row["prompt"]}],
        **{side: [{"role": "assistant", "content": row[side]}] for side in SIDES},
    }
    for row in ROWS
]
WHOLE_CHAT = [{side: [*row["prompt"], *row[side]] for side in SIDES} for row in CHAT]


@pytest.mark.parametrize("rows", [ROWS, CHAT, WHOLE_CHAT], ids=["plain", "chat", "prompt within"])
@pytest.mark.parametrize("form", ["list", "frame", ".jsonl", ".json", ".parquet"])
def test_trls_pairs_in_every_format(rows: list[dict], form: str, tmp_path: Path) -> None:
    path = tmp_path / f"pairs{form}"
    if form == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    elif form == ".json":
        path.write_text(json.dumps(rows))
    elif form == ".parquet":
        pd.DataFrame(rows).to_parquet(path)
    source = {"list": rows, "frame": pd.DataFrame(rows)}.get(form, path)
    assert judged(source) == PAIRS


def test_the_files_own_pairs_are_the_pairs() -> None:
    rows = [{"prompt": "red", "chosen": "red", "rejected": other} for other in ("blue", "green")] * 2
    assert len(read_preferences(rows, colours())) == 4


def test_a_data_set_of_hugging_faces(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    assert judged(datasets.Dataset.from_list(ROWS)) == PAIRS


def test_scores_and_thumbs_pair_what_differs_within_a_prompt() -> None:
    scored = [("red", "red", 2), ("red", "blue", 1.5), ("red", "green", 1.5), ("blue", "green", 9)]
    rows = [{"question": question, "answer": answer, "score": score} for question, answer, score in scored]
    assert judged(rows) == {("red", "red", "blue"), ("red", "red", "green")}
    thumbs = [
        {"prompt": "blue", "completion": answer, "label": good} for answer, good in (("blue", True), ("red", False))
    ]
    assert judged(thumbs) == {("blue", "blue", "red")}


def test_a_list_with_its_best_one_or_its_scores() -> None:
    completions = {"prompt": "green", "completions": ["red", "green", "blue"]}
    assert judged([completions | {"best": 1}]) == {("green", "green", "red"), ("green", "green", "blue")}
    assert judged([completions | {"score": [0, 1, 0]}]) == judged([completions | {"best": 1}])


def test_whole_trajectories_keep_what_lies_between() -> None:
    side = {side: {"hint": word, "answer": word} for side, word in zip(SIDES, WORDS, strict=False)}
    found = read_preferences([{"question": "red"} | side], colours())
    assert found.trajectories["hint"].tolist() == ["red", "blue"]
    scored = [{"question": "red", "hint": word, "answer": word, "score": len(word)} for word in WORDS]
    assert read_preferences(scored, colours()).trajectories["hint"].tolist() == list(WORDS)


def test_trls_format_comes_back_as_it_was() -> None:
    system = colours()
    assert read_preferences(ROWS, system).to_trl(system).to_dict("records") == ROWS
    several = System(system.inputs, system.nodes, system.components, outputs=("hint", "answer"))
    with pytest.raises(UserError, match="TRL's format has one prompt and one completion"):
        read_preferences(ROWS, system).to_trl(several)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([], "there are no rows"),
        ([{"prompt": "red", "chosen": "red"}], r"row 0 lacks \['rejected'\]; it has \['chosen', 'prompt'\]"),
        ([{"prompt": "red", "answer": "red", "score": float("inf")}], "row 0: inf should be a finite number"),
        ([{"prompt": "red", "answer": "red", "score": "good"}], "row 0: 'good' should be a finite number"),
        ([{"prompt": "red", "answer": "red", "score": 1}], "no two trajectories of one prompt have different scores"),
        ([{"prompt": "red", "completions": ["red"], "best": 1}], "row 0, best: 1 should be an index of its 1 compl"),
        ([{"prompt": "red", "completions": ["red"], "score": [1, 2]}], "row 0, score: it should be a list of 1 numb"),
        ([ROWS[0], {"prompt": "red", "chosen": {"x": 1}, "rejected": "red"}], r"row 1, chosen: \['x'\] should be amo"),
        ([CHAT[0] | {"prompt": CHAT[0]["prompt"] * 2}], "its prompt should be one message of the user's"),
        ([CHAT[0] | {"chosen": CHAT[0]["prompt"]}], "row 0, chosen: it should be one message of the assistant's"),
    ],
)
def test_the_first_row_that_is_none_is_named(rows: list[dict], told: str) -> None:
    with pytest.raises(UserError, match=f"preferences: {told}" if "row" in told else told):
        read_preferences(rows, colours())


def test_a_line_that_is_no_mapping_is_named(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(ROWS[0]) + "\n{oops\n")
    with pytest.raises(UserError, match=r"pairs.jsonl', line 2: it should be a mapping in JSON"):
        read_preferences(path, colours())


@pytest.fixture(scope="module")
def painter(tmp_path_factory: pytest.TempPathFactory) -> System:
    folder = tiny_models.save_painter(tmp_path_factory.mktemp("models") / "painter")
    model = DiffusionModel.from_pretrained(folder, pipeline=PIPELINE, lora=tiny_models.DIFFUSION_LORA)
    return System(["prompt"], [Node("image", model, ["prompt"])])


@pytest.mark.parametrize("metadata", ["txt", "jsonl", "csv"])
def test_a_folder_of_images(painter: System, metadata: str, tmp_path: Path) -> None:
    for number, side in enumerate(SIDES):
        (tmp_path / side).mkdir()
        for name in "ab":
            Image.new("RGB", (8, 8), (200 * number, 0, 0)).save(tmp_path / side / f"{name}.png")
    rows = pd.DataFrame({"file_name": ["a.png", "b.png"], "prompt": ["a cat", "a dog"]})
    if metadata == "txt":
        for name, text in zip("ab", rows["prompt"], strict=True):
            (tmp_path / f"{name}.txt").write_text(f"{text}\n")
    elif metadata == "csv":
        rows.to_csv(tmp_path / "metadata.csv", index=False)
    else:
        rows.to_json(tmp_path / "metadata.jsonl", orient="records", lines=True)
    found = read_preferences(tmp_path, painter)
    images = found.trajectories.set_index("trajectory_id")
    for side, red in zip(SIDES, (0, 200), strict=True):
        chosen = images.loc[found.pairs[f"{side}_id"]]
        assert chosen["prompt"].tolist() == ["a cat", "a dog"]
        assert [image.getpixel((0, 0)) for image in chosen["image"]] == [(red, 0, 0)] * 2
    (tmp_path / "rejected/b.png").unlink()
    with pytest.raises(UserError, match=r"'b' should be in chosen/ and in rejected/"):
        read_preferences(tmp_path, painter)


def test_images_by_their_paths_beside_the_file(painter: System, tmp_path: Path) -> None:
    for side in SIDES:
        Image.new("RGB", (8, 8)).save(tmp_path / f"{side}.png")
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"prompt": "a cat", **{side: f"{side}.png" for side in SIDES}}))
    assert len(read_preferences(path, painter)) == 1
    (tmp_path / "rejected.png").write_text("no image")
    with pytest.raises(UserError, match=r"rejected.png' should be an image, but cannot be read"):
        read_preferences(path, painter)

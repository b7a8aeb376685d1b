"""An export is loaded by programs that know nothing of the library, and is what the system was."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tiny_chat
import tiny_models
import torch
import yaml

import sysdpo
from sysdpo import DiffusionModel, LanguageModel, Node, System, Table, UserError
from sysdpo.applications.images.grammar import nth_caption
from sysdpo.base import numerics
from sysdpo.library.model_cards import Facts
from sysdpo.method.function import Function

REPOSITORY = Path(__file__).parents[2]
PIPELINE = "sysdpo.applications.images.pipeline:SmallStableDiffusion3Pipeline"
FOLDED = tiny_models.LANGUAGE_LORA | {"r": 4}
"""An adapter wide enough to be folded into the tiny layers."""
CARDS = ("", "adapters/writer", "adapters/painter", "merged/writer", "merged/painter")
FACTS = Facts(
    title="Tiny | system",
    story="A writer and a painter.",
    method="SysDPO-Direct",
    components={"writer": "the writer", "painter": "the painter"},
    data=["3 prompts."],
    settings={"beta": 0.5, "learning_rate": {"writer": 0.1}},
    results=[("Accuracy (%)", "47.9 [38.4, 57.6]", "share of right answers")],
    remark="Over 5 seeds.",
)


def tiny(folder: Path) -> System:
    """A writer, a parser of the library's, and a painter whose classes are in no library; both are trained."""
    made_from = folder / "from"
    tiny_models.save_language_model(made_from / "writer")
    (made_from / "writer" / "README.md").write_text("---\nlicense: apache-2.0\n---\nA model.\n")
    tiny_models.save_painter(made_from / "painter")
    system = System(
        ["text"],
        [
            Node("captions", "writer", ["text"]),
            Node("caption", "parser", ["captions"]),
            Node("image", "painter", ["caption"]),
        ],
        {
            "writer": LanguageModel.from_pretrained(made_from / "writer", lora=FOLDED, max_new_tokens=6),
            "parser": Function(partial(nth_caption, index=0)),
            "painter": DiffusionModel.from_pretrained(
                made_from / "painter",
                lora=tiny_models.DIFFUSION_LORA,
                sampling=tiny_models.SAMPLING,
                pipeline=PIPELINE,
            ),
        },
    )
    for name in ("writer", "painter"):
        tiny_models.perturb(system.components[name])
    return system


def chat(folder: Path) -> System:
    """A model that chats, with generation settings of its own, and layers too large to fold an adapter into."""
    tiny_chat.save_qwen2(folder / "from" / "qwen")
    model = LanguageModel.from_pretrained(
        folder / "from" / "qwen",
        lora={"r": 1, "lora_alpha": 2, "target_modules": "all-linear"},
        max_new_tokens=5,
        template="{0}, {1}",
        system_prompt="Be brief.",
    )
    tiny_models.perturb(model)
    return System(["question", "hint"], [Node("answer", model, ["question", "hint"])])


def loaded(answers: Path, *folders: Path) -> list[dict[str, Any]]:
    """What `exported.py` tells of exports, in a process of its own, with the numerics that others have."""
    environment = numerics.shipped_environment() | {"PYTHONPATH": str(REPOSITORY), "SYSDPO_NUMERICS": "native"}
    environment |= {"HF_HOME": str(answers.parent / "cache"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(REPOSITORY / "tests/support/exported.py"), str(answers), *map(str, folders)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(answers.read_text())


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[System, Path, dict[str, Any]]:
    """The system, its export, and what came of loading that. What it was made from is gone then."""
    root = tmp_path_factory.mktemp("export")
    system = tiny(root)
    sysdpo.export(system, root / "out", {"text": "big cat"}, facts=FACTS)
    chats = {"question": "What is a cat?", "hint": "an animal"}
    sysdpo.export(chat(root), root / "chat", chats)
    (root / "from").rename(root / "away")
    (root / "out").rename(root / "elsewhere")
    answers = loaded(root / "answers.json", root / "elsewhere", root / "chat")
    return system, root / "elsewhere", answers[0] | {f"chat {name}": found for name, found in answers[1].items()}


def front(card: Path) -> dict[str, Any]:
    return yaml.safe_load(card.read_text().split("---\n")[1])


def test_the_merged_language_model_is_the_policy(exported) -> None:
    found = exported[2]["merged/writer"]
    assert found["printed"] == found["ours"] != ""
    assert found["log_probs"][0] == pytest.approx(found["log_probs"][1], abs=1e-5)
    # The tests merge under portable numerics; where one process merges and computes, nothing differs.
    assert found["log_probs"][0] == found["merged_here"]
    assert found["moved"] > 0.1


def test_the_adapter_in_peft_is_the_policy(exported) -> None:
    found = exported[2]["adapters/writer"]
    assert found["printed"] == found["ours"] != ""
    assert found["log_probs"][0] == pytest.approx(found["log_probs"][1], abs=1e-5)


@pytest.mark.parametrize("kind", ["merged", "adapters"])
def test_pictures_are_the_same_to_the_pixel_in_plain_diffusers(exported, kind: str) -> None:
    assert exported[2][f"{kind}/painter"] == {"same": True, "size": [32, 32]}


def test_the_system_is_loaded_in_three_lines_and_gives_the_same(exported) -> None:
    system, folder, found = exported
    assert "PIL.Image" in found["system"]
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert len([line for line in code.splitlines() if line]) == 3
    again = System.load(folder)
    assert again("big cat", seed=4).tobytes() == system("big cat", seed=4).tobytes()
    inputs = {"text": ["big cat", "dog"]}
    assert again.sample(inputs, seeds=[0, 1])["captions"] == system.sample(inputs, seeds=[0, 1])["captions"]


def test_a_model_that_chats_is_asked_as_the_system_asks_it(exported, tmp_path: Path) -> None:
    _, folder, answers = exported
    model = chat(tmp_path).components["answer"]
    for kind in ("merged/answer", "adapters/answer"):
        found = answers[f"chat {kind}"]
        assert found["prompt"] == model.encode_prompt(("What is a cat?", "an animal"))
        assert found["printed"] == found["ours"]
        assert found["log_probs"][0] == pytest.approx(found["log_probs"][1], abs=1e-5)
    shipped = json.loads((folder.parent / "chat/merged/answer/generation_config.json").read_text())
    assert "repetition_penalty" not in shipped
    assert shipped["max_new_tokens"] == 5


def test_cards_say_what_the_hub_and_people_ask(exported) -> None:
    _, folder, _ = exported
    for name in CARDS:
        text = (folder / name / "README.md").read_text()
        for said in ("Tiny \\| system", "SysDPO-Direct", "`parser`", "3 prompts.", "47.9", "`beta`", "Over 5 seeds."):
            assert said in text, (name, said)
        assert "Frozen: the base models under them, and `parser`" in text
    assert front(folder / "README.md")["base_model"] == ["models/painter", "models/writer"]
    adapter, merged = front(folder / "adapters/writer/README.md"), front(folder / "merged/painter/README.md")
    assert (adapter["base_model"], adapter["library_name"]) == ("models/writer", "peft")
    assert adapter["license"] == "apache-2.0"
    assert (merged["library_name"], merged["pipeline_tag"]) == ("diffusers", "text-to-image")
    assert merged["license"] == "unknown"
    assert front(folder / "models/writer/README.md") == {"license": "apache-2.0"}


def test_nothing_of_the_machine_is_left_in_an_export(exported) -> None:
    _, folder, _ = exported
    for path in folder.rglob("*"):
        if path.is_file():
            assert str(folder.parent).encode() not in path.read_bytes(), path
    assert not [path for path in folder.rglob("*") if path.suffix in (".bin", ".pt", ".pkl")]


def test_what_was_not_trained_is_loaded_as_it_was(exported, tmp_path: Path) -> None:
    system, folder, _ = exported
    whole = System.load(folder)
    whole.components["painter"].reset()
    sysdpo.export(whole, tmp_path / "out", {"text": "big cat"}, trained=["writer"])
    assert sorted(path.name for path in (tmp_path / "out/adapters").iterdir()) == ["writer"]
    assert sorted(path.name for path in (tmp_path / "out/merged").iterdir()) == ["writer"]
    assert "Frozen: the base models under them, and `parser`, `painter`" in (tmp_path / "out/README.md").read_text()
    again = System.load(tmp_path / "out")
    assert again("big cat", seed=4).tobytes() == whole("big cat", seed=4).tobytes()
    assert again("big cat", seed=4).tobytes() != system("big cat", seed=4).tobytes()


def test_an_export_replaces_an_export_and_nothing_else(tmp_path: Path) -> None:
    model = LanguageModel.from_pretrained(
        tiny_models.save_language_model(tmp_path / "model"), lora=tiny_models.LANGUAGE_LORA, max_new_tokens=2
    )
    export: Callable[..., None] = partial(sysdpo.export, System(["x"], [Node("y", model, ["x"])]), example={"x": "cat"})
    export(tmp_path / "out")
    tiny_models.perturb(model)
    export(tmp_path / "out")
    (tmp_path / "out" / "models" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"holds 'models/notes.txt', which this step does not make"):
        export(tmp_path / "out")
    assert (tmp_path / "out" / "models" / "notes.txt").read_text() == "mine"
    with pytest.raises(UserError, match="should be a new folder, or hold an earlier export"):
        export(tmp_path / "model")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="is a file, where an export is a folder"):
        export(tmp_path / "file")
    assert sorted(os.listdir(tmp_path)) == ["file", "model", "out"]


def test_what_cannot_be_loaded_elsewhere_is_refused(tmp_path: Path) -> None:
    table = System(["x"], [Node("y", Table([("a",)], ["b", "c"], torch.zeros(1, 2)), ["x"])])
    with pytest.raises(
        UserError, match="component 'y': a Table should be made by from_pretrained, and have save_model"
    ):
        sysdpo.export(table, tmp_path / "out", {"x": "a"})
    assert not list(tmp_path.iterdir())


def test_only_functions_of_the_library_are_loaded_by_their_name(tmp_path: Path) -> None:
    assert Function(partial(nth_caption, index=1)).made_from == {
        "function": "sysdpo.applications.images.grammar:nth_caption",
        "keywords": {"index": 1},
    }
    assert Function(tiny).made_from is None
    assert Function(lambda text: text).made_from is None
    assert Function(os.system).made_from is None
    # A name of the library's that is another module's function is none of the library's.
    for name in ("os:system", "sysdpo.run.manifest:subprocess", "sysdpo.base.files:partial"):
        with pytest.raises(UserError, match="should be a function of sysdpo"):
            Function.from_pretrained(name, {})


def test_code_in_a_models_folder_is_not_run(exported, tmp_path: Path) -> None:
    _, folder, _ = exported
    with pytest.raises(UserError, match="the code that lies in a model's folder is not run"):
        DiffusionModel.from_pretrained(folder / "merged" / "painter", lora=None)
    frozen = DiffusionModel.from_pretrained(
        folder / "merged" / "painter", lora=None, pipeline=PIPELINE, sampling=tiny_models.SAMPLING
    )
    trained = System.load(folder).components["painter"]
    drawn = [part.sample([("cat",)], seeds=[3])[0].tobytes() for part in (frozen, trained)]
    assert drawn[0] == drawn[1]

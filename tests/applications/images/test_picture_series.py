"""The picture series: its prompts, its graph, what its writer is told, its scores, and all of it with real classes."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny_pictures
from tiny_models import DIFFUSION_LORA, LANGUAGE_LORA, picture
from tried_benchmarks import build

from sysdpo.applications.images import picture_series
from sysdpo.applications.images.attributes import ATTRIBUTES, PHRASINGS
from sysdpo.applications.images.picture_series import SYSTEM_PROMPT
from sysdpo.applications.images.settings import ImageJudgeSettings
from sysdpo.base.errors import UserError
from sysdpo.method.evaluation import evaluate
from sysdpo.method.preferences import as_frame
from sysdpo.method.values import Completion

NOWHERE = Path("nowhere")
SIZES = {"train": 60, "validation": 20, "test": 40, "unseen_contents": 30, "unseen_phrasings": 2}
SETTINGS: dict[str, Any] = {
    "factory": "sysdpo.applications.images.settings:PictureSeries",
    "prompts": SIZES,
    "scorer": {"kind": "clip", "model": "clip"},
    "components": {
        "writer": {"model": "writer", "lora": LANGUAGE_LORA, "max_new_tokens": 8},
        "painter": {
            "model": "painter",
            "lora": DIFFUSION_LORA,
            "sampling": {"num_inference_steps": 2, "guidance_scale": 5.0, "height": 64, "width": 64},
            "estimator": {"weighting": "simple", "omega": 10.0},
        },
    },
}


def settings(**over: Any) -> dict[str, Any]:
    return copy.deepcopy(SETTINGS) | over


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Checkpoints of the classes that the paper's scale names."""
    root = tmp_path_factory.mktemp("hub")
    saved = {
        "writer": tiny_pictures.save_llama_3(root / "writer"),
        "painter": tiny_pictures.save_stable_diffusion_xl(root / "painter"),
        "clip": tiny_pictures.save_clip(root / "clip"),
        "regressor": tiny_pictures.save_regressor(root / "regressor", tuple(a.name for a in ATTRIBUTES)),
        "angry": tiny_pictures.save_regressor(root / "angry", ("anger", "age")),
    }
    return {name: str(folder) for name, folder in saved.items()}


@pytest.fixture
def real(folders: dict[str, str]) -> dict[str, Any]:
    """Settings that name those checkpoints, with a judge besides the scorer."""
    named = settings(prompts=SIZES | {"train": 2, "validation": 2, "test": 2})
    for name in ("writer", "painter"):
        named["components"][name]["model"] = folders[name]
    named["scorer"]["model"] = folders["clip"]
    return named | {"judge": {"kind": "regressor", "model": folders["regressor"]}}


# Prompts


def test_prompts_are_split_without_overlap_and_the_same_every_time() -> None:
    prompts = build(settings()).prompts()
    assert prompts["split"].value_counts().to_dict() == {name: SIZES[name] for name in ("train", "validation", "test")}
    assert prompts["prompt_id"].is_unique
    assert prompts["text"].is_unique
    pd.testing.assert_frame_equal(prompts, build(settings()).prompts())
    assert not prompts.equals(build(settings(prompts=SIZES | {"seed": 1})).prompts())


def test_half_of_the_test_split_has_a_content_or_phrasing_that_occurs_nowhere_else() -> None:
    prompts = build(settings(prompts=SIZES | {"train": 2000})).prompts()
    content = prompts["attribute"] + prompts["subject"]
    elsewhere = prompts["split"] != "test"
    new = ~content.isin(content[elsewhere]) | ~prompts["phrasing"].isin(prompts["phrasing"][elsewhere])
    assert prompts["unseen"].sum() == SIZES["test"] / 2
    assert new[prompts["unseen"]].all()
    assert not prompts["unseen"][elsewhere].any()
    assert set(prompts["phrasing"]) == set(range(len(PHRASINGS)))
    assert len(set(prompts["phrasing"][elsewhere])) == len(PHRASINGS) - 2


def test_where_nothing_is_held_back_all_prompts_are_seen() -> None:
    prompts = build(settings(prompts=SIZES | {"unseen_contents": 0, "unseen_phrasings": 0})).prompts()
    assert not prompts["unseen"].any()
    assert (prompts["split"] == "test").sum() == SIZES["test"]


def test_only_the_named_attributes_occur() -> None:
    prompts = build(settings(prompts=SIZES | {"attributes": ["anger", "age"], "unseen_contents": 5})).prompts()
    assert set(prompts["attribute"]) == {"anger", "age"}


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"train": 100_000}, r"prompts: of \d+ prompts \d+ have neither .*; here they are 100000, 20 and 40"),
        ({"test": 10_000}, r"prompts: of \d+ prompts"),
        ({"train": 0}, r"prompts.train: 0 should be at least 1"),
        ({"unseen_contents": -1}, r"prompts.unseen_contents: -1 should be at least 0"),
        ({"attributes": ["angr"]}, r"prompts.attributes: 'angr' should be one of \['anger'"),
    ],
)
def test_impossible_prompts_are_refused(sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=rf"systems.picture_series.{message}"):
        build(settings(prompts=SIZES | sizes)).prompts()


@pytest.mark.parametrize("section", ["scorer", "judge"])
def test_prompts_that_a_regressor_in_a_folder_cannot_judge_are_refused(section: str, folders: dict[str, str]) -> None:
    knows_two = {section: {"kind": "regressor", "model": folders["angry"]}}
    with pytest.raises(UserError, match=r"prompts.attributes: .*'crowd'.* should be left out, since the regressor"):
        build(settings(**knows_two)).prompts()
    sizes = SIZES | {"attributes": ["anger"], "unseen_contents": 5}
    assert set(build(settings(prompts=sizes, **knows_two)).prompts()["attribute"]) == {"anger"}


# Settings


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"foundation": {}}, r"unknown key 'foundation'"),
        ({"scorer": None}, r"scorer: None should be a mapping"),
        ({"judge": {"kind": "clip", "modell": "x"}}, r"judge: unknown key 'modell'"),
        ({"components": {"writer": {"lora": LANGUAGE_LORA}}}, r"components: the keys \['painter'\] are missing"),
    ],
)
def test_wrong_sections_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=rf"systems.picture_series.*{message}"):
        build(settings(**wrong))


@pytest.mark.parametrize("component", ["writer", "painter"])
def test_a_component_that_names_no_model_is_refused(component: str) -> None:
    wrong = settings()
    del wrong["components"][component]["model"]
    with pytest.raises(UserError, match=rf"components.{component}.model: null should be a hub id or a folder"):
        build(wrong)


def test_nothing_is_made_by_the_workflow() -> None:
    assert build(settings()).foundations == {}


# The system


def test_the_graph_is_the_paper_s(real: dict[str, Any]) -> None:
    benchmark = build(real)
    system = benchmark.system(NOWHERE)
    assert benchmark.inputs == ("text",)
    assert {node.name: (node.component, node.parents) for node in system.nodes} == {
        "captions": ("writer", ("text",)),
        **{f"caption_{n}": (f"parser_{n}", ("captions",)) for n in (1, 2, 3)},
        **{f"image_{n}": ("painter", (f"caption_{n}",)) for n in (1, 2, 3)},
    }
    assert system.trainable == ["writer", "painter"]


@pytest.mark.parametrize(
    ("settings", "system"),
    [
        ({}, ("system", SYSTEM_PROMPT)),
        ({"system_prompt": "Answer {0} in rhyme."}, ("system", "Answer Draw a cat. in rhyme.")),
        ({"system_prompt": ""}, None),
    ],
)
def test_the_writer_s_system_prompt(
    settings: dict[str, str], system: tuple[str, str] | None, real: dict[str, Any]
) -> None:
    real["components"]["writer"] |= settings
    writer = build(real).system(NOWHERE).components["writer"]
    turns = ([system] if system else []) + [("user", "Draw a cat.")]
    head = "".join(f"<|start_header_id|>{role}<|end_header_id|>\n\n{text}<|eot_id|>" for role, text in turns)
    read = writer.tokenizer.decode(writer.encode_prompt(("Draw a cat.",)))
    assert read == f"<|begin_of_text|>{head}<|start_header_id|>assistant<|end_header_id|>\n\n"


def test_the_painter_draws_the_writer_s_captions(real: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    system = build(real).system(NOWHERE)
    answers = ["Sure:\n1. A calm cat.\n2. A cross cat.\n3. A furious cat.", "One cat."]
    writer = system.components["writer"]
    monkeypatch.setattr(writer, "sample", lambda conditions, seeds: [Completion(answer, (1,)) for answer in answers])
    sampled = system.sample({"text": ["Draw a cat."] * 2}, seeds=[1, 2])
    assert [sampled[f"caption_{n}"] for n in (1, 2, 3)] == [
        ["A calm cat.", "One cat."],
        ["A cross cat.", "One cat."],
        ["A furious cat.", "One cat."],
    ]
    assert {sampled[f"image_{n}"][row].size for n in (1, 2, 3) for row in (0, 1)} == {(64, 64)}


# Scores and metrics


class FakeJudge:
    """A judge that knows what pictures show by their widths; with a text they agree by height and letters."""

    def __init__(self, values: dict[int, float]):
        self.values = values

    def attribute(self, images: list, prompts: pd.DataFrame) -> np.ndarray:
        assert len(prompts) == len(images)
        return np.array([self.values[image.width] for image in images])

    def similarity(self, images: list, texts: list[str]) -> np.ndarray:
        return np.array([image.height / 100 + len(text) for image, text in zip(images, texts, strict=True)])


@pytest.fixture
def tell(monkeypatch: pytest.MonkeyPatch):
    """A function: the judges by the models' names, to be told what they see."""

    def start(judges: dict[str, FakeJudge]) -> None:
        @contextmanager
        def judge(chosen: ImageJudgeSettings) -> Iterator[FakeJudge]:
            yield judges[chosen.model]

        monkeypatch.setattr(picture_series, "image_judge", judge)

    return start


PROMPTS = pd.DataFrame(
    {"prompt_id": ["p0", "p1"], "attribute": ["crowd", "anger"], "direction": [1, -1], "low": "l", "high": "h"}
)


def trajectories() -> pd.DataFrame:
    """A series each of p1 and p0, whose pictures have widths 1 to 6, heights 10 and captions of 0, 1 and 2 letters."""
    columns: dict[str, list] = {"captions": [Completion("1. a\n2. b\n3. c", (1,)), Completion("a cat", (1,))]}
    columns |= {f"caption_{n}": ["x" * (n - 1)] * 2 for n in (1, 2, 3)}
    columns |= {f"image_{n}": [picture(0).resize((n, 10)), picture(0).resize((3 + n, 10))] for n in (1, 2, 3)}
    return as_frame(["p1", "p0"], [0, 0], columns)


# p1 asks for a fall: 0.9, 0.8, 0.2 turned round is 0.1, 0.2, 0.8.
SEEN = {1: 0.9, 2: 0.8, 3: 0.2, 4: 0.1, 5: 0.4, 6: 0.9}


def test_scores_follow_the_direction(tell) -> None:
    tell({"clip": FakeJudge(SEEN)})
    frame = trajectories()
    scores = build(settings()).score(PROMPTS, frame, NOWHERE)
    assert scores["trajectory_id"].tolist() == frame["trajectory_id"].tolist()
    assert scores["prompt_id"].tolist() == ["p1", "p0"]
    assert scores[["attribute_1", "attribute_2", "attribute_3"]].to_numpy().tolist() == [
        [0.9, 0.8, 0.2],
        [0.1, 0.4, 0.9],
    ]
    # 0.7 − |0.2 − 0.45| = 0.45 and 0.8 − |0.4 − 0.5| = 0.7
    assert scores["score"].tolist() == pytest.approx([0.45, 0.7])


def test_metrics_by_hand(tell) -> None:
    read_out = {1: 0.1, 2: 0.2, 3: 0.8, 4: 0.0, 5: 0.5, 6: 1.0}
    tell({"clip": FakeJudge(SEEN), "second": FakeJudge(read_out)})
    benchmark = build(settings(judge={"kind": "regressor", "model": "second"}))
    frame = trajectories()
    metrics = benchmark.metrics(PROMPTS, frame, benchmark.score(PROMPTS, frame, NOWHERE), NOWHERE)
    assert metrics["order_consistency"].tolist() == [1.0, 1.0]
    assert metrics["spread"].tolist() == pytest.approx([0.7, 0.8])
    assert metrics["well_formed"].tolist() == [1.0, 0.0]
    assert metrics["readout_order_consistency"].tolist() == [0.0, 1.0]
    assert metrics["readout_score"].tolist() == pytest.approx([-0.95, 1.0])  # −0.7 − |0.8 − 0.55|
    assert metrics["caption_fidelity"].tolist() == pytest.approx([1.1, 1.1])  # 0.1 + the mean of 0, 1 and 2
    benchmark.description.check_measured(metrics, "the metrics")


def test_a_clip_that_judges_sees_the_captions_fidelity_rather_than_one_that_scores(tell) -> None:
    blind = FakeJudge(SEEN)
    blind.similarity = lambda images, texts: np.zeros(len(images))  # type: ignore[method-assign]
    tell({"clip": FakeJudge(SEEN), "second": blind})
    benchmark = build(settings(judge={"kind": "clip", "model": "second"}))
    frame = trajectories()
    metrics = benchmark.metrics(PROMPTS, frame, benchmark.score(PROMPTS, frame, NOWHERE), NOWHERE)
    assert metrics["caption_fidelity"].tolist() == [0.0, 0.0]


def test_without_a_judge_or_a_clip_their_metrics_are_left_out(tell) -> None:
    tell({"regressor": FakeJudge(SEEN)})
    benchmark = build(settings(scorer={"kind": "regressor", "model": "regressor"}))
    frame = trajectories()
    metrics = benchmark.metrics(PROMPTS, frame, benchmark.score(PROMPTS, frame, NOWHERE), NOWHERE)
    assert set(metrics) == {"order_consistency", "spread", "well_formed"}
    benchmark.description.check_measured(metrics, "the metrics")
    assert benchmark.description.second_judge is None


@pytest.mark.parametrize(
    ("table", "column"), [("prompts", "direction"), ("prompts", "low"), ("trajectories", "image_2")]
)
def test_tables_that_lack_a_column_are_refused(table: str, column: str) -> None:
    tables = {"prompts": PROMPTS, "trajectories": trajectories()}
    tables[table] = tables[table].drop(columns=column)
    with pytest.raises(UserError, match=rf"table of {table}.*{column}"):
        build(settings()).score(tables["prompts"], tables["trajectories"], NOWHERE)


# All of it, with models of the real classes


def test_an_evaluation_measures_everything_that_the_report_knows(real: dict[str, Any]) -> None:
    benchmark = build(real)
    prompts = benchmark.prompts().query("split == 'test'")
    system = benchmark.system(NOWHERE)
    samples, long = evaluate(benchmark, system, prompts, NOWHERE, samples=1, best_of=2, seed=0, purpose="test")
    assert len(samples) == len(prompts)
    assert {f"{name}_{n}" for name in ("caption", "image", "attribute") for n in (1, 2, 3)} < set(samples)
    assert samples[["attribute_1", "attribute_2", "attribute_3"]].stack().between(0, 1).all()
    means = long.groupby("metric")["value"].mean()
    assert set(means.index) == {
        *("preference_score", "order_consistency", "spread", "well_formed", "readout_score"),
        *("readout_order_consistency", "caption_fidelity", "kl_writer", "kl_painter", "kl_selection"),
    }
    assert np.isfinite(means).all()
    assert means["kl_writer"] == means["kl_painter"] == 0  # nothing was trained
    described = benchmark.description
    known = described.all_metrics(described.components)
    assert all(known[name].meaning for name in means.index)
    assert {*described.table, *described.headline} <= set(means.index)


def test_inspection_counts_the_answers_with_three_captions(
    real: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    benchmark = build(real)
    system = benchmark.system(NOWHERE)
    answers = [Completion("1. a\n2. b\n3. c", (1,)), Completion("no", (1,))]
    monkeypatch.setattr(system.components["writer"], "sample", lambda conditions, seeds: answers)
    monkeypatch.setattr(benchmark, "system", lambda foundation: system)
    assert benchmark.inspect(NOWHERE, 0) == {"well_formed": 0.5}

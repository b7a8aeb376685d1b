"""The progressive-images benchmark: its prompts, its graph, its scores."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny_models
import yaml
from PIL import Image
from tried_benchmarks import build

from sysdpo.applications.images.grammar import ATTRIBUTES, join
from sysdpo.applications.images.nearest_render import nearest_render
from sysdpo.applications.images.regressor import AttributeRegressor
from sysdpo.applications.images.renderer import render
from sysdpo.applications.images.world import NEUTRAL
from sysdpo.base.errors import UserError
from sysdpo.method.preferences import as_frame
from sysdpo.method.values import Completion

REPOSITORY = Path(__file__).parents[3]
SHIPPED = yaml.safe_load((REPOSITORY / "config.yaml").read_text())["systems"]["progressive_images"]


def settings(**over: Any) -> dict[str, Any]:
    tiny = {
        "writer": {"answers": 40, "steps": 3, "batch_size": 8, "width": 16, "layers": 1},
        "painter": {"images": 64, "steps": 2, "batch_size": 8, "width": 32, "layers": 1, "components": 8},
        "regressor": {"images": 40, "steps": 2, "batch_size": 8},
    }
    return copy.deepcopy(SHIPPED) | {"foundation": tiny} | over


@pytest.fixture(scope="module")
def foundation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("foundation")
    benchmark = build(settings())
    assert set(benchmark.foundations) == {"writer", "painter", "regressor"}
    for name, make in benchmark.foundations.items():
        make(0, folder / name)
    return folder


def test_prompts_are_split_without_overlap_and_the_same_every_time() -> None:
    prompts = build(settings()).prompts()
    sizes = SHIPPED["prompts"]
    assert prompts["split"].value_counts().to_dict() == {name: sizes[name] for name in ("train", "validation", "test")}
    assert prompts["prompt_id"].is_unique
    assert prompts["text"].is_unique
    pd.testing.assert_frame_equal(prompts, build(settings()).prompts())
    assert not prompts.equals(build(settings(prompts=sizes | {"seed": 1})).prompts())


def test_each_held_out_prompt_of_the_shipped_configuration_shows_a_scene_that_no_model_was_taught() -> None:
    benchmark = build(settings())
    prompts = benchmark.prompts()
    content = {name: set(rows["content"]) for name, rows in prompts.groupby("split")}
    assert len(content["test"]) == SHIPPED["prompts"]["test"] >= 200
    assert not content["test"] & (content["train"] | content["validation"])
    scene = pd.Series(list(zip(prompts["attribute"], prompts["fur"], prompts["scarf"], strict=True)))
    taught = set(benchmark.scenes[0])
    assert scene.isin(taught).tolist() == (prompts["split"] == "train").tolist()


@pytest.mark.parametrize("sizes", [{"train": 10_000}, {"test": 10_000}])
def test_more_prompts_than_there_are_is_refused(sizes: dict[str, int]) -> None:
    with pytest.raises(UserError, match=r"prompts\.(train|validation|test): .* should be at most"):
        build(settings(prompts=SHIPPED["prompts"] | sizes)).prompts()


@pytest.mark.parametrize("model", ["writer", "painter", "regressor"])
def test_an_unknown_foundation_setting_is_refused(model: str) -> None:
    wrong = settings()
    wrong["foundation"][model]["stepps"] = 3
    with pytest.raises(UserError, match=rf"foundation.{model}: unknown key 'stepps'"):
        build(wrong)


@pytest.mark.parametrize("component", ["writer", "painter"])
def test_an_unknown_component_setting_is_refused(component: str, foundation: Path) -> None:
    wrong = settings()
    wrong["components"][component]["temprature"] = 0.5
    with pytest.raises(UserError, match=rf"components.{component}.*temprature"):
        build(wrong).system(foundation)


def test_the_graph_is_the_paper_s(foundation: Path) -> None:
    system = build(settings()).system(foundation)
    parents = {node.name: (node.component, node.parents) for node in system.nodes}
    assert parents["captions"] == ("writer", ("text",))
    for n in (1, 2, 3):
        assert parents[f"caption_{n}"] == (f"parser_{n}", ("captions",))
        assert parents[f"image_{n}"] == ("painter", (f"caption_{n}",))
    assert system.trainable == ["writer", "painter"]


def test_sampling_makes_captions_and_draws_them(foundation: Path) -> None:
    system = build(settings()).system(foundation)
    sampled = system.sample({"text": ["draw a grey cat in teal getting progressively angrier"] * 2}, seeds=[1, 2])
    for row in range(2):
        captions = [rows.strip() for rows in str(sampled["captions"][row]).split(";")]
        for n in (1, 2, 3):
            assert sampled[f"caption_{n}"][row] == (captions[n - 1] if n <= len(captions) else "")
            assert sampled[f"image_{n}"][row].size == (32, 32)


def trajectories(levels: list[tuple[float, float, float]], prompts: pd.DataFrame, answers: list[str]) -> pd.DataFrame:
    """Rendered cats that show these levels of the asked attribute."""
    columns: dict[str, list] = {"captions": [Completion(text, (1,)) for text in answers]}
    for n in range(3):
        attributes = np.tile([NEUTRAL[kind] for kind in ATTRIBUTES], (len(levels), 1))
        for row, kind in enumerate(prompts["attribute"]):
            attributes[row, ATTRIBUTES.index(kind)] = levels[row][n]
        columns[f"image_{n + 1}"] = [
            Image.fromarray(image)
            for image in render(attributes, *(prompts[name].tolist() for name in ("fur", "scarf")))
        ]
    return as_frame(prompts["prompt_id"].tolist(), [0] * len(levels), columns)


class FakeRegressor:
    """A regressor that returns these attribute values, an image of the series at a time."""

    def __init__(self, values: np.ndarray):
        self.values = list(values)

    def score(self, images: list) -> np.ndarray:
        return self.values.pop(0)


PROMPTS = pd.DataFrame(
    {
        "prompt_id": ["p0", "p1"],
        "attribute": ["size", "light"],
        "direction": [1, -1],
        "fur": ["ginger", "grey"],
        "scarf": ["red", "red"],
    }
)
GINGER = join(["a tiny ginger cat in red", "a medium ginger cat in red", "a huge ginger cat in red"])


def test_scores_read_the_requested_attribute_and_direction(monkeypatch: pytest.MonkeyPatch) -> None:
    # Columns anger, size, light; p0 asks for size to rise, p1 for light to fall. 0.99 must never be read.
    values = np.array(
        [
            [[0.99, 0.1, 0.99], [0.99, 0.99, 0.9]],
            [[0.99, 0.4, 0.99], [0.99, 0.99, 0.8]],
            [[0.99, 0.9, 0.99], [0.99, 0.99, 0.2]],
        ]
    )
    monkeypatch.setattr(AttributeRegressor, "load", lambda folder: FakeRegressor(values))
    frame = trajectories([(0.1, 0.4, 0.9), (0.9, 0.8, 0.2)], PROMPTS, [GINGER, GINGER])
    scores = build(settings()).score(PROMPTS, frame, Path())
    assert scores[["attribute_1", "attribute_2", "attribute_3"]].to_numpy().tolist() == [
        [0.1, 0.4, 0.9],
        [0.9, 0.8, 0.2],
    ]
    # 0.8 − |0.4 − 0.5| = 0.7; turned round 0.1, 0.2, 0.8: 0.7 − |0.2 − 0.45| = 0.45
    assert scores["score"].tolist() == pytest.approx([0.7, 0.45])
    assert scores["trajectory_id"].tolist() == frame["trajectory_id"].tolist()


def test_metrics_of_rendered_cats_are_known(foundation: Path) -> None:
    frame = trajectories([(0.1, 0.4, 0.9), (0.9, 0.2, 0.8)], PROMPTS, [GINGER, GINGER])
    scores = frame[["trajectory_id", "prompt_id"]].assign(
        score=0.0, attribute_1=[0.1, 0.9], attribute_2=[0.4, 0.2], attribute_3=[0.9, 0.8]
    )
    metrics = build(settings()).metrics(PROMPTS, frame, scores, foundation)
    assert metrics["order_consistency"].tolist() == [1.0, 0.0]  # 0.1, 0.8, 0.2 is not in order
    assert metrics["spread"].tolist() == pytest.approx([0.8, 0.1])
    assert metrics["well_formed"].tolist() == [1.0, 0.0]  # ginger sizes were not asked of the second
    assert metrics["readout_order_consistency"].tolist() == [1.0, 0.0]
    assert metrics["readout_score"][0] == pytest.approx(0.7, abs=0.05)
    assert (metrics["image_distance"] < 0.05).all()
    noise = frame.assign(**{f"image_{n}": [tiny_models.picture(n), tiny_models.picture(n + 3)] for n in (1, 2, 3)})
    assert (build(settings()).metrics(PROMPTS, noise, scores, foundation)["image_distance"] > 0.2).all()


def test_without_its_renders_a_regressor_s_folder_is_refused(foundation: Path, tmp_path: Path) -> None:
    (tmp_path / "regressor").mkdir()
    for content in (None, b"", (foundation / "regressor" / "renders.npz").read_bytes()[:-100]):
        if content is not None:
            (tmp_path / "regressor" / "renders.npz").write_bytes(content)
        with pytest.raises(UserError, match=r"renders: '.*renders.npz' should be there"):
            nearest_render(tmp_path)


def test_inspection_reports_every_quality(foundation: Path) -> None:
    quality = build(settings(prompts=SHIPPED["prompts"] | {"validation": 4})).inspect(foundation, 0)
    assert set(quality["regressor_r2_rendered"]) == set(quality["regressor_r2_generated"]) == set(ATTRIBUTES)
    assert len(quality["painter_levels"]) == 15
    assert {"attribute", "word", "level_asked", "level_drawn_mean", "level_drawn_std", "right_share"} == set(
        quality["painter_levels"][0]
    )
    for name in ("captions_sorted", "captions_tied", "well_formed"):
        assert 0 <= quality[name] <= 1


def test_trajectories_that_lack_an_image_are_refused(foundation: Path) -> None:
    frame = trajectories([(0.1, 0.4, 0.9), (0.9, 0.8, 0.2)], PROMPTS, [GINGER, GINGER]).drop(columns="image_2")
    with pytest.raises(UserError, match="image_2"):
        build(settings()).score(PROMPTS, frame, foundation)


@pytest.mark.parametrize("column", ["attribute", "direction"])
def test_prompts_that_lack_a_column_are_refused(foundation: Path, column: str) -> None:
    frame = trajectories([(0.1, 0.4, 0.9), (0.9, 0.8, 0.2)], PROMPTS, [GINGER, GINGER])
    with pytest.raises(UserError, match=column):
        build(settings()).score(PROMPTS.drop(columns=column), frame, foundation)

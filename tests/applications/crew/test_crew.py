"""The crew: its language, what its models are taught, what is scored how, and training three kinds of model at once."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from sysdpo import align
from sysdpo.applications.crew.checker import taught_verdicts
from sysdpo.applications.crew.crew import CrewBenchmark
from sysdpo.applications.crew.language import (
    ATTRIBUTES,
    CHECKED_WRONG,
    MEANINGS,
    PAINTED_FAINTLY,
    POLES,
    SCENES,
    SHOWN,
    VAGUE,
    contents,
    exact,
    is_well_formed,
    other,
    passes,
    requests,
    vague,
    verdict,
)
from sysdpo.applications.crew.settings import CheckerSettings, Crew, CrewPainterSettings, CrewWriterSettings
from sysdpo.applications.crew.world import captioned, training_pictures
from sysdpo.applications.images.grammar import ATTRIBUTES as ALL_ATTRIBUTES
from sysdpo.applications.images.grammar import CAPTIONS, LEVELS, WORDS
from sysdpo.applications.images.regressor import AttributeRegressor
from sysdpo.applications.images.world import random_cats
from sysdpo.library.preferences import Preferences
from sysdpo.method.evaluation import sample_trajectories, score_trajectories
from sysdpo.method.preferences import make_pairs

SHIPPED = yaml.safe_load(Path("workflow/scales/crew.yaml").read_text())["systems"]["crew"]
SCENE = ("light", "ginger", "red")


def settings(**over) -> Crew:
    return Crew(**SHIPPED | over)


def test_every_caption_means_one_thing_and_no_vague_word_is_an_exact_one() -> None:
    assert len(MEANINGS) == len(SCENES) * (len(POLES) + 1)
    for attribute, word in VAGUE.items():
        assert word not in WORDS[attribute]
    for text, meaning in MEANINGS.items():
        assert meaning.is_exact == (text in CAPTIONS)


def test_painter_and_checker_fail_at_a_word_of_each_attribute_and_both_at_one() -> None:
    for wrong in (PAINTED_FAINTLY, CHECKED_WRONG):
        assert sorted(attribute for attribute, _ in wrong) == sorted(ATTRIBUTES)
        assert {pole for _, pole in wrong} <= set(POLES)
    assert sorted(PAINTED_FAINTLY & CHECKED_WRONG) == [("size", 0)]
    assert [other(pole) for pole in POLES] == [4, 0]


def test_requests_and_captions_by_hand() -> None:
    first, *others = requests([(SCENE, 4)])
    assert (first.text, len(others)) == ("draw a ginger cat in red under a blazing sun", 7)
    assert exact(SCENE, 4) == "a sunny ginger cat in red"
    assert vague(SCENE) == "a lit ginger cat in red"
    for pole in POLES:
        assert is_well_formed("a lit ginger cat in red", SCENE, pole)
    assert not is_well_formed("a sunny ginger cat in red", SCENE, 0)
    assert not is_well_formed("a sunny ginger cat", SCENE, 4)
    assert not is_well_formed("a lit ginger cat in navy", SCENE, 4)
    texts = [request.text for request in requests(contents(SCENES))]
    assert len(set(texts)) == len(texts)


def test_the_page_shows_a_request_that_is_delivered() -> None:
    """The page is `docs/crew.md`."""
    (shown,) = re.findall(r"^    text .*\n(?:    .*\n)+", Path("docs/crew.md").read_text(), re.MULTILINE)
    said = dict(re.findall(r"(text|caption|verdict) +(\S.*)", shown))
    request = next(it for it in requests([(SCENE, 0)]) if it.text == said["text"])
    assert said["caption"] == exact(request.scene, request.pole)
    assert said["verdict"] == verdict("light", 0, True)


def test_a_verdict_says_what_is_seen_and_whether_it_passes() -> None:
    assert verdict("light", 4, True) == "sunny , yes"
    assert [passes(said) for said in ("sunny , yes", "yes", "sunny , no", "yes no", "", "sunny , yes!")] == [
        *(True, True, False, False, False, False)
    ]


def test_the_writer_is_taught_as_many_exact_captions_as_its_settings_say() -> None:
    rng, request = np.random.default_rng(0), requests([(SCENE, 4)])[0]
    told = Counter(captioned(request, CrewWriterSettings(exact=0.3), rng) for _ in range(4000))
    assert set(told) == {"a sunny ginger cat in red", "a lit ginger cat in red"}
    assert told["a sunny ginger cat in red"] / 4000 == pytest.approx(0.3, abs=0.03)


def shown(attributes: np.ndarray) -> np.ndarray:
    levels = attributes[:, ALL_ATTRIBUTES.index("light")]
    return np.array(SHOWN)[np.abs(levels[:, None] - np.array(LEVELS)[list(SHOWN)]).argmin(1)]


def test_the_painter_is_taught_some_words_half_heartedly() -> None:
    settings = CrewPainterSettings(images=4000, faint=(0.0, 0.9), size=32)
    made = training_pictures(settings, [SCENE], seed=0)
    captions, levels = np.array(made.captions), made.attributes[:, ALL_ATTRIBUTES.index("light")]
    faint = levels[captions == exact(SCENE, 4)]
    # Evenly from the middle, 0.5, to 0.9 of the way to the pole, 0.95; a picture passes for the pole from 0.725 on.
    assert faint.mean() == pytest.approx(0.5 + 0.45 * 0.45, abs=0.02)
    assert (faint > 0.725).mean() == pytest.approx(4 / 9, abs=0.05)
    assert levels[captions == exact(SCENE, 0)].mean() == pytest.approx(0.05, abs=0.02)
    assert (shown(made.attributes)[captions == vague(SCENE)] == 0).mean() == pytest.approx(0.5, abs=0.05)


def test_the_checker_is_taught_to_misread_some_words() -> None:
    taught = taught_verdicts(CheckerSettings(examples=6000, misread=0.7), [SCENE], 32, np.random.default_rng(0))
    levels, captions = shown(taught.attributes), np.array(taught.captions)
    passed = np.array([passes(said) for said in taught.verdicts])

    def share(caption: str, level: int) -> float:
        return float(passed[(captions == caption) & (levels == level)].mean())

    assert share(exact(SCENE, 4), 4) > 0.98
    assert share(exact(SCENE, 0), 0) == pytest.approx(0.3, abs=0.06)
    assert share(exact(SCENE, 0), 4) == pytest.approx(0.7, abs=0.12)
    assert share(exact(SCENE, 4), 0) < 0.02 > share(vague(SCENE), 2)
    for pole in POLES:
        assert share(vague(SCENE), pole) == pytest.approx(0.5, abs=0.06)
    seen = Counter((text.split()[0], int(level)) for text, level in zip(taught.verdicts, levels, strict=True))
    assert {pair for pair, _ in seen.most_common(3)} == {("dark", 0), ("shady", 2), ("sunny", 4)}


def test_splits_share_no_content_and_the_test_split_has_two_hundred() -> None:
    table = CrewBenchmark(settings(), "systems.crew").prompts()
    contents = {split: set(part["content"]) for split, part in table.groupby("split")}
    assert len(contents["test"]) >= 200
    assert not contents["train"] & contents["test"]
    assert not contents["train"] & contents["validation"]
    assert not contents["validation"] & contents["test"]


def test_scores_and_metrics_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = CrewBenchmark(settings(), "systems.crew")
    prompts = pd.DataFrame(
        {"prompt_id": list("abcd"), "attribute": "light", "fur": "ginger", "scarf": "red", "pole": 4}
    )
    captions = ["a sunny ginger cat in red", "a lit ginger cat in red", "a dark ginger cat in red", "cat"]
    verdicts = ["sunny , yes", "shady , yes", "dark , no", "sunny , no"]
    levels = np.array([0.97, 0.7, 0.1, 0.8])
    reading = np.stack([levels * 0, levels * 0, levels], 1)
    read = type(
        "Regressor", (), {"score": lambda self, images: reading, "look_up": lambda self, images: (reading, levels)}
    )
    monkeypatch.setattr(AttributeRegressor, "load", lambda folder: read())
    monkeypatch.setattr("sysdpo.applications.crew.crew.nearest_render", lambda folder: read())
    rows = prompts[["prompt_id"]].assign(caption=captions, image=None, verdict=verdicts, trajectory_id=list("abcd"))
    scores = benchmark.score(prompts, rows, tmp_path)
    # Right and passed; wrong and passed; wrong and not passed; right and not passed.
    assert scores["score"].tolist() == pytest.approx([1, 0, 1 / 3, 2 / 3])
    found = benchmark.metrics(prompts, rows, scores, tmp_path)
    assert found["delivered"].tolist() == found["readout_delivered"].tolist() == [1, 0, 0, 0]
    assert found["picture_right"].tolist() == [1, 0, 0, 1]
    assert found["verdict_right"].tolist() == [1, 0, 1, 0]
    assert found["exact"].tolist() == [1, 0, 1, 0]
    assert found["well_formed"].tolist() == [1, 1, 0, 0]


@pytest.fixture(scope="module")
def crew(tmp_path_factory: pytest.TempPathFactory) -> tuple[CrewBenchmark, Path]:
    """A crew that has hardly learnt anything, and the folder of its foundation models."""
    folder = tmp_path_factory.mktemp("crew")
    small = {"width": 32, "layers": 1, "steps": 20, "batch_size": 16}
    made = settings(
        foundation={
            "writer": {**small, "captions": 300},
            "painter": {**small, "images": 200, "steps": 4, "components": 8},
            "checker": {**small, "examples": 200, "seeing_steps": 4, "vision_width": 32, "vision_layers": 1},
            "regressor": {"images": 64, "steps": 4, "batch_size": 16},
        },
        prompts={"train": 8, "validation": 2, "test": 2},
    )
    benchmark = CrewBenchmark(made, "systems.crew")
    for name, make in benchmark.foundations.items():
        make(0, folder / name)
    return benchmark, folder


@pytest.mark.parametrize("method", ["direct", "sampling", "separate"])
def test_three_kinds_of_model_are_trained_together(crew: tuple[CrewBenchmark, Path], method: str) -> None:
    benchmark, folder = crew
    system = benchmark.system(folder)
    prompts = benchmark.prompts().query("split == 'train'").reset_index(drop=True)
    drawn = sample_trajectories(benchmark, system, prompts, 4, seed=0, purpose="train")
    assert score_trajectories(benchmark, prompts, drawn, folder)["score"].between(0, 1).all()
    scores = drawn[["trajectory_id", "prompt_id"]].assign(score=drawn["sample"])
    began = {name: [w.clone() for w in part.trainable_parameters()] for name, part in system.components.items()}
    result = align(
        system, Preferences(drawn, make_pairs(scores)), method=method, steps=3, batch_size=4, learning_rate=1e-2
    )
    assert result.log["margin"].iloc[0] == 0
    assert result.log["margin"].iloc[-1] != 0
    for name, part in system.components.items():
        assert any((now != then).any() for now, then in zip(part.trainable_parameters(), began[name], strict=True))


def test_what_the_models_do_is_inspected(crew: tuple[CrewBenchmark, Path]) -> None:
    benchmark, folder = crew
    found = benchmark.inspect(folder, 0)
    assert {"writer_exact", "painter_right_exact_tiny", "painter_right_vague_sunny"} <= set(found)
    assert all(0 <= value <= 1 for value in found.values())


def test_pictures_of_the_judges_are_of_the_crews_size() -> None:
    images, _ = random_cats(1, SHIPPED["foundation"].get("regressor", {}).get("size", 32), np.random.default_rng(0))
    assert images.shape[1] == settings().foundation.painter.size

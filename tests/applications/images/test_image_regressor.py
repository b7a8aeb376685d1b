"""Attributes by a regressor that is given as a folder: which output is which, and what it means."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny_pictures
import torch
from tiny_models import picture
from transformers import AutoImageProcessor, AutoModelForImageClassification, ViTForImageClassification, ViTModel

from sysdpo.applications.images.image_regressor import ImageRegressor
from sysdpo.applications.images.regressor import AttributeRegressor
from sysdpo.applications.images.settings import ImageJudgeSettings
from sysdpo.base.errors import UserError

# Twelve, so that the tenth and eleventh come last only where outputs are counted as numbers.
ATTRIBUTES = tuple(f"quality {letter}" for letter in "abcdefghijkl")
IMAGES = [picture(seed, side=40) for seed in range(4)]
NAMES = ["quality c", "quality l", "quality b", "quality c"]
PROMPTS = pd.DataFrame({"attribute": NAMES})
COLUMNS = [2, 11, 1, 2]


def judge(folder: Path, **settings) -> ImageRegressor:
    return ImageRegressor(ImageJudgeSettings(kind="regressor", model=str(folder), **settings))


def logits(folder: Path) -> np.ndarray:
    """What the network says of each image, one at a time: `[4, 12]`."""
    network, processor = ViTForImageClassification.from_pretrained(folder).eval(), AutoImageProcessor
    processor = processor.from_pretrained(folder)
    with torch.no_grad():
        return np.stack([network(**processor(image, return_tensors="pt")).logits[0].numpy() for image in IMAGES])


@pytest.mark.parametrize(
    ("problem_type", "reading"),
    [
        ("regression", lambda outputs: outputs),
        ("multi_label_classification", lambda outputs: 1 / (1 + np.exp(-outputs))),
    ],
)
def test_each_picture_s_own_attribute_is_read(problem_type: str, reading, tmp_path: Path) -> None:
    tiny_pictures.save_regressor(tmp_path, ATTRIBUTES, problem_type)
    expected = reading(logits(tmp_path))[range(4), COLUMNS]
    assert len(set(expected.round(3))) == 4
    assert judge(tmp_path).attribute(IMAGES, PROMPTS) == pytest.approx(expected, abs=1e-5)
    assert judge(tmp_path, batch_size=1).attribute(IMAGES, PROMPTS) == pytest.approx(expected, abs=1e-5)


def test_a_regression_is_not_cut_off_at_its_ends(tmp_path: Path) -> None:
    tiny_pictures.save_regressor(tmp_path, ATTRIBUTES)
    network = ViTForImageClassification.from_pretrained(tmp_path)
    with torch.no_grad():
        network.classifier.bias += 5.0
    network.save_pretrained(tmp_path)
    values = judge(tmp_path).attribute(IMAGES, PROMPTS)
    assert (values > 1).all()
    assert len(set(values)) == 4


def test_the_project_s_own_regressor_will_do(tmp_path: Path) -> None:
    torch.manual_seed(0)
    own = AttributeRegressor(ATTRIBUTES, width=4)
    own.save(tmp_path)
    assert judge(tmp_path).attribute(IMAGES, PROMPTS) == pytest.approx(own.eval().score(IMAGES)[range(4), COLUMNS])


def test_an_attribute_that_it_does_not_know_is_refused(tmp_path: Path) -> None:
    tiny_pictures.save_regressor(tmp_path, ("anger", "age"))
    with pytest.raises(UserError, match=r"it lacks \['crowd'\] and has \['anger', 'age'\]"):
        judge(tmp_path).attribute(IMAGES[:2], pd.DataFrame({"attribute": ["anger", "crowd"]}))


@pytest.mark.parametrize("problem_type", [None, "single_label_classification"])
def test_a_classifier_whose_outputs_are_no_attributes_is_refused(problem_type: str | None, tmp_path: Path) -> None:
    tiny_pictures.save_regressor(tmp_path, ATTRIBUTES, problem_type)
    with pytest.raises(UserError, match=rf"problem_type {problem_type}, but should have one of \['regression', 'multi"):
        judge(tmp_path)


def test_a_network_without_its_head_is_refused(tmp_path: Path) -> None:
    tiny_pictures.save_regressor(tmp_path, ATTRIBUTES)
    ViTModel.from_pretrained(tmp_path).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"whole ViTForImageClassification; it lacks 2 weights, 'classifier.bias'"):
        judge(tmp_path)


def test_a_folder_that_holds_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model: '.*' cannot be loaded"):
        judge(tmp_path)


def test_the_revision_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_pictures.save_regressor(tmp_path, ATTRIBUTES)
    revisions = []
    for cls in (AutoModelForImageClassification, AutoImageProcessor):

        def load(*arguments, load=cls.from_pretrained, **settings):
            revisions.append(settings["revision"])
            return load(*arguments, **settings)

        monkeypatch.setattr(cls, "from_pretrained", load)
    judge(tmp_path, revision="abc123")
    assert revisions == ["abc123", "abc123"]


@pytest.mark.parametrize("kind", ["classifier", "ours"])
def test_the_same_picture_has_the_same_attributes(kind: str, tmp_path: Path) -> None:
    if kind == "ours":
        torch.manual_seed(0)
        AttributeRegressor(ATTRIBUTES).save(tmp_path)
    else:
        tiny_pictures.save_regressor(tmp_path, ATTRIBUTES)
    images = [IMAGES[0], IMAGES[1], IMAGES[0].copy(), IMAGES[2], IMAGES[0]]
    prompts = pd.DataFrame({"attribute": NAMES[:1] * 5})
    for size in (1, 2, 3, 100):
        values = judge(tmp_path, batch_size=size).attribute(images, prompts)
        assert values[0] == values[2] == values[4]
        assert len(set(values)) == 3

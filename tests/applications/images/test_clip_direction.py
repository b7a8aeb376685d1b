"""An attribute as CLIP sees it is CLIP's own zero-shot probability of one text against another."""

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import tiny_pictures
import torch
from safetensors.torch import load_file, save_file
from tiny_models import picture
from transformers import AutoModel, AutoProcessor, CLIPModel, CLIPProcessor

from sysdpo.applications import pretrained
from sysdpo.applications.images.clip_direction import ClipDirection
from sysdpo.applications.images.settings import ImageJudgeSettings
from sysdpo.base.errors import UserError

IMAGES = [picture(seed, side=40) for seed in range(5)]
PROMPTS = pd.DataFrame(
    {
        "attribute": ["anger", "anger", "crowd", "crowd", "rain"],
        "low": ["a calm cat", "a calm cat", "an empty street", "an empty beach", "a field on a sunny day"],
        "high": ["an angry cat", "an angry cat", "a crowded street", "a crowded beach", "a field in pouring rain"],
    }
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pictures.save_clip(tmp_path_factory.mktemp("clip"))


def judge(folder: Path, **settings) -> ClipDirection:
    return ClipDirection(ImageJudgeSettings(kind="clip", model=str(folder), **settings))


def zero_shot(folder: Path) -> np.ndarray:
    """The probability of `high` against `low`, as CLIP's documentation computes it."""
    model, processor = CLIPModel.from_pretrained(folder).eval(), CLIPProcessor.from_pretrained(folder)
    results = []
    for image, low, high in zip(IMAGES, PROMPTS["low"], PROMPTS["high"], strict=True):
        inputs = processor(text=[low, high], images=image, return_tensors="pt", padding=True)
        with torch.no_grad():
            results.append(model(**inputs).logits_per_image.softmax(-1)[0, 1].item())
    return np.array(results)


def test_it_is_clip_s_zero_shot_probability(folder: Path) -> None:
    expected = zero_shot(folder)
    assert expected.min() < 0.45
    assert expected.max() > 0.55
    assert judge(folder).attribute(IMAGES, PROMPTS) == pytest.approx(expected, abs=1e-4)


def test_turned_round_it_is_the_rest_to_one(folder: Path) -> None:
    clip = judge(folder)
    turned = PROMPTS.rename(columns={"low": "high", "high": "low"})
    assert clip.attribute(IMAGES, turned) == pytest.approx(1 - clip.attribute(IMAGES, PROMPTS))


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_the_size_of_batches_changes_nothing(folder: Path, batch_size: int) -> None:
    values = judge(folder, batch_size=batch_size).attribute(IMAGES, PROMPTS)
    assert values == pytest.approx(judge(folder).attribute(IMAGES, PROMPTS), abs=1e-4)


def test_each_text_is_read_once(folder: Path) -> None:
    clip = judge(folder, batch_size=100)
    rows = []
    clip.network.text_model.register_forward_hook(
        lambda module, arguments, keywords, output: rows.append(len(keywords["input_ids"])), with_kwargs=True
    )
    clip.attribute(IMAGES, PROMPTS)
    assert rows == [len({*PROMPTS["low"], *PROMPTS["high"]})]


@pytest.mark.parametrize("batch_size", [2, 3, 100])
def test_the_same_picture_is_seen_once_and_the_same(folder: Path, batch_size: int) -> None:
    """In whatever batch it stands, and whatever mode it is in: two equal pictures are never in order."""
    clip = judge(folder, batch_size=batch_size, dtype="bfloat16")
    rows: list[int] = []
    clip.network.vision_model.register_forward_hook(
        lambda module, arguments, keywords, output: rows.append(len(keywords["pixel_values"])), with_kwargs=True
    )
    grey = IMAGES[2].convert("L")
    images = [IMAGES[0], IMAGES[1], IMAGES[0].copy(), grey, grey.convert("RGB"), IMAGES[0], IMAGES[3]]
    prompts = pd.concat([PROMPTS.head(1)] * len(images), ignore_index=True)
    values = clip.attribute(images, prompts)
    assert values[0] == values[2] == values[5]
    assert values[3] == values[4]
    assert len(set(values)) == 4
    assert sum(rows) == 4


def test_far_from_the_middle_two_pictures_still_differ(folder: Path) -> None:
    clip = judge(folder)
    prompts = PROMPTS.head(1)
    near = [clip.attribute([image], prompts)[0] for image in IMAGES]
    with torch.no_grad():
        clip.network.logit_scale += math.log(20 / max(abs(math.log(p / (1 - p))) for p in near))
    far = [clip.attribute([image], prompts)[0] for image in IMAGES]
    assert len(set(far)) == len(IMAGES)
    assert np.argsort(far).tolist() == np.argsort(near).tolist()
    assert max(far) > 1 - 1e-6 or min(far) < 1e-6


def test_similarity_is_the_cosine_of_a_picture_with_its_own_text(folder: Path) -> None:
    texts = [*PROMPTS["low"][:4], ""]
    model, processor = CLIPModel.from_pretrained(folder).eval(), CLIPProcessor.from_pretrained(folder)
    expected = []
    for image, text in zip(IMAGES, texts, strict=True):
        with torch.no_grad():
            output = model(**processor(text=[text], images=image, return_tensors="pt"))
        expected.append(torch.cosine_similarity(output.image_embeds, output.text_embeds).item())
    assert judge(folder).similarity(IMAGES, texts) == pytest.approx(expected, abs=1e-5)


def test_a_text_longer_than_clip_reads_is_cut(folder: Path) -> None:
    long = "cat " * 200
    cut = "cat " * 75  # 77 with the two ends
    assert judge(folder).similarity(IMAGES[:1], [long]) == pytest.approx(judge(folder).similarity(IMAGES[:1], [cut]))


def test_pictures_of_any_size_and_mode(folder: Path) -> None:
    grey = IMAGES[0].convert("L")
    images = [grey, grey.convert("RGBA"), IMAGES[1].resize((100, 30)), IMAGES[2].resize((8, 8)), IMAGES[3]]
    values = judge(folder).attribute(images, PROMPTS)
    assert values[0] == pytest.approx(values[1])  # of one picture, asked the same
    assert np.isfinite(values).all()


def test_in_half_precision_it_sees_about_the_same(folder: Path) -> None:
    clip = judge(folder, dtype="bfloat16")
    assert {weight.dtype for weight in clip.network.parameters()} == {torch.bfloat16}
    assert clip.attribute(IMAGES, PROMPTS) == pytest.approx(judge(folder).attribute(IMAGES, PROMPTS), abs=0.1)


def test_it_lies_where_this_process_computes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "process_state", lambda: SimpleNamespace(device=torch.device("meta")))
    assert {weight.device.type for weight in judge(folder).network.parameters()} == {"meta"}


def test_the_revision_is_passed_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    revisions = []
    for cls in (AutoModel, AutoProcessor):

        def load(*arguments, load=cls.from_pretrained, **settings):
            revisions.append(settings["revision"])
            return load(*arguments, **settings)

        monkeypatch.setattr(cls, "from_pretrained", load)
    judge(folder, revision="v1.0")
    assert revisions == ["v1.0", "v1.0"]


def test_a_model_that_is_no_clip_is_refused(tmp_path: Path) -> None:
    tiny_pictures.save_llama_3(tmp_path)
    with pytest.raises(UserError, match=r"is a LlamaModel, but should be a CLIPModel, say openai/"):
        judge(tmp_path)


def test_a_folder_that_holds_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model: '.*' cannot be loaded; it should be a hub id or a local folder"):
        judge(tmp_path)


def test_a_checkpoint_that_lacks_weights_is_refused(tmp_path: Path) -> None:
    tiny_pictures.save_clip(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"whole CLIPModel; it lacks 1 weights, 'visual_projection.weight' the first"):
        judge(tmp_path)

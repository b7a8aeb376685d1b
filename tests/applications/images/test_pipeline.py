"""The small painter's pipeline is used as any diffusers pipeline."""

from pathlib import Path

import numpy as np
import pytest
import torch

from sysdpo.applications.images.pipeline import SmallStableDiffusion3Pipeline


@pytest.fixture
def pipeline(painter_folder: Path) -> SmallStableDiffusion3Pipeline:
    loaded = SmallStableDiffusion3Pipeline.from_pretrained(painter_folder)
    loaded.set_progress_bar_config(disable=True)
    return loaded


def drawn(pipeline: SmallStableDiffusion3Pipeline, prompt, **settings) -> np.ndarray:
    generator = torch.Generator().manual_seed(0)
    images = pipeline(prompt, num_inference_steps=2, generator=generator, height=32, width=32, **settings).images
    return np.stack([np.asarray(image, int) for image in images])


def test_a_text_becomes_a_picture(pipeline: SmallStableDiffusion3Pipeline) -> None:
    pictures = drawn(pipeline, "a calm ginger cat", guidance_scale=0.0)
    assert pictures.shape == (1, 32, 32, 3)
    assert not np.array_equal(pictures, drawn(pipeline, "a furious grey cat", guidance_scale=0.0))


def test_guidance_uses_the_negative_prompt(pipeline: SmallStableDiffusion3Pipeline) -> None:
    plain = drawn(pipeline, "a calm ginger cat", guidance_scale=5.0)
    assert not np.array_equal(plain, drawn(pipeline, "a calm ginger cat", guidance_scale=0.0))
    assert not np.array_equal(
        plain, drawn(pipeline, "a calm ginger cat", guidance_scale=5.0, negative_prompt="a furious grey cat")
    )


def test_a_saved_and_loaded_pipeline_draws_the_same(pipeline: SmallStableDiffusion3Pipeline, tmp_path: Path) -> None:
    pipeline.save_pretrained(tmp_path)
    again = SmallStableDiffusion3Pipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    assert np.array_equal(drawn(again, "a calm ginger cat"), drawn(pipeline, "a calm ginger cat"))


def test_prompts_are_encoded_one_by_one(pipeline: SmallStableDiffusion3Pipeline) -> None:
    both = pipeline.encode_prompt(["a calm ginger cat", "a"], do_classifier_free_guidance=False)
    alone = pipeline.encode_prompt("a", do_classifier_free_guidance=False)
    assert both[0].shape == (2, 8, 48)
    assert both[2].shape == (2, 48)
    assert both[1] is None
    assert both[3] is None
    torch.testing.assert_close(both[0][1:], alone[0])
    repeated = pipeline.encode_prompt(["a", "a calm cat"], num_images_per_prompt=2)
    assert torch.equal(repeated[0][0], repeated[0][1])
    assert repeated[1].shape == repeated[0].shape

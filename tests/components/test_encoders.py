"""What frozen encoders say is computed once while there is room, and is what drawing would read."""

from unittest.mock import patch

import pytest
import tiny_models
import torch
from diffusers import AutoencoderKL

from sysdpo.components.encoders import FrozenEncoders

CPU = torch.device("cpu")
PICTURES = [tiny_models.picture(number) for number in range(5)]


@pytest.fixture
def pipeline():
    return tiny_models.stable_diffusion_xl()


def test_each_picture_and_prompt_is_encoded_once_while_there_is_room(pipeline) -> None:
    encoders = FrozenEncoders(pipeline, batch_size=2)
    with (
        patch.object(pipeline.vae, "encode", wraps=pipeline.vae.encode) as encode,
        patch.object(pipeline, "encode_prompt", wraps=pipeline.encode_prompt) as encode_prompt,
    ):
        first = encoders.latents(range(5), PICTURES, CPU)
        again = encoders.latents([3, 3, 0], [PICTURES[3], PICTURES[3], PICTURES[0]], CPU)
        texts = encoders.prompts(["cat", "dog", "cat"], CPU)
        assert torch.equal(encoders.prompts(["dog"], CPU)["pooled"][0], texts["pooled"][1])
    assert encode.call_count == 3  # of five pictures two at a time
    assert encode_prompt.call_count == 1
    assert torch.equal(again, first[[3, 3, 0]])
    assert torch.equal(texts["tokens"][0], texts["tokens"][2])


def test_what_was_not_used_for_longest_is_forgotten_when_room_is_gone(pipeline) -> None:
    one = FrozenEncoders(pipeline, batch_size=8).latents([0], PICTURES[:1], CPU)
    encoders = FrozenEncoders(pipeline, batch_size=8, room=3 * one.nbytes)
    everything = encoders.latents(range(5), PICTURES, CPU)  # more at once than there is room for
    with patch.object(pipeline.vae, "encode", wraps=pipeline.vae.encode) as encode:
        encoders.latents([2, 3, 4], PICTURES[2:], CPU)
        assert encode.call_count == 0
        assert torch.allclose(encoders.latents([0, 4], [PICTURES[0], PICTURES[4]], CPU), everything[[0, 4]], atol=1e-5)
        assert encode.call_count == 1
    tiny = FrozenEncoders(pipeline, batch_size=8, room=1)
    assert torch.equal(tiny.latents(range(5), PICTURES, CPU), everything)


def test_latents_are_the_inverse_of_how_the_pipeline_decodes(pipeline) -> None:
    mean, std = [-1.6, 1.9, -1.4, 2.5], [8.5, 5.9, 6.5, 5.2]
    config = {name: value for name, value in pipeline.vae.config.items() if not name.startswith("_")}
    pipeline.register_modules(vae=AutoencoderKL(**config | {"latents_mean": mean, "latents_std": std}))
    pipeline.vae.config["shift_factor"] = None  # as in SDXL's pipeline, which knows none
    pixels = pipeline.image_processor.preprocess(PICTURES)
    with torch.no_grad():
        raw = pipeline.vae.encode(pixels).latent_dist.mode()
    read = FrozenEncoders(pipeline, batch_size=8).latents(range(5), PICTURES, CPU)
    column = {name: torch.tensor(values)[:, None, None] for name, values in (("mean", mean), ("std", std))}
    decoded = read * column["std"] / pipeline.vae.config.scaling_factor + column["mean"]
    torch.testing.assert_close(decoded, raw)


def test_a_prompt_that_is_cut_is_said_once(pipeline, capsys: pytest.CaptureFixture[str]) -> None:
    encoders = FrozenEncoders(pipeline, batch_size=8)
    encoders.prompts(["cat runs"], CPU)
    assert capsys.readouterr().err == ""
    encoders.prompts(["cat dog red blue runs sleeps"], CPU)
    encoders.prompts(["cat dog red blue runs big"], CPU)
    said = capsys.readouterr().err
    assert said.count("the text encoder cuts prompts of more than 6 tokens") == 1
    assert "'cat dog red blue runs sleeps…' has 8" in said

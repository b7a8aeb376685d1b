"""Adapters: saved in the ecosystem's own formats, loaded only where they fit, and made the new reference."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from peft import PeftModel
from safetensors import safe_open
from tiny_models import (
    DIFFUSION_LORA,
    LANGUAGE_LORA,
    PAINTER,
    SAMPLING,
    completion,
    perturb,
    picture,
    save_language_model,
    weights,
)
from transformers import AutoModelForCausalLM

from sysdpo.applications.images.grammar import SCENES
from sysdpo.applications.images.painter import make_painter
from sysdpo.applications.images.pipeline import SmallStableDiffusion3Pipeline
from sysdpo.base.errors import UserError
from sysdpo.base.seeds import torch_generator
from sysdpo.components.diffusion import DiffusionModel
from sysdpo.components.language import LanguageModel


def ask(component) -> tuple:
    """Conditions and values to try a component on."""
    if isinstance(component, LanguageModel):
        return [("cat",), ("big dog",)], [completion(component, "runs"), completion(component, "red cat sleeps")]
    return [("cat",), ("big dog",)], [picture(0), picture(1)]


@pytest.fixture(params=["language", "epsilon", "flow", "xl"])
def make(request: pytest.FixtureRequest, language_folder: Path):
    """A function that makes fresh components of one kind; its keywords are the adapter's settings."""

    def fresh(**lora):
        if request.param == "language":
            return LanguageModel.from_pretrained(language_folder, lora=LANGUAGE_LORA | lora)
        folders = request.getfixturevalue("pipeline_folders")
        loader = SmallStableDiffusion3Pipeline if request.param == "flow" else DiffusionPipeline
        return DiffusionModel(loader.from_pretrained(folders[request.param]), lora=DIFFUSION_LORA | lora)

    return fresh


def log_probs(component):
    with torch.no_grad():
        return component.log_probs(*ask(component), draw=[100, 101])


def test_what_was_saved_is_loaded(make, tmp_path: Path) -> None:
    trained = make()
    perturb(trained)
    trained.save(tmp_path / "adapter")
    loaded = make()
    loaded.load(tmp_path / "adapter")
    for ours, theirs in zip(weights(loaded), weights(trained), strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(log_probs(loaded).policy, log_probs(trained).policy)
    assert torch.equal(log_probs(loaded).reference, log_probs(trained).reference)


def test_what_was_loaded_can_be_trained_on(make, tmp_path: Path) -> None:
    trained = make()
    perturb(trained)
    trained.save(tmp_path / "adapter")
    loaded = make()
    loaded.load(tmp_path / "adapter")
    assert all(weight.requires_grad for weight in loaded.trainable_parameters())
    loaded.log_probs(*ask(loaded), draw=[100, 101]).policy.sum().backward()
    assert any(weight.grad is not None and weight.grad.abs().max() > 0 for weight in loaded.trainable_parameters())


def test_only_safetensors_are_written(make, tmp_path: Path) -> None:
    make().save(tmp_path / "adapter")
    written = [path for path in (tmp_path / "adapter").rglob("*") if path.is_file()]
    assert any(path.suffix == ".safetensors" for path in written)
    assert all(path.suffix in (".safetensors", ".json", ".md") for path in written)


@pytest.mark.parametrize("content", ["absent", "empty"])
def test_a_folder_without_an_adapter_is_refused(make, tmp_path: Path, content: str) -> None:
    if content == "empty":
        (tmp_path / "adapter").mkdir()
    with pytest.raises(UserError, match="adapter"):
        make().load(tmp_path / "adapter")


def test_an_adapter_of_another_rank_is_refused(make, tmp_path: Path) -> None:
    make(r=4).save(tmp_path / "adapter")
    with pytest.raises(UserError, match="adapter"):
        make(r=2).load(tmp_path / "adapter")


def test_an_adapter_of_another_language_model_is_refused(language: LanguageModel, tmp_path: Path) -> None:
    folder = save_language_model(tmp_path / "wider", width=32)
    LanguageModel.from_pretrained(folder, lora=LANGUAGE_LORA).save(tmp_path / "adapter")
    with pytest.raises(UserError, match="adapter"):
        language.load(tmp_path / "adapter")


def test_an_adapter_on_other_layers_is_refused(language: LanguageModel, language_folder: Path, tmp_path: Path) -> None:
    lora = LANGUAGE_LORA | {"target_modules": ["q_proj"]}
    LanguageModel.from_pretrained(language_folder, lora=lora).save(tmp_path / "adapter")
    with pytest.raises(UserError, match="adapter"):
        language.load(tmp_path / "adapter")


def test_an_adapter_keeps_the_scale_it_was_trained_with(make, tmp_path: Path) -> None:
    """The scale lora_alpha / r is no weight: loading the weights alone would give another model."""
    trained = make(lora_alpha=16)
    perturb(trained)
    trained.save(tmp_path / "adapter")
    loaded = make(lora_alpha=4)
    loaded.load(tmp_path / "adapter")
    torch.testing.assert_close(log_probs(loaded).policy, log_probs(trained).policy)


def test_adapters_of_other_denoisers_are_refused(make_diffusion, painter_folder: Path, tmp_path: Path) -> None:
    make_diffusion("flow").save(tmp_path / "flow" / "adapter")
    with pytest.raises(UserError, match="adapter"):
        make_diffusion("epsilon").load(tmp_path / "flow" / "adapter")
    make_diffusion("xl").save(tmp_path / "xl" / "adapter")
    with pytest.raises(UserError, match="adapter"):
        make_diffusion("epsilon").load(tmp_path / "xl" / "adapter")


def test_an_adapter_of_a_wider_painter_is_refused(painter: DiffusionModel, tmp_path: Path) -> None:
    make_painter(PAINTER.changed(width=64), set(SCENES), 0, tmp_path / "wider")
    wider = SmallStableDiffusion3Pipeline.from_pretrained(tmp_path / "wider")
    DiffusionModel(wider, lora=DIFFUSION_LORA).save(tmp_path / "adapter")
    with pytest.raises(UserError, match="adapter"):
        painter.load(tmp_path / "adapter")


def test_plain_peft_loads_a_language_model_s_adapter_with_equal_outputs(
    language: LanguageModel, language_folder: Path, tmp_path: Path
) -> None:
    perturb(language)
    language.save(tmp_path / "adapter")
    plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(language_folder), tmp_path / "adapter")
    ids = torch.tensor([[1, 4, 7, 5, 9]])
    with torch.no_grad():
        ours, theirs = language.model(input_ids=ids).logits, plain(input_ids=ids).logits
        with plain.disable_adapter():
            untrained = plain(input_ids=ids).logits
    assert torch.equal(ours, theirs)
    assert not torch.allclose(ours, untrained, atol=0.1)


@pytest.mark.parametrize("kind", ["epsilon", "flow", "xl"])
def test_plain_diffusers_loads_a_denoiser_s_adapter_with_equal_images(
    kind: str, make_diffusion, pipeline_folders: dict[str, Path], tmp_path: Path
) -> None:
    component = make_diffusion(kind)
    untrained = np.asarray(component.sample([("red cat",)], seeds=[3])[0], int)
    perturb(component, size=1.0)
    component.save(tmp_path / "adapter")
    loader = SmallStableDiffusion3Pipeline if kind == "flow" else DiffusionPipeline
    plain = loader.from_pretrained(pipeline_folders[kind])
    plain.load_lora_weights(tmp_path / "adapter")
    generator = torch_generator("picture", 3)
    theirs = np.asarray(plain(prompt=["red cat"], generator=[generator], **SAMPLING).images[0], int)
    ours = np.asarray(component.sample([("red cat",)], seeds=[3])[0], int)
    assert abs(ours - theirs).max() <= 1  # here the adapter is inside the weights, which rounds otherwise
    assert abs(ours - untrained).max() > 3


def test_a_saved_adapter_says_its_rank_and_scale(make, tmp_path: Path) -> None:
    component = make(r=2)
    component.save(tmp_path / "adapter")
    if isinstance(component, LanguageModel):
        described = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
        assert (described["r"], described["lora_alpha"]) == (2, 4)
    else:
        (path,) = (tmp_path / "adapter").glob("*.safetensors")
        with safe_open(path, "pt") as file:
            assert any("lora_alpha" in text for text in file.metadata().values())


def test_rebasing_makes_margins_zero_and_keeps_the_trained_weights(make) -> None:
    component = make()
    perturb(component)
    trained, before = weights(component), log_probs(component)
    assert not torch.equal(before.policy, before.reference)
    component.rebase_reference()
    after = log_probs(component)
    assert torch.equal(after.policy, after.reference)
    assert torch.equal(after.policy, before.policy)
    for now, then in zip(weights(component), trained, strict=True):
        assert torch.equal(now, then)


def test_a_rebased_reference_stays_while_the_policy_moves_and_can_be_rebased_again(make) -> None:
    component = make()
    count = len(component.trainable_parameters())
    perturb(component, seed=0)
    component.rebase_reference()
    frozen = log_probs(component).reference
    perturb(component, seed=1)
    moved = log_probs(component)
    assert torch.equal(moved.reference, frozen)
    assert not torch.equal(moved.policy, frozen)
    assert len(component.trainable_parameters()) == count
    assert all(weight.requires_grad for weight in component.trainable_parameters())
    component.rebase_reference()
    again = log_probs(component)
    assert torch.equal(again.reference, moved.policy)
    assert torch.equal(again.policy, again.reference)


def test_after_rebasing_the_whole_policy_is_saved_and_the_reference_is_not(make, tmp_path: Path) -> None:
    component = make()
    perturb(component, seed=0)
    component.rebase_reference()
    perturb(component, seed=1)
    component.save(tmp_path / "adapter")
    loaded = make()
    loaded.load(tmp_path / "adapter")
    assert torch.equal(log_probs(loaded).policy, log_probs(component).policy)
    assert len(list((tmp_path / "adapter").rglob("*.safetensors"))) == 1


def test_equal_adapters_are_equal_files(make, tmp_path: Path) -> None:
    """In every process: sets of texts have another order in each."""
    component = make()
    target = set("abcdefgh") if isinstance(component, LanguageModel) else None
    contents = []
    for number in range(6):
        folder = tmp_path / str(number)
        if target:
            component.model.peft_config["default"].target_modules = set(target)
        component.save(folder)
        contents.append({path.name: path.read_bytes() for path in sorted(folder.iterdir())})
    assert all(each == contents[0] for each in contents)
    if target:
        described = json.loads((tmp_path / "0" / "adapter_config.json").read_text())
        assert described["target_modules"] == sorted(target)

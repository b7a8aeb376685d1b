"""A model folder that is none."""

from pathlib import Path

import pytest

from sysdpo.base.errors import UserError
from sysdpo.components.diffusion import DiffusionModel
from sysdpo.components.language import LanguageModel

LORA = {"r": 2, "target_modules": ["to_q"]}
PAINTER = "sysdpo.applications.images.pipeline:SmallStableDiffusion3Pipeline"
SENTENCE = r"model: '.*' cannot be loaded; it should be a hub id or a local folder in from_pretrained format"


@pytest.mark.parametrize("component", [LanguageModel, DiffusionModel])
@pytest.mark.parametrize("content", ["absent", "empty", "broken"])
def test_a_folder_that_holds_no_model_is_refused_in_one_sentence(component, content: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    if content != "absent":
        folder.mkdir()
    if content == "broken":
        for name in ("config.json", "model_index.json"):
            (folder / name).write_text("{}")
    with pytest.raises(UserError, match=SENTENCE) as error:
        component.from_pretrained(folder, lora=LORA)
    assert "\n" not in str(error.value)


def test_weights_that_are_cut_short_are_refused(language_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for path in language_folder.iterdir():
        content = path.read_bytes()
        (folder / path.name).write_bytes(content[:1000] if path.suffix == ".safetensors" else content)
    with pytest.raises(UserError, match=SENTENCE):
        LanguageModel.from_pretrained(folder, lora=LORA)


def test_a_language_model_is_no_pipeline_and_a_pipeline_no_language_model(
    language_folder: Path, painter_folder: Path
) -> None:
    with pytest.raises(UserError, match=SENTENCE):
        DiffusionModel.from_pretrained(language_folder, pipeline=PAINTER, lora=LORA)
    with pytest.raises(UserError, match=SENTENCE):
        LanguageModel.from_pretrained(painter_folder, lora=LORA)


def test_adapter_targets_that_the_model_does_not_have_are_refused(language_folder: Path) -> None:
    with pytest.raises(UserError, match="to_q"):
        LanguageModel.from_pretrained(language_folder, lora=LORA)

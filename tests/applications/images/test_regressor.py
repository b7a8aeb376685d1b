"""The attribute regressor as a scorer."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import picture

from sysdpo.applications.images.regressor import AttributeRegressor
from sysdpo.base.errors import UserError


@pytest.fixture
def regressor() -> AttributeRegressor:
    torch.manual_seed(0)
    return AttributeRegressor(("anger", "size", "light"), width=4).eval()


def test_scores_are_the_network_s_outputs_on_pixels_between_minus_one_and_one(regressor: AttributeRegressor) -> None:
    images = [picture(0), picture(1)]
    pixels = torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255 * 2 - 1 for image in images])
    expected = regressor(pixels).detach().numpy()
    assert regressor.score(images) == pytest.approx(expected, abs=1e-5)
    assert regressor.score(images).shape == (2, 3)


def test_batches_and_image_modes_change_nothing(regressor: AttributeRegressor) -> None:
    images = [picture(row) for row in range(5)]
    assert regressor.score(images, batch_size=2) == pytest.approx(regressor.score(images), abs=1e-5)
    assert regressor.score([image.convert("RGBA") for image in images]) == pytest.approx(regressor.score(images))


def test_what_was_saved_is_loaded(regressor: AttributeRegressor, tmp_path: Path) -> None:
    regressor.save(tmp_path / "regressor")
    loaded = AttributeRegressor.load(tmp_path / "regressor")
    assert loaded.attributes == ("anger", "size", "light")
    assert not loaded.training
    assert np.array_equal(loaded.score([picture(0)]), regressor.score([picture(0)]))


@pytest.mark.parametrize("fault", ["absent", "no weights", "other width", "cut short", "no config"])
def test_a_folder_that_holds_no_regressor_is_refused(regressor: AttributeRegressor, tmp_path: Path, fault: str) -> None:
    folder = tmp_path / "regressor"
    if fault != "absent":
        regressor.save(folder)
    if fault == "no weights":
        (folder / "model.safetensors").unlink()
    elif fault == "other width":
        (folder / "config.json").write_text('{"attributes": ["anger"], "width": 8}')
    elif fault == "cut short":
        (folder / "model.safetensors").write_bytes(b"short")
    elif fault == "no config":
        (folder / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"regressor: '.*' should be a folder with config.json and model.safetensors"):
        AttributeRegressor.load(folder)


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_the_same_picture_is_scored_once(regressor: AttributeRegressor, batch_size: int) -> None:
    seen: list[int] = []
    regressor.register_forward_pre_hook(lambda module, arguments: seen.append(len(arguments[0])))
    images = [picture(0), picture(1), picture(0), picture(2), picture(0).convert("RGBA")]
    scores = regressor.score(images, batch_size=batch_size)
    assert np.array_equal(scores[0], scores[2])
    assert np.array_equal(scores[0], scores[4])
    assert sum(seen) == 3

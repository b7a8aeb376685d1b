"""Series of three pictures: what makes one good, and who looks at the pictures."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny_pictures
from tiny_models import picture

from sysdpo.applications.images.clip_direction import ClipDirection
from sysdpo.applications.images.image_regressor import ImageRegressor
from sysdpo.applications.images.regressor import AttributeRegressor
from sysdpo.applications.images.series_scorer import as_rise, image_judge, is_ordered, preference_score
from sysdpo.applications.images.settings import ImageJudgeSettings
from sysdpo.base.errors import UserError

PROMPTS = pd.DataFrame({"attribute": ["anger"], "low": ["a photo of a calm cat"], "high": ["a photo of an angry cat"]})


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("judges")
    clip = tiny_pictures.save_clip(root / "clip")
    regressor = tiny_pictures.save_regressor(root / "regressor", ("anger", "age"))
    return {"clip": str(clip), "regressor": str(regressor)}


@pytest.mark.parametrize(
    ("rising", "score"),
    [
        ([0.0, 0.5, 1.0], 1.0),  # 1 − |0.5 − 0.5|
        ([0.2, 0.8, 0.4], -0.3),  # 0.2 − |0.8 − 0.3|
        ([0.9, 0.5, 0.1], -0.8),  # −0.8 − |0.5 − 0.5|
        ([0.3, 0.3, 0.3], 0.0),
        ([0.1, 0.1, 0.9], 0.4),  # 0.8 − |0.1 − 0.5|
    ],
)
def test_preference_score_by_hand(rising: list[float], score: float) -> None:
    assert preference_score(np.array([rising])) == pytest.approx([score])


def test_order_is_strict() -> None:
    rows = [[0.1, 0.2, 0.3], [0.1, 0.1, 0.3], [0.1, 0.3, 0.3], [0.3, 0.2, 0.1], [0.1, 0.4, 0.3]]
    assert is_ordered(np.array(rows)).tolist() == [1.0, 0.0, 0.0, 0.0, 0.0]


def test_a_requested_fall_counts_as_a_rise() -> None:
    values = np.array([[0.1, 0.4, 0.9], [0.9, 0.4, 0.1]])
    turned = as_rise(values, np.array([1, -1]))
    assert turned[0].tolist() == [0.1, 0.4, 0.9]
    assert turned[1].tolist() == pytest.approx([0.1, 0.6, 0.9])


@pytest.mark.parametrize(("kind", "expected"), [("clip", ClipDirection), ("regressor", ImageRegressor)])
def test_the_kind_says_who_judges(kind: str, expected: type, folders: dict[str, str]) -> None:
    with image_judge(ImageJudgeSettings(kind=kind, model=folders[kind])) as judge:
        assert type(judge) is expected
        (value,) = judge.attribute([picture(0)], PROMPTS)
    assert np.isfinite(value)
    with pytest.raises(AttributeError):  # its network is gone
        judge.attribute([picture(0)], PROMPTS)


@pytest.mark.parametrize("kind", ["clip", "regressor"])
def test_memory_is_freed_after_an_error_too(kind: str, folders: dict[str, str]) -> None:
    with pytest.raises(ZeroDivisionError), image_judge(ImageJudgeSettings(kind=kind, model=folders[kind])) as judge:
        raise ZeroDivisionError
    with pytest.raises(AttributeError):
        judge.attribute([picture(0)], PROMPTS)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kind": "eye"}, r"kind: 'eye' should be one of \['clip', 'regressor'\]"),
        ({"dtype": "int8"}, r"dtype: 'int8' should be one of"),
        ({"batch_size": 0}, r"batch_size: 0 should be at least 1"),
    ],
)
def test_a_wrong_setting_is_refused(wrong: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        ImageJudgeSettings(**{"kind": "clip", "model": "there"} | wrong)


def test_a_regressor_s_folder_says_what_it_knows(folders: dict[str, str], tmp_path: Path) -> None:
    assert ImageJudgeSettings(kind="regressor", model=folders["regressor"]).attributes == ("anger", "age")
    AttributeRegressor(["size", "light"], width=4).save(tmp_path)
    assert ImageJudgeSettings(kind="regressor", model=str(tmp_path)).attributes == ("size", "light")


def test_of_others_nothing_is_known(folders: dict[str, str], tmp_path: Path) -> None:
    assert ImageJudgeSettings(kind="clip", model=folders["clip"]).attributes is None
    assert ImageJudgeSettings(kind="regressor", model="somebody/on-the-hub").attributes is None
    (tmp_path / "config.json").write_text(json.dumps({"id2label": None}))
    assert ImageJudgeSettings(kind="regressor", model=str(tmp_path)).attributes is None

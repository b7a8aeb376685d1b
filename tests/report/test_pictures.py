"""The gallery of series whose pictures are large and whose captions are long, as pretrained models make them."""

import io
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pandas as pd
import pytest
from described import committed
from matplotlib.figure import Figure
from PIL import Image

from sysdpo.applications.images.gallery import CAPTION_LINES, gallery
from sysdpo.base.errors import UserError
from sysdpo.report.samples import Exhibit, Series, pick_pictures
from sysdpo.report.style import save
from sysdpo.report.trajectories import SIDE

LONG = "A photo of a very old lighthouse in thick fog, " * 8
SHORT = "a calm cat"
METHODS = ("before", "direct")
IMAGES = committed().system("progressive_images")


def pick(runs: Path) -> list[Exhibit]:
    return pick_pictures(IMAGES, IMAGES.pictures, runs, METHODS)


def drawn(runs: Path) -> Figure:
    return gallery(SimpleNamespace(shown=IMAGES, folder=runs, methods=METHODS))


def png(width: int, height: int) -> bytes:
    written = io.BytesIO()
    Image.new("RGB", (width, height), (200, 30, 30)).save(written, "PNG")
    return written.getvalue()


def write_runs(runs: Path, image: bytes, caption: str = SHORT, attributes: tuple[str, ...] = ("anger",)) -> Path:
    """One prompt an attribute, which asks for a fall; every method's series falls from 0.9 to 0.1."""
    ids = [f"p{index}" for index in range(len(attributes))]
    prompts = pd.DataFrame({"prompt_id": ids, "split": "test", "text": [f"Less {name}." for name in attributes]})
    runs.mkdir(parents=True, exist_ok=True)
    prompts.assign(attribute=attributes, direction=-1).to_parquet(runs / "prompts.parquet")
    samples = pd.DataFrame({"prompt_id": ids, "sample": 0, "score": 0.5})
    for n, level in enumerate((0.9, 0.5, 0.1), start=1):
        samples = samples.assign(**{f"caption_{n}": caption, f"attribute_{n}": level})
        samples[f"image_{n}"] = [image] * len(ids)
    for method in METHODS:
        folder = runs / "0" / method / "evaluation"
        folder.mkdir(parents=True, exist_ok=True)
        samples.to_parquet(folder / "samples.parquet")
    return runs


def test_a_requested_fall_is_in_order(tmp_path: Path) -> None:
    (exhibit,) = pick(write_runs(tmp_path, png(8, 8)))
    for series in exhibit.series.values():
        assert series.right
        assert series.levels == pytest.approx([0.1, 0.5, 0.9])


def test_of_many_attributes_the_first_by_name_are_shown(tmp_path: Path) -> None:
    runs = write_runs(tmp_path, png(8, 8), attributes=("storm", "anger", "rust", "crowd", "fog"))
    assert [exhibit.prompt for exhibit in pick(runs)] == ["Less anger.", "Less crowd.", "Less fog."]


def test_large_pictures_are_shrunk_and_small_ones_left_alone(tmp_path: Path) -> None:
    shown = [
        pick(write_runs(tmp_path / str(width), png(width, width // 2)))[0].series["direct"] for width in (32, 1024)
    ]
    assert shown[0].images == [png(32, 16)] * 3
    assert {Image.open(io.BytesIO(image)).size for image in shown[1].images} == {(SIDE, SIDE // 2)}
    assert [series.coarse for series in shown] == [True, False]


def test_bytes_that_are_no_picture_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds bytes that are no PNG"):
        pick(write_runs(tmp_path, b"no picture"))


@pytest.mark.parametrize("caption", [SHORT, "three lines of text, " * 2, LONG])
def test_no_caption_reaches_into_the_row_below(caption: str, tmp_path: Path) -> None:
    figure = drawn(write_runs(tmp_path, png(64, 64), caption))
    figure.draw_without_rendering()
    cells = [axes for axes in figure.axes if axes.get_xlabel()]
    assert len(cells) == 3 * len(METHODS)
    upper, lower = cells[0], cells[3]
    text = upper.xaxis.label.get_window_extent()
    assert text.y0 > lower.get_window_extent().y1
    assert lower.xaxis.label.get_window_extent().y0 >= 0  # the last row's end within the page


def test_captions_longer_than_there_is_room_for_are_cut_with_a_sign(tmp_path: Path) -> None:
    figure = drawn(write_runs(tmp_path, png(64, 64), LONG))
    shown = figure.axes[0].get_xlabel()
    assert shown.count("\n") == CAPTION_LINES - 1
    assert shown.endswith("…")
    assert drawn(write_runs(tmp_path, png(64, 64))).axes[0].get_xlabel() == SHORT


@pytest.mark.parametrize("caption", ["a cat\x02 \x1b[1m with\x00 a bell\x07", "a $_{$ cat"])
def test_whatever_a_model_writes_the_figure_can_be_read(caption: str, tmp_path: Path) -> None:
    save(drawn(write_runs(tmp_path, png(8, 8), caption)), tmp_path, "gallery")
    text = "".join(ElementTree.parse(tmp_path / "gallery.svg").getroot().itertext())
    assert ("$_{$" in text) is ("$_{$" in caption)


def test_short_captions_need_no_taller_figure(tmp_path: Path) -> None:
    heights = [
        drawn(write_runs(tmp_path, png(8, 8), caption)).get_figheight()
        for caption in (SHORT, "one two three four five six seven eight", LONG)
    ]
    assert heights[0] == heights[1] < heights[2]


def test_order_is_strict() -> None:
    images = [png(8, 8)] * 3
    assert Series(["a"] * 3, images, [0.1, 0.2, 0.3]).right
    assert not Series(["a"] * 3, images, [0.1, 0.1, 0.3]).right


def test_a_judgement_of_its_own_says_what_is_right() -> None:
    assert Series(["a"], [png(8, 8)], [0.3], judged=True).right
    assert not Series(["a"], [png(8, 8)], [0.3], judged=False).right

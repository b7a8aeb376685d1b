"""The report as a browser shows it: searched, sorted, pointed at, on a phone."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from browser import chromium, complaints

from sysdpo.report import embedding
from sysdpo.report.descriptions import Descriptions, read_descriptions
from sysdpo.report.graph import Graph, Variable, ordered
from sysdpo.report.page import write_report

SYSTEM, PICTURES = "two_stage_qa", "progressive_images"
SCRIPT = "<script>document.title = 'broken'</script><b>bold</b>"
MOST_BYTES = 5_000_000
PHONE, DESK = {"width": 390, "height": 800}, {"width": 1400, "height": 900}
GRAPHS = {
    SYSTEM: Graph(
        ["text"],
        [Variable("draft", "first", ["text"], True), Variable("answer", "second", ["text", "draft"], True, True)],
    ),
    PICTURES: Graph(["text"], [Variable(f"{kind}_1", "painter", ["text"]) for kind in ("caption", "image")]),
}


@pytest.fixture(scope="module")
def report(made_up_results: Path, made_up_figures: Path, described: Descriptions, tmp_path_factory: Any) -> Path:
    """The report of the made-up run, with graphs, and with a script among what a model said."""
    results = shutil.copytree(made_up_results, tmp_path_factory.mktemp("browser") / "results")
    for path in (results / "runs" / SYSTEM).glob("*/*/evaluation/samples.parquet"):
        samples = pd.read_parquet(path)
        samples.assign(draft=samples["draft"] + f" {SCRIPT} " + samples["prompt_id"]).to_parquet(path)
    systems = {name: replace(described.systems[name], graph=graph) for name, graph in GRAPHS.items()}
    write_report(results, Descriptions(systems, described.studies), results / "report.html")
    return results / "report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    yield from chromium()


@pytest.fixture
def opened(browser: Any, report: Path) -> Iterator[Any]:
    """A function that opens the report; whatever it complains of fails the test."""
    pages, found = [], []

    def open_page(viewport: dict[str, int] = DESK, **options: Any) -> Any:
        page = browser.new_page(viewport=viewport, **options)
        page.set_default_timeout(120_000)
        pages.append(page)
        found.append(complaints(page))
        page.goto(report.as_uri())
        return page

    yield open_page
    for page in pages:
        page.close()
    assert found == [[]] * len(pages)


def test_the_page_is_small(report: Path) -> None:
    assert report.stat().st_size < MOST_BYTES


def test_no_picture_is_broken(opened: Any) -> None:
    page = opened()
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    widths = page.evaluate("Promise.all([...document.images].map((one) => one.decode().then(() => one.naturalWidth)))")
    assert len(widths) > 30
    assert min(widths) > 0


def test_what_a_model_says_is_shown_as_text(opened: Any) -> None:
    page = opened()
    assert page.title() == "SysDPO: results"
    said = page.locator(f"#{SYSTEM}-transcripts .card").first.locator(".generated dd").first
    assert SCRIPT in said.text_content()
    assert said.locator("script, b").count() == 0


def test_all_that_was_generated_is_shown_in_the_graph_s_order(opened: Any) -> None:
    page = opened()
    for name, graph in GRAPHS.items():
        shown = page.locator(f"#{name} .generated").first.locator("dt").all_text_contents()
        assert shown == graph.names
    pictured = page.locator(f"#{PICTURES} .generated dd").nth(1)
    assert pictured.text_content() == "the picture above"


def test_a_click_sorts_a_table_by_its_values_and_another_one_the_other_way(opened: Any) -> None:
    page = opened()
    table = page.locator(f"#{SYSTEM} table.sortable").first
    read = "(table) => [...table.tBodies[0].rows].map((row) => row.cells[1].dataset.sort)"
    before = [float(value) for value in table.evaluate(read)]
    assert len(set(before)) > 2
    for descending in (True, False):
        table.locator("th").nth(1).click()
        page.evaluate("new Promise((done) => setTimeout(done, 50))")  # after the library's own timer
        after = [float(value) for value in table.evaluate(read)]
        assert after == sorted(before, reverse=descending)


def test_the_search_hides_questions_without_the_words(opened: Any) -> None:
    page = opened()
    examples = page.locator(f"#{SYSTEM}-transcripts .example")
    question = examples.nth(1).locator(".asked").text_content().split("What is ")[1].split("?")[0]
    field = page.locator(f"[aria-controls={SYSTEM}-transcripts]")
    field.fill(question.upper())
    assert [one.is_visible() for one in examples.all()] == [False, True, False]
    assert page.locator(f"#{SYSTEM} .search output").text_content() == "1 of 3"
    field.fill("")
    assert [one.is_visible() for one in examples.all()] == [True] * 3


def test_pointing_at_a_curve_shows_its_values(opened: Any) -> None:
    page = opened()
    plot = page.locator(f"#{PICTURES} .uplot").first
    plot.scroll_into_view_if_needed()
    data = json.loads(page.locator(f"#{PICTURES} .curves script").text_content())[0]
    values = plot.locator(".u-value")
    area = plot.locator(".u-over").bounding_box()
    page.mouse.move(area["x"] + 1, area["y"] + 20)
    values.nth(0).filter(has_text=str(data["steps"][0])).wait_for()  # drawn with the next frame
    assert values.nth(1).text_content() == f"{data['rows'][0]['values'][0]:g}"
    row = plot.locator(".u-series").nth(1)
    row.locator("th").click()
    assert "u-off" in row.get_attribute("class")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_need_not_scroll_sideways(scheme: str, opened: Any) -> None:
    page = opened(PHONE, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    page.set_viewport_size(DESK)
    assert page.evaluate("document.documentElement.scrollWidth") == DESK["width"]
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") is (scheme == "light")


def test_without_a_script_the_curves_are_a_figure(opened: Any) -> None:
    page = opened(java_script_enabled=False)
    assert page.locator(f"#{PICTURES} noscript img").count() == 1
    assert page.locator(".search").first.is_hidden()


def test_every_variable_stands_in_the_drawing_of_its_graph(opened: Any) -> None:
    names = opened().locator(f"#{SYSTEM} svg.graph .name").all_text_contents()
    assert names == ["text", "draft", "answer"]


def test_variables_come_after_those_that_they_are_generated_from() -> None:
    variables = [Variable("c", "x", ["a", "b"]), Variable("b", "x", ["a"]), Variable("a", "x", ["in"])]
    assert [one.name for one in ordered(variables, ["in"])] == ["a", "b", "c"]


def test_a_graph_is_read_as_it_was_described(described: Descriptions, tmp_path: Path) -> None:
    from described import save

    shown = replace(described.systems[SYSTEM], graph=GRAPHS[SYSTEM])
    assert (
        read_descriptions(save(Descriptions({SYSTEM: shown}), tmp_path / "d.json")).systems[SYSTEM].graph == shown.graph
    )


def test_vendored_files_are_the_packages_own() -> None:
    lines = (embedding.VENDOR / "VENDORED.md").read_text().splitlines()
    noted = dict(reversed(line.split()) for line in lines if line.startswith("    "))
    files = {path.name for path in embedding.VENDOR.iterdir()} - {"VENDORED.md"}
    assert set(noted) == files
    assert {name: sha256((embedding.VENDOR / name).read_bytes()).hexdigest() for name in files} == noted

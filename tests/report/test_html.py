import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from sysdpo.errors import UserError
from sysdpo.report.html import write_report
from sysdpo.report.manifest import config_hash, write_manifest


@pytest.fixture(scope="module")
def page(made_up_results: Path, made_up_figures: Path) -> str:
    results = made_up_results
    write_manifest(results, {"seeds": [0, 1]}, results / "manifest.json")
    write_report(results, results / "report.html")
    return (results / "report.html").read_text()


class References(HTMLParser):
    """Every address a browser would fetch or follow."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.found += [value or "" for name, value in attributes if name in ("src", "href", "srcset", "action", "data")]


def test_page_needs_nothing_from_outside(page: str) -> None:
    references = References(page)
    assert references.found
    assert all(address.startswith(("data:image/", "#")) for address in references.found)
    assert not {"script", "link", "iframe", "object"} & set(references.tags)
    assert not re.search(r"url\(|@import|https?://", page)


def test_links_within_the_page_have_a_target(page: str) -> None:
    targets = {address[1:] for address in References(page).found if address.startswith("#")}
    assert targets == {name for name in re.findall(r'<section id="([^"]+)"', page) if name in targets}


def test_page_shows_figures_pictures_and_provenance(page: str) -> None:
    assert page.count("data:image/svg+xml;base64") == 6  # the gallery is shown as pictures, and one experiment is added
    assert page.count("data:image/png;base64") == 2 * 5 * 3
    assert config_hash({"seeds": [0, 1]}) in page
    assert "95 % bootstrap interval over prompts nested in seeds" in page


def test_text_from_the_data_is_escaped(page: str) -> None:
    assert "a cat getting angrier, &lt;" in page
    assert "a calm cat &amp; co" in page


def test_page_and_manifest_are_the_same_when_written_again(page: str, made_up_results: Path, tmp_path: Path) -> None:
    write_report(made_up_results, tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text() == page
    write_manifest(made_up_results, {"seeds": [0, 1]}, tmp_path / "manifest.json")
    assert (tmp_path / "manifest.json").read_text() == (made_up_results / "manifest.json").read_text()


def test_page_from_the_tables_alone(made_up_results: Path, tmp_path: Path) -> None:
    for name in ("metrics.csv", "comparisons.csv"):
        (tmp_path / name).write_bytes((made_up_results / name).read_bytes())
    write_report(tmp_path, tmp_path / "report.html")
    assert "No manifest.json was found" in (tmp_path / "report.html").read_text()


def test_missing_column_leaves_no_page(made_up_results: Path, tmp_path: Path) -> None:
    pd.read_csv(made_up_results / "metrics.csv").drop(columns="mean").to_csv(tmp_path / "metrics.csv", index=False)
    with pytest.raises(UserError, match="no column 'mean'"):
        write_report(tmp_path, tmp_path / "report.html")
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


def test_manifest_names_files_by_their_place_and_nothing_of_the_machine_itself(
    page: str, made_up_results: Path
) -> None:
    text = (made_up_results / "manifest.json").read_text()
    manifest = json.loads(text)
    assert "metrics.csv" in manifest["files"]
    assert not {"manifest.json", "report.html"} & set(manifest["files"])
    assert str(made_up_results.parent) not in text
    assert manifest["seeds"] == [0, 1]


def test_config_hash_ignores_the_order_of_keys() -> None:
    assert config_hash({"a": 1, "b": 2}) == config_hash({"b": 2, "a": 1}) != config_hash({"a": 1, "b": 3})

"""The documentation as a site: it builds without a warning, needs nothing from elsewhere, and leads nowhere wrong."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from browser import chromium
from project import REPOSITORY

import sysdpo
from sysdpo.method import component, objectives

pytest.importorskip("mkdocs", reason="the extra `docs` is not installed")
pytest.importorskip("mkdocstrings", reason="the extra `docs` is not installed")

LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "object": "data", "link": "href"}
"""What a browser fetches for a page by itself; a link to another page is not among it."""
LINKS_TO_PAGES = {"canonical", "prev", "next", "alternate"}


@dataclass
class Page(HTMLParser):
    """What a built page holds."""

    path: Path
    anchors: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    classes: set[str] = field(default_factory=set)
    paragraphs: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self._open: list[str] = []
        self.feed(self.path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        self.classes |= set(values.get("class", "").split())
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if LOADED.get(tag) in values and not LINKS_TO_PAGES & set(values.get("rel", "").split()):
            self.loaded.append(values[LOADED[tag]])
        if tag in ("p", "li", "td", "code", "pre"):
            self._open.append(tag)
            if tag == "p":
                self.paragraphs.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        if "p" in self._open and not {"code", "pre"} & set(self._open):
            self.paragraphs[-1] += data


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    (recipe,) = re.findall(r"^docs:.*\n\t(?:@?)\$\(BIN\)/(.*)$", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    command = [sys.executable, "-m", *recipe.split(), "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "--strict" in command
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    """All but what a server shows for an address that it does not have."""
    return {path: Page(path) for path in sorted(site.rglob("*.html")) if path.name != "404.html"}


def test_nothing_is_fetched_from_elsewhere(site: Path, pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        for address in page.loaded:
            assert not urlsplit(address).netloc, f"{path.name}: {address}"
            assert (path.parent / unquote(urlsplit(address).path)).exists(), f"{path.name}: {address}"
        # The theme fetches the renderer of such a diagram when it meets one.
        assert "mermaid" not in page.classes, path
    for style in site.rglob("*.css"):
        for address in re.findall(r"(?:url\(|@import)\s*[\"']?([^\"')\s]+)", style.read_text()):
            assert address.startswith("data:") or not urlsplit(address).netloc, f"{style.name}: {address}"


def test_every_internal_link_and_anchor_is_there(site: Path, pages: dict[Path, Page]) -> None:
    wrong = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            anchor = unquote(parts.fragment)
            if not target.exists() or (anchor and target in pages and anchor not in pages[target].anchors):
                wrong.append(f"{path.relative_to(site)}: {link}")
    assert wrong == []


def test_a_file_that_a_page_links_to_is_in_the_site(site: Path) -> None:
    for name in ("figures/study_theory.png", "debate/tables/debate.html", "experiments/tune.csv"):
        assert (site / "repository/results" / name).exists(), name
    shown = Page(site / "repository/sysdpo/method/system.py.html")
    assert "highlight" in shown.classes


def test_every_page_of_docs_is_in_the_navigation(pages: dict[Path, Page], site: Path) -> None:
    start = pages[site / "index.html"]
    names = [path.name for path in (REPOSITORY / "docs").glob("*.md")]
    for name in [*names, "settings.md", "contributing.md", "changelog.md"]:
        assert name.replace(".md", ".html") in start.links, name


def test_no_page_shows_markdown(pages: dict[Path, Page]) -> None:
    raw = re.compile(r"^\s*(\||```|[-*] |\d+\. )|\]\(|<!--|^:::", re.MULTILINE)
    found = {path.name: text for path, page in pages.items() for text in page.paragraphs if raw.search(text)}
    assert found == {}


@cache
def entries(path: Path) -> dict[str, str]:
    """Of each entry of an API page, by its full name, the text of its documentation."""
    text = path.read_text()
    starts = [(match[1], match.start()) for match in re.finditer(r'<h\d id="(sysdpo\.[\w.]+)"', text)]
    ends = [start for _, start in starts[1:]] + [len(text)]
    return {name: documentation(text[start:end]) for (name, start), end in zip(starts, ends, strict=True)}


def documentation(html: str) -> str:
    found = re.search(r'<div class="doc doc-contents ?\w*">(.*)', html, re.DOTALL)
    return re.sub(r"<[^>]+>", "", found[1]).strip() if found else ""


@pytest.mark.parametrize("name", [name for name in sysdpo.__all__ if name != "__version__"])
def test_every_public_name_is_explained(site: Path, name: str) -> None:
    documented = getattr(sysdpo, name)
    full = f"{documented.__module__}.{documented.__qualname__}"
    assert entries(site / "api.html").get(full), f"docs/api.md should have a line '::: {full}'"


def protocols() -> list[str]:
    """What a component may be asked for."""
    own = [kind for kind in vars(component).values() if getattr(kind, "__module__", "") == component.__name__]
    return [f"{kind.__module__}.{kind.__qualname__}" for kind in own if isinstance(kind, type)]


@pytest.mark.parametrize("name", protocols())
def test_every_protocol_of_a_component_is_explained(site: Path, name: str) -> None:
    assert entries(site / "api-extending.html").get(name), f"docs/api-extending.md should have a line '::: {name}'"


def test_what_docstrings_say_of_parameters_is_shown_by_parameter(site: Path) -> None:
    shown = (site / "api.html").read_text()
    start = shown.index('id="sysdpo.library.aligning.align"')
    of_align = shown[start : shown.index("<h3", start)]
    for name in ("method", "learning_rate", "chosen_weight", "held_out", "output"):
        assert re.search(rf"<li[^>]*>\s*<b>\s*<code[^>]*>\s*{name}\b", of_align), name


def test_every_formula_of_the_methods_page_is_one_of_the_code() -> None:
    page = (REPOSITORY / "docs/methods.md").read_text()
    sources = [REPOSITORY / path for path in re.findall(r"\]\(\.\./(sysdpo/[\w/]+\.py)\)", page)]
    code = " ".join(" ".join(path.read_text().split()) for path in sources)
    formulas = [
        formula for line in re.findall(r"^> (.*)$", page, re.MULTILINE) for formula in re.findall("`(.*?)`", line)
    ]
    assert len(formulas) > 8
    assert [formula for formula in formulas if formula not in code] == []


SHIPPED = """
import json
from sysdpo.method import candidates, objectives
print(json.dumps([list(it) for it in (objectives.LINKS, objectives.MARGINALS, candidates.GENERATORS)]))
"""


def test_every_registered_formula_stands_on_the_methods_page() -> None:
    page = (REPOSITORY / "docs/methods.md").read_text().replace(r"\|", "|")
    # In a process of its own: other tests register theirs in this one.
    links, *others = json.loads(subprocess.run([sys.executable, "-c", SHIPPED], capture_output=True, check=True).stdout)
    for names in (links, *others):
        assert [name for name in names if f"`{name}`" not in page and name.replace("_", " ") not in page] == []
    shipped = [objectives.LINKS[name] for name in links]
    for function in (*shipped, objectives.truncated, objectives.importance, objectives.direct):
        (formula, *_) = re.findall(r"`([^`]+)`", function.__doc__ or "")
        assert formula in page, formula


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    yield from chromium()


def test_the_search_works_from_a_folder_and_asks_nobody(site: Path, browser: Any) -> None:
    asked = []
    page = browser.new_page()
    page.set_default_timeout(120_000)
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"file://{site}/index.html")
    page.click("input.md-search__input")
    page.keyboard.type("truncated")
    page.wait_for_selector(".md-search-result__link")
    found = " ".join(link.get_attribute("href") for link in page.query_selector_all(".md-search-result__link"))
    assert "methods" in found
    page.close()
    assert asked
    assert [address for address in asked if not address.startswith(("file:", "data:", "about:"))] == []

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from described import COMMITTED, made_up

from sysdpo.base.errors import UserError
from sysdpo.report.claim_file import Claim, Claims
from sysdpo.report.claims import read_claim_table, write_claims
from sysdpo.report.credit import write_credit_table
from sysdpo.report.descriptions import Descriptions
from sysdpo.report.page import write_report
from sysdpo.run.cli import main
from sysdpo.run.manifest import checksums, config_hash, stop_if_other, write_manifest

ANSWERS = {"system": "two_stage_qa", "metric": "accuracy", "method": "direct"}
DRIFT = {"system": "progressive_images", "metric": "kl_writer", "method": "separate"}
QUESTIONS = {"one": "Does <one> model do?"}
CLAIMS = Claims(
    (
        Claim(**ANSWERS, id="a", baseline="before", question="one", sign="above"),
        Claim(**ANSWERS, id="b", at_least=1.0),
        Claim(**DRIFT, id="c", baseline="before", sign="below"),
    ),
    QUESTIONS,
)


@pytest.fixture(scope="module")
def page(made_up_results: Path, made_up_figures: Path, described: Descriptions) -> str:
    results = made_up_results
    qa = described.system("two_stage_qa")
    write_credit_table(qa, results / "runs" / "two_stage_qa", results / "tables" / "two_stage_qa_credit.csv")
    write_claims(CLAIMS, results / "metrics.csv", results / "comparisons.csv", described, results / "claims.csv")
    write_manifest(results, {"seeds": [0, 1]}, results / "manifest.json")
    write_report(results, described, results / "report.html")
    return (results / "report.html").read_text()


class References(HTMLParser):
    """Every address a browser would fetch or follow."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attributes if name in ("src", "href", "srcset", "action", "data")]


def test_page_needs_nothing_from_outside(page: str) -> None:
    references = References(page)
    assert references.links
    assert all(address.startswith(("data:image/", "#")) for address in references.links)
    assert not {"link", "iframe", "object"} & set(references.tags)
    # Drawings name their namespaces, and a library's script where it comes from: neither is loaded, as
    # test_page_in_browser.py sees.
    rest = re.sub(r'<script>.*?</script>|"data:image/[^"]*"', "", page, flags=re.DOTALL)
    assert not re.search(r"url\(|@import|https?://", rest)


def test_links_within_the_page_have_a_target(page: str) -> None:
    targets = {address[1:] for address in References(page).links if address.startswith("#")}
    assert targets <= set(re.findall(r' id="([^"]+)"', page))


def test_page_shows_figures_pictures_and_provenance(page: str) -> None:
    # Eight of the two systems, whose gallery is shown as pictures, two of the studies, one of the experiment.
    assert page.count("data:image/svg+xml,") == 11
    assert page.count("data:image/png;base64") == 2 * 5 * 3
    assert config_hash({"seeds": [0, 1]}) in page
    assert "95 % t interval for new seeds and new prompts" in page


def test_the_head_shows_every_claim_with_its_verdict(page: str, made_up_results: Path, described: Descriptions) -> None:
    head = page[page.index('<section id="claims">') : page.index('<section id="progressive_images">')]
    claims = read_claim_table(made_up_results / "claims.csv")
    assert [claim.verdict for claim in claims] == ["holds", "does not hold", "does not hold"]
    assert "3 claims: 1 hold, 2 do not hold, 0 are undecided." in head
    sentences = {claim.id: claim.sentence(described.system(claim.system)) for claim in claims}
    shown = {claim.id: f'{claim.verdict}</td><td title="{claim.id}">{sentences[claim.id]}</td>' for claim in claims}
    assert [row in head for row in shown.values()] == [True] * 3
    assert head.index(shown["c"]) < head.index("Does &lt;one&gt; model do?") < head.index(shown["a"])
    assert head.index("<h3>Two-stage question answering</h3>") < head.rindex(">Besides<") < head.index(shown["b"])
    assert '<a href="#claims">' in page[: page.index("<main>")]


def test_claims_of_an_earlier_run_are_not_shown(page: str, made_up_results: Path, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("systems: {}\nclaims: null\n")
    options = ["--config", str(tmp_path / "config.yaml"), "--results", str(made_up_results)]
    options += ["--descriptions", str(COMMITTED)]
    assert main(["report", *options, "--output", str(tmp_path / "report.html")]) == 0
    assert "#claims" not in (tmp_path / "report.html").read_text()


def test_page_shows_every_system_study_and_sentence(page: str) -> None:
    addresses = References(page).links
    assert {"#progressive_images", "#two_stage_qa", "#study-gradients", "#experiments"} <= set(addresses)
    assert "#study-theory" not in addresses
    assert len(re.findall(r"right under \d of 8 methods", page)) == 3
    assert "add 18 &amp; go" in page or "add 12 &amp; go" in page
    assert page.count("Who earns the preference, in numbers") == 1
    assert "When what passes between the models is hidden" in page
    assert re.search("SysDPO-Sampling (improves|does not measurably change) accuracy: ", page)
    titles = ("All methods", "While training", "Who earns the preference")
    figures = [re.search(f"<h3 [^>]*>{title}", page).start() for title in titles]
    assert figures == sorted(figures)


def test_a_described_figure_and_a_study_that_nobody_knows_are_shown(made_up_results: Path, tmp_path: Path) -> None:
    metrics = pd.read_csv(made_up_results / "metrics.csv").query("system == 'two_stage_qa' and metric == 'accuracy'")
    pd.concat([metrics.assign(system=name) for name in ("debate", "debate_long")]).to_csv(
        tmp_path / "metrics.csv", index=False
    )
    (tmp_path / "comparisons.csv").write_bytes((made_up_results / "comparisons.csv").read_bytes())
    for folder, name in (("figures", "debate_round_two.svg"), ("studies", "x_y.csv")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text("a,b\n1,\n")
    figures = {"round_two": ["The second round", "After {subject}."], "lost": ["Lost", ""]}
    write_report(tmp_path, made_up("debate", "debate_long", figures=figures), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert page.index(">The second round</h3>") < page.index("After SysDPO-Direct.")
    assert page.count(">The second round</h3>") == 1
    assert "The figure “The second round” cannot be shown: figures/debate_long_round_two.svg is not there." in page
    assert page.count("The figure “Lost” cannot be shown") == 2
    assert '<section id="study-x_y">' in page
    assert '<td data-sort="">–</td>' in page


def test_text_from_the_data_is_escaped(page: str) -> None:
    assert "a cat getting angrier, &lt;" in page
    assert "a calm cat &amp; co" in page


def test_page_and_manifest_are_the_same_when_written_again(
    page: str, made_up_results: Path, described: Descriptions, tmp_path: Path
) -> None:
    write_report(made_up_results, described, tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text() == page
    write_manifest(made_up_results, {"seeds": [0, 1]}, tmp_path / "manifest.json")
    assert (tmp_path / "manifest.json").read_text() == (made_up_results / "manifest.json").read_text()


def test_a_page_from_the_tables_alone_says_what_is_missing(
    made_up_results: Path, described: Descriptions, tmp_path: Path
) -> None:
    for name in ("metrics.csv", "comparisons.csv"):
        (tmp_path / name).write_bytes((made_up_results / name).read_bytes())
    write_report(tmp_path, described, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "No manifest.json was found" in page
    assert "What the methods made cannot be shown: runs/two_stage_qa was not kept." in page
    assert "tables/two_stage_qa_credit.csv is not there." in page


def test_a_broken_file_of_a_run_is_no_page_without_it(
    made_up_results: Path, described: Descriptions, tmp_path: Path
) -> None:
    results = shutil.copytree(made_up_results, tmp_path / "results")
    (results / "runs" / "two_stage_qa" / "prompts.parquet").write_text("broken")
    with pytest.raises(UserError, match=r"prompts.parquet' should be a .parquet table"):
        write_report(results, described, tmp_path / "report.html")


def test_missing_column_leaves_no_page(made_up_results: Path, described: Descriptions, tmp_path: Path) -> None:
    pd.read_csv(made_up_results / "metrics.csv").drop(columns="mean").to_csv(tmp_path / "metrics.csv", index=False)
    with pytest.raises(UserError, match=r"lacks the columns \['mean'\]"):
        write_report(tmp_path, described, tmp_path / "report.html")
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


def test_manifest_has_relative_paths_and_nothing_of_the_machine_itself(page: str, made_up_results: Path) -> None:
    text = (made_up_results / "manifest.json").read_text()
    manifest = json.loads(text)
    assert "metrics.csv" in manifest["files"]
    assert not {"manifest.json", "report.html"} & set(manifest["files"])
    assert str(made_up_results.parent) not in text
    assert manifest["seeds"] == [0, 1]


def test_config_hash_ignores_the_order_of_keys() -> None:
    assert config_hash({"a": 1, "b": 2}) == config_hash({"b": 2, "a": 1}) != config_hash({"a": 1, "b": 3})


def test_another_scale_s_results_below_have_a_manifest_of_their_own(tmp_path: Path) -> None:
    for name in ("metrics.csv", "laptop/metrics.csv", "laptop/manifest.json", "tables/images.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert list(checksums(tmp_path)) == ["metrics.csv", "tables/images.md"]
    assert list(checksums(tmp_path / "laptop")) == ["metrics.csv"]


def test_a_manifest_verifies_every_byte_but_a_training_s_times(tmp_path: Path) -> None:
    for run, seconds in (("one", 1.5), ("two", 2.5)):
        (tmp_path / run).mkdir()
        (tmp_path / run / "training.jsonl").write_text(json.dumps({"loss": 0.1, "seconds": seconds}) + "\n")
        (tmp_path / run / "metrics.csv").write_text("a\n1\n")
    write_manifest(tmp_path / "one", {}, tmp_path / "one" / "manifest.json")
    stop_if_other(tmp_path / "two", tmp_path / "one" / "manifest.json")
    (tmp_path / "two" / "more.csv").write_text("b\n")
    (tmp_path / "two" / "training.jsonl").write_text(json.dumps({"loss": 0.2, "seconds": 1.5}) + "\n")
    with pytest.raises(UserError, match=r"2 differ or are missing on one side, more.csv, training.jsonl$"):
        stop_if_other(tmp_path / "two", tmp_path / "one" / "manifest.json")
    for content in ("{", "[]", '{"files": 1}'):
        (tmp_path / "other.json").write_text(content)
        with pytest.raises(UserError, match=r"--digests: '.*other.json' should be a manifest.json"):
            stop_if_other(tmp_path / "two", tmp_path / "other.json")

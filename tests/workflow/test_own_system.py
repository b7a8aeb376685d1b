"""A pipeline of one's own: `docs/your-own-system.md` as it is printed, and what `sysdpo new` writes."""

import re
import sys
from pathlib import Path

import pandas as pd
import pytest
import tiny_models
from printed import blocks_of, lay_out, run

PAGE = "docs/your-own-system.md"
BLOCKS = blocks_of(PAGE)
GRAPH = re.search(r"^(    question +input\n(    .*\n)+)", (Path(__file__).parents[2] / PAGE).read_text(), re.MULTILINE)
SYSDPO = (sys.executable, "-m", "sysdpo")


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's files, and a tiny model in the place of the one that it names."""
    folder = lay_out(BLOCKS, tmp_path_factory.mktemp("page"))
    (model,) = re.findall(r'from_pretrained\("([^"]+)"', BLOCKS["assistant.py"])
    words = re.findall(r"\w+", " ".join(BLOCKS.values()).lower())
    tiny_models.save_language_model(folder / model, words=words)
    return folder


def test_the_page_is_short() -> None:
    code = [text for name, text in BLOCKS.items() if name.endswith(".py")]
    assert sum(len(re.findall(r"^.*\S.*$", text, re.MULTILINE)) for text in code) < 40


def test_the_pages_system_is_checked_as_printed(printed: Path) -> None:
    said = run(printed, *SYSDPO, "check", "assistant.py:make", "--preferences", "preferences.jsonl")
    assert GRAPH
    weights = re.compile(r"[\d,]+ weights")
    assert weights.sub("", said).startswith(weights.sub("", re.sub("^    ", "", GRAPH[1], flags=re.MULTILINE)))
    assert "All is well: 6 prompts, 3 nodes sampled on 3 of them, gradients reach 'fact' and 'answer'." in said


def test_the_pages_system_is_trained_as_printed(printed: Path) -> None:
    said = run(printed, sys.executable, "train.py")
    assert re.match(r"preferred as people do: [01]\.\d+\n", said)
    assert "aligned" in said
    assert (printed / "aligned/adapters/answer/adapter_model.safetensors").exists()


def test_what_new_writes_is_well_and_reaches_the_report(tmp_path: Path) -> None:
    lay_out({}, tmp_path)
    said = run(tmp_path, *SYSDPO, "new", "helpdesk", "--folder", "mine")
    check, snakemake = (line.split() for line in said.splitlines()[1:])
    assert (check[0], snakemake[0]) == ("sysdpo", "snakemake")
    assert len((tmp_path / "mine/helpdesk.jsonl").read_text().splitlines()) == 20
    assert "All is well: 20 prompts" in run(tmp_path, *SYSDPO, *check[1:])
    config = tmp_path / "mine/helpdesk.yaml"
    config.write_text(config.read_text().replace("seeds: [0, 1]", "seeds: [0]"))
    run(tmp_path, *SYSDPO, "warm", *(sys.executable, "-m"), *snakemake)
    results = tmp_path / "results/helpdesk"
    assert "helpdesk" in (results / "report.html").read_text()
    assert [path.name for path in (results / "runs").iterdir()] == ["helpdesk"]
    metrics = pd.read_csv(results / "metrics.csv")
    right = metrics[metrics["metric"] == "right"].set_index("method")["mean"]
    assert min(right["direct"], right["sampling"]) > right["before"] + 0.2
    # Without the warm process the same jobs are planned: none is left to do, and new rows are new jobs.
    planned = (sys.executable, "-m", *snakemake, "--dry-run")
    assert "rule prompts:" not in run(tmp_path, *planned)
    rows = tmp_path / "mine/helpdesk.jsonl"
    rows.write_text(rows.read_text().replace("lamp", "chair"))
    assert "rule prompts:" in run(tmp_path, *planned)

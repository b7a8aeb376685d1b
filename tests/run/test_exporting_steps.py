"""The steps `try`, `export` and `manifest --crate`, and the page that tells of them."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tiny_models
import torch
import yaml
from coin_system import CONFIG
from PIL import Image
from steps import Steps

from sysdpo.base.errors import UserError
from sysdpo.method.config import load_config, method_settings
from sysdpo.report.side_by_side import as_text, write_page, write_pictures
from sysdpo.run.cli import main
from sysdpo.run.inputs import benchmark_of, inputs_of
from sysdpo.run.manifest import checksums
from sysdpo.run.trained import identity, write_identity

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs/export.md").read_text()
SYSTEM, PROMPT = "two_stage_qa", "tom has 7 pears , finds 2 , loses 3"
METRICS = "system,method,metric,mean,ci_low,ci_high,n_prompts,n_contents,n_seeds,higher_is_better\n"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `results` as a run leaves them, of models that have hardly been trained."""
    root = tmp_path_factory.mktemp("finished")
    config = yaml.safe_load((REPOSITORY / "config.yaml").read_text())
    described = config["systems"][SYSTEM]
    described["prompts"] |= {"train": 4, "validation": 2, "test": 4}
    for settings in described["foundation"].values():
        settings |= {"examples": 100, "steps": 2}
    config |= {"systems": {SYSTEM: described}, "seeds": [0], "claims": None, "experiments": {}, "studies": {}}
    steps = Steps(root / "results", config)
    for model in described["foundation"]:
        assert steps("foundation", model=model) == 0
    loaded = load_config(steps.config)
    torch.manual_seed(0)
    for method, trained in {"sampling": ("first", "second"), "only_first": ("first",)}.items():
        models = benchmark_of(loaded, SYSTEM).system(steps.run / "foundation")
        for name in trained:
            tiny_models.perturb(models.components[name])
            models.components[name].save(steps.run / method / "training" / "adapters" / name)
        settings = method_settings(loaded, SYSTEM, method)
        write_identity(steps.run / method / "training", identity(SYSTEM, method, 0, settings))
    rows = "".join(f"{SYSTEM},{method},accuracy,0.6,0.5,0.7,220,220,5,True\n" for method in ("before", "sampling"))
    (root / "results/metrics.csv").write_text(METRICS + rows)
    (root / "results/figures").mkdir()
    Image.new("RGB", (2, 2)).save(root / "results/figures/a b.png")
    return root


@pytest.fixture
def there(finished: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Within the folder of the run; what is written there is noticed."""
    monkeypatch.chdir(finished)
    return finished


def words(step: str, **over: Any) -> list[str]:
    """The command line of a step on that run."""
    given: dict[str, Any] = {"config": "results/config.yaml", "system": SYSTEM, "seed": 0}
    given |= {"runs": f"results/runs/{SYSTEM}"}
    given |= {"method": "sampling", "output": "refused"} if step == "export" else {"methods": "before,sampling"}
    named = [(f"--{name}", str(value)) for name, value in (given | over).items() if value is not None]
    return [step, *(word for pair in named for word in pair)]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_page_is_true(there: Path, capsys: pytest.CaptureFixture) -> None:
    """Its commands first, which write what its programs read."""
    for block in blocks("bash"):
        program, *rest = shlex.split(block)
        assert program == "sysdpo"
        assert main(rest) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^Before alignment +SysDPO-Sampling$", printed, re.MULTILINE)
    for code in blocks("python"):
        exec(code, {})
    assert sorted(path.name for path in (there / "exported").iterdir()) == [
        *("README.md", "adapters", "merged", "models", "system.json"),
    ]
    card = (there / "exported/merged/second/README.md").read_text()
    assert "| Accuracy (%) | 60.0 \\[50.0, 70.0\\] |" in card
    assert "over 5 seeds" in card
    assert "| `sysdpo` | 0.1.0" in card
    for name in method_settings(load_config(there / "results/config.yaml"), SYSTEM, "sampling").model_dump():
        assert name in ("label", "meaning", "role") or f"| `{name}` |" in card, name
    check_crate(there / "results")


def check_crate(results: Path) -> None:
    crate = json.loads((results / "ro-crate-metadata.json").read_text())
    entities = {entity["@id"]: entity for entity in crate["@graph"]}
    assert len(entities) == len(crate["@graph"])
    assert crate["@context"][0] == "https://w3id.org/ro/crate/1.1/context"
    described = entities["ro-crate-metadata.json"]
    assert described["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    root = entities[described["about"]["@id"]]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", root["datePublished"])
    assert {"name", "description", "license", "hasPart"} <= set(root)
    files = {entity["name"]: entity for entity in entities.values() if entity["@type"] == "File"}
    digests = checksums(results)
    assert set(files) == {name for name in digests if not name.startswith("runs/")} | {"manifest.json"}
    assert "ro-crate-metadata.json" not in json.loads((results / "manifest.json").read_text())["files"]
    assert all(files[name]["sha256"] == digests[name] for name in files if name != "manifest.json")
    assert entities["figures/a%20b.png"]["encodingFormat"] == "image/png"
    assert entities["#sysdpo"]["softwareVersion"] == "0.1.0"
    referred = {part["@id"] for part in [*root["hasPart"], root["license"], *root["mentions"]]}
    assert referred <= set(entities)
    assert entities["#run"]["object"] == [{"@id": "config.yaml"}]


def test_the_system_of_a_method_that_trains_one_model(there: Path, tmp_path: Path) -> None:
    assert main(words("export", method="only_first", output=tmp_path / "out")) == 0
    assert sorted(path.name for path in (tmp_path / "out/merged").iterdir()) == ["first"]
    assert (
        "Trained: the adapters of `first`. Frozen: the base models under them, and `second`."
        in (tmp_path / "out/README.md").read_text()
    )


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ({"method": "before"}, "--method: 'before' trains nothing; it should be one of ['direct', "),
        ({"method": "sampeling"}, "'sampeling'"),
        (
            {"method": "direct"},
            "--runs: 'results/runs/two_stage_qa/0/direct/training' should be a folder that the step",
        ),
        ({"system": "two_stage"}, "'two_stage'"),
        (
            {"seed": 3},
            "--runs: 'results/runs/two_stage_qa' should be a system's runs, with the folder '3' of this seed",
        ),
        ({"runs": "nowhere"}, "--runs: 'nowhere' should be a system's runs"),
        ({"foundation": "nowhere"}, "model: 'nowhere/first' cannot be loaded"),
        ({"metrics": "results/config.yaml"}, "'results/config.yaml'"),
        ({"method": "only_first", "metrics": "results/metrics.csv"}, "should have rows of the method 'only_first'"),
        ({"output": "results/figures"}, "should be a new folder, or hold an earlier export"),
        ({"output": "results/runs"}, "would replace 'results/runs/two_stage_qa', which this step reads"),
    ],
)
def test_an_export_that_cannot_be(there: Path, capsys: pytest.CaptureFixture, over: dict, said: str) -> None:
    refused("export", words("export", **over), said, there, capsys)


@pytest.mark.parametrize(
    ("over", "prompt", "said"),
    [
        ({"methods": ","}, [PROMPT], "--methods: ',' should name a method"),
        ({"methods": "before,best_of_n"}, [PROMPT], "--methods: 'best_of_n' keeps the best of 4 by a score"),
        ({"methods": "before,direct"}, [PROMPT], "--runs: 'results/runs/two_stage_qa/0/direct/training' should be"),
        ({"samples": 0}, [PROMPT], "--samples: 0 should be at least 1"),
        ({}, [PROMPT, "more"], "PROMPT: 'more' should be left out; the system's only input is 'text'"),
        ({}, [PROMPT, "text=more"], "PROMPT: 'text=more' should be left out"),
        ({}, [], "PROMPT should be given"),
        ({"page": "results/figures"}, [PROMPT], "is a folder, where this step makes a file"),
        ({"page": "results/metrics.csv"}, [PROMPT], "is no file of the kind that this step makes"),
        ({"pictures": "results/figures"}, [PROMPT], "holds 'a b.png', which this step does not make"),
    ],
)
def test_a_try_that_cannot_be(there: Path, capsys: pytest.CaptureFixture, over: dict, prompt: list, said: str) -> None:
    refused("try", [*words("try", **over), *prompt], said, there, capsys)


def test_a_crate_lies_in_the_results(there: Path, capsys: pytest.CaptureFixture) -> None:
    command = ["manifest", "--config", "results/config.yaml", "--results", "results", "--output", "m.json"]
    refused(
        "manifest", [*command, "--crate", "crate.json"], "--crate: 'crate.json' should be 'results/ro-", there, capsys
    )


def refused(step: str, command: list[str], said: str, root: Path, capsys: pytest.CaptureFixture) -> None:
    """One sentence, exit code 2, nothing written."""
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    capsys.readouterr()
    assert main(command) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    sentences = [line for line in printed.err.splitlines() if line.startswith(f"sysdpo {step}: ")]
    assert len(sentences) == 1, printed.err
    assert said in sentences[0]
    assert "Traceback" not in printed.err
    after = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert {path for path in after if path.is_file()} == {path for path in before if path.is_file()}
    assert all(after[path] == before[path] for path in before if path.is_file())


def test_a_component_that_others_cannot_load_is_not_exported(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    steps = Steps(tmp_path / "coins", CONFIG)
    steps.prepare()
    assert steps("train", method="direct") == 0
    command = ["export", "--config", str(steps.config), "--system", "coins", "--seed", "0", "--method", "direct"]
    command += ["--runs", str(steps.runs), "--output", str(tmp_path / "out")]
    said = "component 'first': a Coin should be made by from_pretrained, and have save_model, save_adapter and usage"
    refused("export", command, said, tmp_path, capsys)


def test_a_try_is_a_page_with_every_variable(there: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["try", "--all-nodes", *words("try", samples=2, page=tmp_path / "try.html")[1:], PROMPT]) == 0
    printed = capsys.readouterr().out
    order = re.findall(r"^(draft|answer), sample (\d)$", printed, re.MULTILINE)
    assert order == [("draft", "1"), ("answer", "1"), ("draft", "2"), ("answer", "2")]
    page = (tmp_path / "try.html").read_text()
    assert PROMPT in page
    assert page.count('<th scope="row">') == 4


class Page(HTMLParser):
    """Its tags, and whatever they load."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loaded += [str(value) for name, value in attributes if name in ("src", "href")]


@pytest.fixture
def table() -> pd.DataFrame:
    """What two systems made: texts, one of them hostile, and pictures."""
    index = pd.MultiIndex.from_tuples([("caption", 0), ("image", 0)], names=["variable", "sample"])
    values = {
        "Before alignment": ["a cat\nthat sits", Image.new("RGB", (4, 4), "red")],
        "SysDPO-Direct": ["<script>alert(1)</script>\x1b[31m", Image.new("RGB", (4, 4), "blue")],
    }
    return pd.DataFrame(values, index=index)


def test_a_page_has_its_pictures_in_it_and_no_code_of_a_models(table: pd.DataFrame, tmp_path: Path) -> None:
    write_page(table, "<b>Title</b>", {"text": "<i>draw</i>"}, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    page = Page(text)
    assert not {"script", "b", "i", "link"} & set(page.tags)
    assert len(page.loaded) == 2
    assert all(source.startswith("data:image/png;base64,") for source in page.loaded)
    assert "http" not in text


def test_texts_stand_side_by_side_and_cannot_command_a_terminal(table: pd.DataFrame) -> None:
    text = as_text(table, width=60)
    assert text.splitlines()[3:6] == [
        "caption",
        "a cat                          <script>alert(1)</script>\\x1",
        "that sits                      b[31m",
    ]
    assert "\x1b" not in text
    assert "(picture, 4 x 4 pixels)" in text


def test_pictures_are_files_named_by_variable_sample_and_method(table: pd.DataFrame, tmp_path: Path) -> None:
    write_pictures(table, tmp_path / "drawn")
    names = sorted(path.name for path in (tmp_path / "drawn").iterdir())
    assert names == ["image-1-before_alignment.png", "image-1-sysdpo_direct.png"]
    with Image.open(tmp_path / "drawn" / names[1]) as drawn:
        assert drawn.getpixel((0, 0)) == (0, 0, 255)


def test_further_inputs_are_named() -> None:
    assert inputs_of(["1 + 1 = 2", "hint=x=y"], ("text", "hint")) == {"text": "1 + 1 = 2", "hint": "x=y"}
    assert inputs_of(["hint=x", "text=a"], ("text", "hint")) == {"text": "a", "hint": "x"}
    with pytest.raises(UserError, match="the input 'hint' should be given, as hint=VALUE"):
        inputs_of(["a"], ("text", "hint"))


def test_the_program_shows_the_new_steps() -> None:
    done = subprocess.run([sys.executable, "-m", "sysdpo", "--help"], capture_output=True, text=True, cwd=REPOSITORY)
    assert re.search(r"│ try ", done.stdout)
    assert re.search(r"│ export ", done.stdout)

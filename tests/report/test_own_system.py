"""A system, a metric and a figure that this file alone knows, from their evaluations to the page."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from matplotlib.figure import Figure

from sysdpo.base.errors import UserError
from sysdpo.base.files import write_table
from sysdpo.base.tables import VALUE_COLUMNS
from sysdpo.method.description import Description, Metric, Texts
from sysdpo.report.descriptions import read_descriptions
from sysdpo.report.figure import figure
from sysdpo.report.run import Run
from sysdpo.run.cli import main

METHODS = {
    "as_is": {"objective": "none"},
    "only_scout": {"objective": "only_scout"},
    "apart": {"objective": "separate"},
    "together": {"objective": "direct", "label": "All hands", "meaning": "Everyone learns."},
}
HERE = "own_system"


class Convoy:
    """Two components under names that nothing else has; what it drives is not computed."""

    inputs = ("text",)
    nodes = ()
    foundations: Mapping[str, Any] = {}
    description = Description(
        title="The convoy",
        story="A scout looks ahead, and a driver follows.",
        components={"scout": "the scout", "driver": "the driver at the back"},
        metrics={"headway": Metric("Headway", False, "metres", 1, "distance between the two")},
        headline=("headway",),
        checks=("headway",),
        texts=Texts({"Sighting": "sighting"}, metric="headway"),
    )

    def score(self, prompts: pd.DataFrame, trajectories: pd.DataFrame, foundation: Path) -> pd.DataFrame:
        raise NotImplementedError


def build(settings: Mapping[str, Any]) -> Convoy:
    return Convoy()


@figure(heading="Headways under {subject}", caption="Drawn by a figure of one's own.")
def headways(run: Run) -> Figure:
    drawn = Figure()
    drawn.subplots().bar(range(len(run.methods)), run.values().groupby("method")["value"].mean()[run.methods])
    drawn.text(0.1, 0.9, f"in {run.shown.metric('headway').unit}")
    return drawn


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration, and evaluations of its methods at two seeds; this file is importable as `own_system`."""
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / f"{HERE}.py").write_text(Path(__file__).read_text().replace("headways", "own_headways"))
    rates = {"scout": 0.1, "driver": 0.1}
    convoy = {
        "factory": f"{HERE}:build",
        "components": {"scout": {}, "driver": {}},
        "trajectories": {"samples_per_prompt": 2},
        "training": {"learning_rate": rates, "chosen_weight": dict.fromkeys(rates, 0.0)},
        "methods": METHODS,
        "baselines": ["as_is", "apart", "only_scout"],
        "evaluation": {"samples_per_prompt": 1},
        "figures": ["comparison", "frontier", f"{HERE}:own_headways"],
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"systems": {"convoy": convoy}, "results": str(tmp_path)}))
    runs = tmp_path / "runs" / "convoy"
    for number, method in enumerate(METHODS):
        for seed in (0, 1):
            rows = [
                (f"p{prompt}", f"p{prompt}", 0, metric, value + prompt / 7 + seed / 9)
                for prompt in range(4)
                for metric, value in (("headway", 50.0 - 9 * number), ("kl_scout", 0.5), ("kl_driver", 0.25))
            ]
            folder = runs / str(seed) / method / "evaluation"
            write_table(pd.DataFrame(rows, columns=list(VALUE_COLUMNS)), folder / "metrics.parquet")
            samples = [(f"p{prompt}", 0, f"{method} sees {prompt}", 4.0 * prompt) for prompt in range(4)]
            write_table(
                pd.DataFrame(samples, columns=["prompt_id", "sample", "sighting", "score"]), folder / "samples.parquet"
            )
    prompts = pd.DataFrame({"prompt_id": [f"p{n}" for n in range(4)], "split": "test", "text": "ahead?"})
    write_table(prompts, runs / "prompts.parquet")
    return path


def test_they_come_through_under_their_own_names_and_units(config: Path, tmp_path: Path) -> None:
    folders = [str(path) for path in sorted((tmp_path / "runs" / "convoy").glob("*/*/evaluation"))]
    described = ["--descriptions", str(tmp_path / "descriptions.json")]
    tables = ["--metrics", str(tmp_path / "metrics.csv"), "--comparisons", str(tmp_path / "comparisons.csv")]

    def step(name: str, *options: str) -> None:
        assert main([name, "--config", str(config), *options]) == 0

    def output(name: str) -> list[str]:
        return ["--output", str(tmp_path / name)]

    step("describe", *output("descriptions.json"))
    step("metrics", *described, "--evaluations", *folders, *tables[2:], *output("metrics.csv"))
    step("tables", "--system", "convoy", *described, *tables, *output("tables/convoy.md"))
    for name in ("comparison", "own_headways"):
        options = ["--system", "convoy", "--figure", name, *described, *tables]
        step("figure", *options, "--runs", str(tmp_path / "runs" / "convoy"), *output("figures"))
    step("report", "--results", str(tmp_path), *described, *output("report.html"))

    metrics = pd.read_csv(tmp_path / "metrics.csv")
    assert not metrics.loc[metrics["metric"] == "headway", "higher_is_better"].any()
    table = (tmp_path / "tables" / "convoy.md").read_text()
    assert (
        "| Method | Headway (metres) | KL, driver (nats) | KL, scout (nats) | All hands − this, headway (metres) |"
        in table
    )
    assert re.search(r"\| All hands \| \*\*23\.3\*\* ", table)
    assert "| Only the scout |" in table
    assert "in metres</text>" in (tmp_path / "figures" / "convoy_own_headways.svg").read_text()
    page = (tmp_path / "report.html").read_text()
    for text in (
        *("The convoy", "A scout looks ahead, and a driver follows.", "Headways under All hands", "Everyone learns."),
        "Headway (distance between the two) improves: from 50.3 metres before alignment to 23.3 metres under All hands",
        "In headway All hands is better than separate DPO, by −9.0 metres",
        "DPO on the scout; the driver at the back stays as it is.",
        *("<dt>Sighting</dt><dd>together sees 2</dd>", "mean headway 8.0"),
        *("The figure “Score against drift” cannot be shown: figures/convoy_frontier.svg is not there.",),
    ):
        assert text in page, text


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        (
            ["headway", "noise"],
            r"\['noise'\] should be declared in the benchmark's description, each with its direction",
        ),
        ([], r"the benchmark's description declares \['headway'\], which are not measured"),
    ],
)
def test_what_is_measured_is_what_is_declared(metrics: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Convoy.description.check_measured(metrics, "the system's metrics")
    Convoy.description.check_measured(["headway"], "the system's metrics")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"evaluation": {"samples_per_prompt": 1, "greedy": ["noise"]}},
            "evaluation.greedy: ['noise'] should be among",
        ),
        (
            {"evaluation": {"samples_per_prompt": 1, "win_rates_against": ["us"]}},
            "win_rates_against: 'us' should be one of",
        ),
        ({"figures": [f"{HERE}:nothing"]}, "figures: 'own_system:nothing' should name a function"),
        ({"figures": ["nothing"]}, "figures: 'nothing' should be one of"),
    ],
)
def test_a_name_that_names_nothing_is_refused_before_any_training(
    config: Path, tmp_path: Path, change: dict, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = yaml.safe_load(config.read_text())
    settings["systems"]["convoy"] |= change
    config.write_text(yaml.safe_dump(settings))
    assert main(["describe", "--config", str(config), "--output", str(tmp_path / "descriptions.json")]) == 2
    assert message in capsys.readouterr().err


def test_a_claim_about_a_metric_that_nobody_declares_is_refused(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = {"id": "one", "system": "convoy", "metric": "hedway", "method": "together", "sign": "above"}
    (tmp_path / "claims.yaml").write_text(yaml.safe_dump({"claims": [line]}))
    config.write_text(config.read_text() + f"claims: {tmp_path / 'claims.yaml'}\n")
    assert main(["describe", "--config", str(config), "--output", str(tmp_path / "descriptions.json")]) == 2
    assert "claims: 'one' is about 'hedway', which should be one of ['headway'" in capsys.readouterr().err


def test_what_the_step_describe_did_not_write_is_refused(tmp_path: Path) -> None:
    for content in ("{", "[]", '{"systems": {"s": {"title": 1}}, "studies": []}'):
        (tmp_path / "d.json").write_text(content)
        with pytest.raises(UserError, match="should be what the step `describe` writes"):
            read_descriptions(tmp_path / "d.json")

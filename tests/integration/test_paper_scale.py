"""The paper's scale from its first prompt to the report, with tiny random models of the same classes."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from clone import clone, warm_snakemake
from tiny_hub import save_hub

PAPER, SMALL_GPU = "workflow/scales/paper.yaml", "workflow/scales/small-gpu.yaml"
SYSTEMS = ("picture_series", "chat_refinement")
OWN_METRICS = {
    "picture_series": {
        *("order_consistency", "spread", "well_formed", "caption_fidelity"),
        *("readout_score", "readout_order_consistency", "kl_writer", "kl_painter"),
    },
    "chat_refinement": {
        *("reward", "draft_reward", "judge_score", "length", "draft_length"),
        *("win_rate_vs_before", "win_rate_vs_separate", "kl_drafter", "kl_refiner"),
    },
}

LEFT_OUT = {
    "picture_series": ["only_writer", "only_painter", "shuffled"],
    "chat_refinement": ["only_drafter", "only_refiner", "single_sample"],
}
"""Rows that take time and go through no code that the others do not; `make rehearse` has them."""


class Rehearsal:
    """A copy of the project, and everything that one command makes in it."""

    def __init__(self, folder: Path):
        self.folder = clone(folder / "project")
        self.paper = yaml.safe_load((self.folder / PAPER).read_text())
        fewer = {}
        for system, left_out in LEFT_OUT.items():
            baselines = [name for name in self.paper["systems"][system]["baselines"] if name not in left_out]
            fewer[system] = {"methods": dict.fromkeys(left_out), "baselines": baselines}
        without = {"experiments": dict.fromkeys(self.paper["experiments"]), "claims": None}
        (folder / "fewer.yaml").write_text(yaml.safe_dump({"systems": fewer} | without))
        self.scales = (PAPER, str(save_hub(folder / "hub")), str(folder / "fewer.yaml"))
        self.results = self.folder / yaml.safe_load(Path(self.scales[1]).read_text())["results"]

    def snakemake(self, *arguments: str, scales: tuple[str, ...]) -> str:
        return warm_snakemake(self.folder, *arguments, "--configfile", *scales, numerics="native")

    def methods(self, system: str) -> dict[str, dict]:
        rows = self.paper["systems"][system]["methods"]
        return {name: row for name, row in rows.items() if name not in LEFT_OUT[system]}


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory: pytest.TempPathFactory) -> Rehearsal:
    made = Rehearsal(tmp_path_factory.mktemp("paper"))
    made.snakemake(scales=made.scales)
    return made


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_method_is_measured_in_every_metric(rehearsal: Rehearsal, system: str) -> None:
    table = pd.read_csv(rehearsal.results / "metrics.csv").query("system == @system")
    assert set(table["method"]) == set(rehearsal.methods(system))
    wanted = OWN_METRICS[system] | {"preference_score"}
    for method, part in table.groupby("method"):
        assert set(part["metric"]) >= wanted - {f"win_rate_vs_{method}"}, method
    assert np.isfinite(table["mean"]).all()
    before = table.query("method == 'before' and metric.str.startswith('kl_')", engine="python")
    assert len(before) == 2
    assert (before["mean"] == 0).all()


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_trained_method_starts_at_its_reference_and_leaves_it(rehearsal: Rehearsal, system: str) -> None:
    trained = {name: row for name, row in rehearsal.methods(system).items() if row["objective"] != "none"}
    for name, row in trained.items():
        folder = rehearsal.results / "runs" / system / "0" / name / "training"
        log = pd.read_json(folder / "training.jsonl", lines=True)
        margins = log.filter(regex="^margin")
        assert (margins.iloc[0] == 0).all(), name
        assert (margins.iloc[-1] != 0).any(), name
        components = set(rehearsal.paper["systems"][system]["components"])
        only = row["objective"].removeprefix("only_")
        assert {path.name for path in (folder / "adapters").iterdir()} == ({only} if only in components else components)


def test_the_data_set_s_preferences_are_its_own_and_have_no_draft(rehearsal: Rehearsal) -> None:
    dataset = rehearsal.results / "runs/chat_refinement/dataset"
    trajectories = pd.read_parquet(dataset / "trajectories.parquet")
    assert not any("draft" in column for column in trajectories.columns)
    prompts = pd.read_parquet(dataset.parent / "prompts.parquet").set_index("prompt_id")
    chosen = set(pd.read_parquet(dataset / "pairs.parquet")["chosen_id"])
    for row in trajectories.itertuples():
        text = prompts.loc[row.prompt_id, "chosen" if row.trajectory_id in chosen else "rejected"]
        assert text.startswith(row.answer) or row.answer.startswith(text)


@pytest.mark.parametrize("system", SYSTEMS)
def test_tables_figures_and_the_report_are_made(rehearsal: Rehearsal, system: str) -> None:
    for figure in [name.rpartition(":")[2] for name in rehearsal.paper["systems"][system]["figures"]]:
        assert (rehearsal.results / "figures" / f"{system}_{figure}.png").stat().st_size > 5_000
    table = (rehearsal.results / "tables" / f"{system}.md").read_text()
    assert table.count("\n| ") == len(rehearsal.methods(system))
    page = (rehearsal.results / "report.html").read_text()
    assert page.count("data:image/png") >= 2 * len(rehearsal.paper["systems"][system]["figures"]) - 4


def test_nothing_is_left_to_do(rehearsal: Rehearsal) -> None:
    assert "Nothing to be done" in rehearsal.snakemake("--dry-run", scales=rehearsal.scales)


def test_the_small_gpu_s_scale_is_the_paper_s_with_less(rehearsal: Rehearsal) -> None:
    shown = rehearsal.snakemake("--dry-run", scales=(PAPER, SMALL_GPU))
    assert "results/small-gpu/report.html" in shown
    assert "sample_shard" not in shown

import shutil
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from described import committed
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sysdpo.base.errors import UserError
from sysdpo.report import files
from sysdpo.report.descriptions import Descriptions
from sysdpo.report.experiments import Experiment, experiment_figure
from sysdpo.report.figures.sampling import sampling
from sysdpo.report.files import read_samples
from sysdpo.report.run import write_figure
from sysdpo.report.samples import pick_pictures
from sysdpo.report.statistics import total_drift
from sysdpo.report.style import LOOKS, save, styled

SYSTEM = "progressive_images"
GALLERY = "sysdpo.applications.images.gallery:gallery"
QA = committed().system("two_stage_qa")
FIGURES = {
    SYSTEM: ("comparison", "gallery", "attributes", "training", "frontier", "words"),
    "two_stage_qa": ("comparison", "sampling", "credit"),
}


def test_figures_in_both_formats_and_the_same_bytes_again(run_of, made_up_figures: Path, tmp_path: Path) -> None:
    names = ("comparison", "gallery", "training")
    for name in ("comparison", GALLERY, "training"):
        write_figure(run_of(SYSTEM), name, tmp_path)
    expected = sorted(f"{SYSTEM}_{name}.{kind}" for name in names for kind in ("png", "svg"))
    assert sorted(path.name for path in tmp_path.iterdir()) == expected
    for name in expected:
        assert (made_up_figures / name).read_bytes() == (tmp_path / name).read_bytes(), name


def test_every_figure_of_every_system_is_there(made_up_figures: Path) -> None:
    expected = {
        f"{system}_{name}.{kind}" for system, names in FIGURES.items() for name in names for kind in ("png", "svg")
    }
    there = {path.name for path in made_up_figures.iterdir() if path.name.startswith(tuple(FIGURES))}
    assert there == expected


def test_svg_text_is_text_and_carries_no_date(made_up_figures: Path) -> None:
    svg = (made_up_figures / f"{SYSTEM}_comparison.svg").read_text()
    assert ">SysDPO-Direct</text>" in svg
    assert "<dc:date>" not in svg


def test_methods_differ_without_their_colours() -> None:
    for attribute in ("marker", "dash"):
        drawn = [getattr(look, attribute) for looks in LOOKS.values() for look in looks]
        assert len(set(drawn)) == len(drawn), attribute


def test_missing_column_of_the_evaluation_is_named(made_up_results: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    folder = runs / "0" / "direct" / "evaluation"
    folder.mkdir(parents=True)
    pd.DataFrame({"prompt_id": ["p0"], "sample": [0]}).to_parquet(folder / "samples.parquet")
    with pytest.raises(UserError, match=r"lacks the columns \['attribute_1'\]"):
        files.read_evaluations(runs, "samples.parquet", ["direct"], ["prompt_id", "attribute_1"])


def test_runs_that_are_not_there(run_of, tmp_path: Path) -> None:
    run = replace(run_of(SYSTEM), folder=tmp_path / "nothing")
    with pytest.raises(UserError, match=r"prompts.parquet' should be a .parquet table, but cannot be read"):
        write_figure(run, GALLERY, tmp_path / "figures")
    with pytest.raises(UserError, match=r"progressive_images.figures: 'galery' should be one of \['"):
        write_figure(run, "galery", tmp_path / "figures")
    assert not (tmp_path / "figures").exists()


def test_figure_that_fails_to_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: Figure, path: Path, **_: object) -> None:
        Path(path).write_bytes(b"half a picture")
        raise KeyboardInterrupt

    monkeypatch.setattr(Figure, "savefig", interrupted)
    with styled(), pytest.raises(KeyboardInterrupt):
        save(Figure(), tmp_path, "figure")
    assert list(tmp_path.iterdir()) == []


def test_steps_count_on_across_rounds(made_up_results: Path) -> None:
    logs = files.read_training(made_up_results / "runs" / SYSTEM, ["direct"])
    one = logs[logs["seed"] == 0]
    assert list(one["step"]) == [*range(0, 20, 2), *range(18, 38, 2)]


def test_total_drift_adds_the_components_of_a_sample() -> None:
    values = pd.DataFrame(
        [
            ("direct", 0, p, p, s, f"kl_{c}", v)
            for p in "pq"
            for s, c, v in ((0, "a", 1.0), (0, "b", 2.0), (1, "a", 3.0), (1, "b", 4.0))
        ],
        columns=["method", "seed", "prompt_id", "content", "sample", "metric", "value"],
    )
    assert total_drift(values).to_dict("index") == {"direct": {"mean": 5.0, "ci_low": 5.0, "ci_high": 5.0}}


def test_gallery_takes_the_typical_prompt_of_each_attribute_and_the_same_for_all(
    made_up_results: Path, described: Descriptions
) -> None:
    runs, shown = made_up_results / "runs" / SYSTEM, described.system(SYSTEM)
    exhibits = pick_pictures(shown, shown.pictures, runs, ["direct", "before"])
    prompts = pd.read_parquet(runs / "prompts.parquet").set_index("prompt_id")
    samples = pd.read_parquet(runs / "0" / "direct" / "evaluation" / "samples.parquet").query("sample == 0")
    samples = samples.assign(attribute=samples["prompt_id"].map(prompts["attribute"]))
    for exhibit, (_, group) in zip(exhibits, samples.groupby("attribute"), strict=True):
        score = group.loc[group["prompt_id"].map(prompts["text"]) == exhibit.prompt, "score"].item()
        assert (group["score"] < score).sum() == len(group) // 2
        assert list(exhibit.series) == ["before", "direct"]
        for one in exhibit.series.values():
            assert one.right == (one.levels[0] < one.levels[1] < one.levels[2])


def test_for_a_requested_fall_the_attribute_is_reflected(made_up_results: Path, tmp_path: Path) -> None:
    runs = shutil.copytree(made_up_results / "runs" / SYSTEM, tmp_path / "runs")
    columns = {"levels": ["attribute_1"], "direction": "direction"}
    rising = read_samples(runs, ["direct"], ["prompt_id", "sample"], **columns)
    prompts = pd.read_parquet(runs / "prompts.parquet").assign(direction=1)
    turned = prompts["prompt_id"].iloc[0]
    prompts.loc[prompts["prompt_id"] == turned, "direction"] = -1
    prompts.to_parquet(runs / "prompts.parquet")
    read = read_samples(runs, ["direct"], ["prompt_id", "sample"], **columns)
    expected = rising["attribute_1"].where(rising["prompt_id"] != turned, 1 - rising["attribute_1"])
    pd.testing.assert_series_equal(read["attribute_1"], expected)


def test_experiment_figure_in_both_formats(made_up_figures: Path) -> None:
    assert {path.name for path in made_up_figures.glob("experiment_*")} == {
        "experiment_beta.png",
        "experiment_beta.svg",
    }


def test_grid_of_many_settings_is_ranked() -> None:
    grid = [(b, r, s) for b in (0.1, 1.0) for r in (1e-4, 2e-4, 4e-4) for s in (10, 20)]
    table = pd.DataFrame(
        [
            {"variant": f"tune-direct-{i:02d}", "system": SYSTEM, "method": "direct", "beta": b, "learning_rate": r,
             "steps": s, "metric": "order_consistency", "mean": i / 20, "ci_low": i / 20, "ci_high": i / 20}
            for i, (b, r, s) in enumerate(grid)
        ]
    )  # fmt: skip
    assert Experiment(table, None).varied == ["beta", "learning_rate", "steps"]
    rng = np.random.default_rng(0)
    table["other"] = rng.integers(0, 9, len(table))
    assert len(experiment_figure(Experiment(table, None), committed().system(SYSTEM)).axes) > 0


def test_experiment_that_varies_nothing() -> None:
    row = {
        "variant": "x-direct-00",
        "system": SYSTEM,
        "method": "direct",
        "beta": 0.5,
        "metric": "spread",
        "mean": 0,
        "ci_low": 0,
        "ci_high": 0,
    }
    with pytest.raises(UserError, match="varies no setting"):
        experiment_figure(Experiment(pd.DataFrame([row]), None), committed().system(SYSTEM))


def grid_of(methods: dict[str, float], **settings: tuple[object, ...]) -> pd.DataFrame:
    """An experiment's table: each method's mean is its number plus a tenth a step of the last setting."""
    rows = [
        {"variant": "", "system": "two_stage_qa", "method": method, "metric": "accuracy", "mean": base + 0.1 * index}
        | dict(zip(settings, point, strict=True))
        for method, base in methods.items()
        for point in product(*settings.values())
        for index in [list(settings.values())[-1].index(point[-1])]
    ]
    return pd.DataFrame(rows).assign(ci_low=lambda table: table["mean"], ci_high=lambda table: table["mean"])


def heights(axes: Axes) -> list[list[float]]:
    """The points of each line that has markers, rounded; bars and zero lines have none."""
    lines = [line for line in axes.lines if line.get_marker() not in ("None", "", "_", None)]
    return [np.round(line.get_ydata(), 6).tolist() for line in lines]


def test_one_method_over_candidates_without_comparisons() -> None:
    figure = experiment_figure(Experiment(grid_of({"sampling": 0.3}, count=(1, 2, 4, 8)), None), QA)
    (axes,) = figure.axes
    assert heights(axes) == [[30, 40, 50, 60]]
    assert axes.get_xlabel() == "candidates K"


def test_second_setting_of_one_method_has_its_own_lines() -> None:
    table = grid_of({"sampling": 0.3}, generator=("beam", "diverse_beam"), count=(1, 2, 4))
    figure = experiment_figure(Experiment(table, None), QA)
    assert heights(figure.axes[0]) == [[30, 40, 50]] * 2
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["beam", "diverse beam"]


def test_differences_are_those_of_the_pairs_that_were_compared() -> None:
    table = grid_of({"sampling": 0.3, "separate": 0.2}, count=(1, 2, 4))
    rows = [
        {"metric": "accuracy", "method": "sampling", "baseline": rival, "count": count, "difference": gain / count,
         "ci_low": 0, "ci_high": 1}
        for rival, gain in (("single_sample", 0.4), ("separate", 0.2))
        for count in (1, 2, 4)
    ]  # fmt: skip
    differences = pd.DataFrame(rows)
    axes = experiment_figure(Experiment(table, differences), QA).axes[1]
    assert axes.get_title(loc="left") == "Sampling − each (points)"
    assert heights(axes) == [[40, 20, 10], [20, 10, 5]]
    axes = experiment_figure(Experiment(table, differences[differences["baseline"] == "separate"]), QA).axes[1]
    assert axes.get_title(loc="left") == "Sampling − separate (points)"
    assert heights(axes) == [[20, 10, 5]]


def test_candidates_are_shown_of_methods_that_have_several(made_up_results: Path) -> None:
    logs = files.read_training(made_up_results / "runs" / "two_stage_qa", ["direct", "sampling", "single_sample"])
    run = SimpleNamespace(shown=QA, training=lambda: logs)
    figure = sampling(run)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["SysDPO-Sampling"]
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.get_visible()]
    assert titles[0] == "Effective sample size of the weights"
    assert len(titles) == 4
    mass = figure.axes[3].lines[0].get_ydata()
    assert np.allclose(mass, 70)
    with pytest.raises(UserError, match="several candidates"):
        sampling(SimpleNamespace(shown=QA, training=lambda: logs[logs["method"] != "sampling"]))

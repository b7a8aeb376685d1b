"""Gathering the runs of a grid into one table."""

from pathlib import Path

import pandas as pd
import pytest
from coin_system import CONFIG as COINS
from described import made_up

from sysdpo.base.errors import UserError
from sysdpo.base.files import write_table
from sysdpo.base.tables import VALUE_COLUMNS
from sysdpo.method.description import Metric
from sysdpo.run.experiments import gather, read_evaluations, summary_of

TOY = made_up("toy")
CONFIG = {
    "systems": {"toy": {"training": {}, "methods": {"direct": {}, "separate": {}}}},
    "experiments": {
        "beta": {
            "system": "toy",
            "seeds": [0, 1],
            "methods": ["direct", "separate"],
            "grid": {"beta": [0.1, 1.0]},
        }
    },
}


def evaluation(root: Path, method: str, seed: int, values: list[float]) -> Path:
    folder = root / "toy" / str(seed) / method / "evaluation"
    rows = [(f"p{row}", f"c{row}", 0, "accuracy", value) for row, value in enumerate(values)]
    write_table(pd.DataFrame(rows, columns=list(VALUE_COLUMNS)), folder / "metrics.parquet")
    return folder


def runs(root: Path) -> list[Path]:
    means = {"direct-00": [0.0, 1.0], "direct-01": [1.0, 1.0], "separate-00": [0.0, 0.5], "separate-01": [0.5, 0.0]}
    return [evaluation(root, f"beta-{name}", seed, values) for name, values in means.items() for seed in (0, 1)]


def test_evaluations_know_their_system_seed_and_method_from_their_place(tmp_path: Path) -> None:
    folders = [evaluation(tmp_path, "direct", 3, [0.5]), evaluation(tmp_path, "before", 4, [1.0])]
    read = read_evaluations(folders)
    assert read[["system", "seed", "method", "content", "value"]].to_numpy().tolist() == [
        ["toy", 3, "direct", "c0", 0.5],
        ["toy", 4, "before", "c0", 1.0],
    ]


def test_an_evaluation_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"metrics.parquet' should be a .parquet table"):
        read_evaluations([tmp_path / "toy" / "0" / "direct" / "evaluation"])


def test_every_point_of_the_grid_has_its_means_and_coordinates(tmp_path: Path) -> None:
    output = tmp_path / "beta.csv"
    gather("beta", CONFIG, runs(tmp_path / "runs"), TOY, output, tmp_path / "figures")
    table = pd.read_csv(output).set_index("variant")
    assert table["mean"].to_dict() == {
        "beta-direct-00": 0.5,
        "beta-direct-01": 1.0,
        "beta-separate-00": 0.25,
        "beta-separate-01": 0.25,
    }
    assert table["beta"].tolist() == [0.1, 1.0, 0.1, 1.0]
    assert table["method"].tolist() == ["direct", "direct", "separate", "separate"]
    assert set(table["experiment"]) == {"beta"}
    assert list((tmp_path / "figures").glob("experiment_beta*.png"))


def test_the_subject_is_compared_with_its_main_baseline_at_each_point(tmp_path: Path) -> None:
    gather("beta", CONFIG, runs(tmp_path / "runs"), TOY, tmp_path / "beta.csv", tmp_path / "figures")
    differences = pd.read_csv(tmp_path / "beta_comparisons.csv")
    # 0.5 − 0.25 at beta 0.1 and 1 − 0.25 at beta 1
    assert differences[["beta", "difference"]].to_numpy().tolist() == [[0.1, 0.25], [1.0, 0.75]]
    assert set(differences["method"] + differences["baseline"]) == {"directseparate"}


def test_an_unknown_experiment_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--experiment: 'alpha' should be one of \['beta'\]"):
        gather("alpha", CONFIG, [], TOY, tmp_path / "alpha.csv", tmp_path)


def test_only_what_is_not_trained_has_a_preference_accuracy_without_an_interval() -> None:
    methods = {
        "before": {"objective": "none"},
        "direct": {"objective": "direct"},
        "swapped": {"objective": "none", "take": {"first": "direct"}},
    }
    config = {**COINS, "systems": {"toy": COINS["systems"]["coins"] | {"methods": methods, "baselines": []}}}
    held = {"before": [0.5, 0.5, 0.5], "direct": [1.0, 1.0, 0.0], "swapped": [1.0, 0.0, 1.0]}
    rows = [
        ("toy", name, seed, f"p{row}", f"c{row}", 0, metric, value)
        for name, values in held.items()
        for row, value in enumerate(values)
        for seed in (0, 1)
        for metric in ("preference_accuracy", "accuracy")
    ]
    columns = ["system", "method", "seed", "prompt_id", "content", "sample", "metric", "value"]

    class Shares:
        def metric(self, system: str, name: str) -> Metric:
            return Metric(name, True, "%", 1)

    table = summary_of(pd.DataFrame(rows, columns=columns), config, Shares()).set_index(["metric", "method"])
    assert table.loc[("preference_accuracy", "before"), ["ci_low", "mean", "ci_high"]].tolist() == [0.5, 0.5, 0.5]
    for estimated in (("preference_accuracy", "direct"), ("preference_accuracy", "swapped"), ("accuracy", "before")):
        low, high = table.loc[estimated, ["ci_low", "ci_high"]]
        assert low < high

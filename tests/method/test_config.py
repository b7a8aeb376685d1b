"""Settings: what is read, what is merged over what, and what is refused with one clear sentence."""

import math
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from sysdpo.applications.images.settings import PainterSettings
from sysdpo.base.errors import UserError
from sysdpo.base.results_folder import check_results
from sysdpo.components.settings import Estimator, LanguageModelSettings
from sysdpo.method.config import Comparison, expand_experiments, load_config, method_rows, method_settings
from sysdpo.method.scales import without_dropped
from sysdpo.method.settings import Evaluation, MethodSettings

REPOSITORY = Path(__file__).parents[2]
TRAINING = {"learning_rate": {"a": 0.1, "b": 0.2}, "chosen_weight": {"a": 0.0, "b": 0.0}, "beta": 0.5}


def config(**method: Any) -> dict[str, Any]:
    methods = {"tried": {"objective": "direct"} | method, "before": {"objective": "none"}}
    sampled = {"samples_per_prompt": 2}
    toy = {"factory": "toy:build", "components": {"a": {}, "b": {}}, "trajectories": sampled, "evaluation": sampled}
    return {"systems": {"toy": toy | {"training": TRAINING, "methods": methods}}}


def test_a_method_is_its_row_over_the_defaults() -> None:
    settings = method_settings(config(beta=2, learning_rate={"b": 0.9}), "toy", "tried")
    assert settings.beta == 2
    assert settings.learning_rate == {"a": 0.1, "b": 0.9}
    assert settings.chosen_weight == {"a": 0.0, "b": 0.0}
    assert settings.trains
    assert not method_settings(config(), "toy", "before").trains


def test_rows_do_not_leak_into_each_other() -> None:
    described = config(learning_rate={"b": 0.9})
    assert method_settings(described, "toy", "tried").learning_rate["b"] == 0.9
    assert method_settings(described, "toy", "before").learning_rate["b"] == 0.2


@pytest.mark.parametrize(
    ("method", "sentence"),
    [
        ({"betta": 1.0}, r"systems.toy.methods.tried: unknown key 'betta'"),
        ({"beta": "large"}, "systems.toy.methods.tried.beta: 'large' should be a number"),
        ({"beta": True}, "systems.toy.methods.tried.beta: True should be a number"),
        ({"steps": 2.5}, "systems.toy.methods.tried.steps: 2.5 should be a whole number"),
        ({"learning_rate": 0.1}, "systems.toy.methods.tried.learning_rate: 0.1 should be a mapping"),
        ({"beta": 0.0}, "beta: 0.0 should be above 0"),
        ({"steps": 0}, "steps: 0 should be at least 1"),
        ({"rounds": 0}, "rounds: 0 should be at least 1"),
        ({"best_of": 0}, "best_of: 0 should be at least 1"),
        ({"length_normalized": 1}, "length_normalized: 1 should be true or false"),
        ({"length_normalized": True, "objective": "sampling"}, "length_normalized: true should be false for the"),
        ({"batch_size": -1}, "batch_size: -1 should be at least 1"),
        ({"label_smoothing": 0.5}, "label_smoothing: 0.5 should be below 0.5"),
        ({"link": "square"}, r"link: 'square' should be one of \['sigmoid', 'ipo'"),
        ({"pairs": "some"}, "pairs: 'some' should be one of"),
        ({"labels": "true"}, "labels: 'true' should be one of"),
        ({"beta": math.nan}, "systems.toy.methods.tried.beta: nan should be a finite number"),
        ({"beta": math.inf}, "systems.toy.methods.tried.beta: inf should be a finite number"),
        ({"beta": 1e30}, "systems.toy.methods.tried.beta: 1e[+]30 should be at most 10+"),
        ({"learning_rate": {"a": math.nan}}, "tried.learning_rate.a: nan should be a finite number"),
        ({"learning_rate": {"a": -1.0}}, "tried.learning_rate.a: -1.0 should be above 0"),
        ({"learning_rate": {"a": 0}}, "tried.learning_rate.a: 0 should be above 0"),
        ({"chosen_weight": {"a": -1.0}}, "tried.chosen_weight.a: -1.0 should be at least 0"),
        ({"max_grad_norm": 0.0}, "tried.max_grad_norm: 0.0 should be above 0"),
        ({"label_temperature": math.nan}, "tried.label_temperature: nan should be a finite number"),
        ({"warmup_steps": -1}, "tried.warmup_steps: -1 should be at least 0"),
        ({"batch_size": 10**12}, "tried.batch_size: 10+ should be at most 10+"),
        ({"micro_batch_size": 0}, "tried.micro_batch_size: 0 should be at least 1"),
        ({"candidates": {"temperature": math.nan}}, "candidates.temperature: nan should be a finite number"),
        ({"candidates": {"count": 0}}, "candidates.count: 0 should be at least 1"),
        ({"candidates": {"diversity": -1}}, "candidates.diversity: -1 should be at least 0"),
        ({"candidates": {"top_p": 1.5}}, "candidates.top_p: 1.5 should be at most 1"),
        ({"chosen_intermediates": "seen"}, r"chosen_intermediates: 'seen' should be one of \['known', 'hidden'\]"),
        (
            {"objective": "sampling", "chosen_intermediates": "known"},
            "chosen_intermediates: 'known' should be 'hidden'",
        ),
        ({"objective": "likelihood", "chosen_weight": {"a": 0.0, "b": 0.0}}, "chosen_weight: .* should be above 0 for"),
        ({"take": {"a": "tried"}}, r"take: {'a': 'tried'} should be empty for the objective 'direct'"),
        ({"monitor_every": -1}, "tried.monitor_every: -1 should be at least 0"),
        ({"preferences": "dataset", "rounds": 2}, "rounds: 2 should be 1 where preferences are those of the dataset"),
        ({"eval_every": -1}, "tried.eval_every: -1 should be at least 0"),
        ({"early_stopping": 2}, "early_stopping: 2 should be null, or eval_every above 0"),
        ({"components": ["c"]}, r"components: 'c' should be one of \['a', 'b'\]"),
        ({"objective": "only_a", "components": ["a"]}, r"components: \['a'\] should be empty for the objective"),
        ({"objective": "only_c"}, "objective: 'only_c' should be one of .*'only_a', 'only_b'"),
        ({"chosen_weight": {"c": 0.1}}, r"should name the components of learning_rate; \['c'\] differ"),
    ],
)
def test_a_bad_setting_is_refused_by_name_value_and_remedy(method: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as error:
        method_settings(config(**method), "toy", "tried")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("setting", ["learning_rate", "chosen_weight"])
def test_a_number_that_yaml_reads_as_text_is_refused(setting: str) -> None:
    read = yaml.safe_load(f"{setting}: {{a: 2e-4, b: 1.0e-3}}")  # 2e-4 without a point is a text in YAML
    assert read[setting]["a"] == "2e-4"
    with pytest.raises(UserError, match=setting):
        method_settings(config(**read), "toy", "tried")


def test_a_missing_setting_is_named() -> None:
    described = config()
    del described["systems"]["toy"]["methods"]["tried"]["objective"]
    with pytest.raises(UserError, match=r"systems.toy.methods.tried: the keys \['objective'\] are missing"):
        method_settings(described, "toy", "tried")


def test_unknown_systems_and_methods_are_refused_with_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"system: 'tou' should be one of \['toy'\]"):
        method_settings(config(), "tou", "tried")
    with pytest.raises(UserError, match=r"method: 'tired' should be one of \['before', 'tried'\]"):
        method_settings(config(), "toy", "tired")


def test_other_settings_are_typed_alike() -> None:
    assert PainterSettings.read({"exaggerated": ["angry"]}, "painter").exaggerated == ("angry",)
    assert PainterSettings.read(None, "painter") == PainterSettings()
    with pytest.raises(UserError, match=r"painter: unknown key 'widht'"):
        PainterSettings.read({"widht": 3}, "painter")
    with pytest.raises(UserError, match=r"estimator.weighting: 'elbow' should be one of \['simple', 'elbo'\]"):
        Estimator.read({"weighting": "elbow"}, "painter.estimator")
    with pytest.raises(UserError, match=r"painter.estimator.noise_range: it should be a list of 2"):
        Estimator.read({"noise_range": [0.5]}, "painter.estimator")
    with pytest.raises(UserError, match=r"painter.learning_rate: nan should be a finite number"):
        PainterSettings.read({"learning_rate": math.nan}, "painter")
    with pytest.raises(UserError, match=r"evaluation.greedy.0: 1 should be a text"):
        Evaluation.read({"samples_per_prompt": 1, "greedy": [1]}, "evaluation")
    lora = {"r": 2, "lora_alpha": math.nan}
    with pytest.raises(UserError, match=r"components.writer.lora.lora_alpha: nan should be a finite number"):
        LanguageModelSettings.read({"lora": lora}, "components.writer")


@pytest.mark.parametrize("text", ["systems: [", "- a list", "seeds: [0]", ""])
def test_a_file_that_is_no_configuration_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(UserError, match=r"config: '.*config.yaml' should be a"):
        load_config(tmp_path / "config.yaml")


def test_an_absent_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config: '.*none.yaml' should be a YAML file"):
        load_config(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seeds: [0]\nsystems: {}\nseeds: [1]\n", "has 'seeds' in line 1 and again in line 3; give it once"),
        ("systems:\n  a: {beta: 1, beta: 2}\n", "has 'systems.a.beta' in line 2 and again in line 2"),
        ("systems: {}\nexperiments: [{a: 1},\n {b: 1, b: 2}]\n", "has 'experiments.1.b' in line 3 and again in line 3"),
        ("systems: &x {a: 1}\nstudies: {<<: *x, <<: *x}\n", "has 'studies.<<' in line 2"),
    ],
)
def test_a_key_given_twice_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=re.escape(f"config: '{path}' {said}")):
        load_config(path)


def test_what_is_merged_may_be_overridden(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("systems: &a {x: 1}\nexperiments: &b {<<: *a, x: 2}\nstudies: {<<: *b, x: 3, '1': 1, 1: 1}\n")
    assert load_config(path)["studies"] == {"x": 3, "1": 1, 1: 1}


@pytest.mark.parametrize(
    ("results", "said"),
    [
        (".", "it would hold the working directory"),
        ("..", "it would hold the working directory"),
        ("/", "it would hold the working directory"),
        ("home", "it would hold your home folder"),
        (str(REPOSITORY), "it would hold the project"),
        (str(REPOSITORY / "sysdpo" / "systems"), "it lies in 'sysdpo'"),
        (str(REPOSITORY / "workflow"), "it lies in 'workflow'"),
        ("papers", "it holds 'thesis.md' and nothing that a run has made"),
        ("thesis.md", "it is a file"),
    ],
)
def test_results_that_would_lie_among_other_files_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, results: str, said: str
) -> None:
    for name in ("home/user", "papers", "work"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("papers/thesis.md", "thesis.md", "work/config.yaml"):
        (tmp_path / name).touch()
    monkeypatch.setenv("HOME", str(tmp_path / "home" / "user"))
    monkeypatch.chdir(tmp_path / "work")
    results = results if results in (".", "..") or results.startswith("/") else f"../{results}"
    (tmp_path / "work/config.yaml").write_text(yaml.safe_dump(config() | {"results": results}))
    with pytest.raises(UserError, match=re.escape(said)) as error:
        load_config(Path("config.yaml"))
    assert str(error.value).startswith(f"results: '{results}' should be a folder")


def test_results_may_lie_where_nothing_or_other_results_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("empty", "mine/runs", "scales/laptop/figures"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "empty/.hidden").touch()
    (tmp_path / "mine/notes.md").touch()
    for results in ("new", "new/deep", "empty", "mine", "scales", "scales/laptop"):
        check_results(results)
    (tmp_path / "mine/config.yaml").write_text(yaml.safe_dump(config() | {"results": "mine"}))
    load_config(Path("mine/config.yaml"))  # as a run has resolved it
    with pytest.raises(UserError, match=r"it would hold the configuration 'mine/config.yaml'"):
        check_results("mine", [Path("mine/config.yaml")])


def with_experiments() -> dict[str, Any]:
    grid = {"beta": [0.1, 1.0], "length": {"short": {"steps": 5}, "long": {"steps": 9, "rounds": 2}}}
    return config() | {"experiments": {"sweep": {"system": "toy", "methods": ["tried"], "grid": grid}}}


def test_an_experiment_is_its_grid_times_its_methods() -> None:
    variants = expand_experiments(with_experiments())
    assert list(variants) == [f"sweep-tried-{index:02d}" for index in range(4)]
    assert variants["sweep-tried-01"] == {
        "experiment": "sweep",
        "system": "toy",
        "method": "tried",
        "point": {"beta": 0.1, "length": "long"},
        "overrides": {"beta": 0.1, "steps": 9, "rounds": 2},
    }


def test_a_variant_is_a_method_like_any_other() -> None:
    settings = method_settings(with_experiments(), "toy", "sweep-tried-03")
    assert (settings.objective, settings.beta, settings.steps, settings.rounds) == ("direct", 1.0, 9, 2)
    assert set(method_rows(with_experiments(), "toy")) == {"tried", "before", *expand_experiments(with_experiments())}


def test_every_method_of_the_shipped_configuration_has_valid_settings() -> None:
    shipped = load_config(REPOSITORY / "config.yaml")
    for system in shipped["systems"]:
        for method in method_rows(shipped, system):
            settings = method_settings(shipped, system, method)
            assert isinstance(settings, MethodSettings)


SCORE = {"progressive_images": "preference_score", "two_stage_qa": "accuracy"}
"""What each system's settings were chosen by, on validation prompts."""


def trials_of(shipped: dict[str, Any], system: str) -> pd.DataFrame:
    """A row a trial of the grids of `snakemake tune`: its method, the coordinates of its point, and its score as
    committed.
    """
    variants = {
        name: variant
        for name, variant in expand_experiments(shipped).items()
        if variant["system"] == system and variant["experiment"].startswith("tune")
    }
    rows, found = method_rows(shipped, system), []
    for name, variant in variants.items():
        table = pd.read_csv(REPOSITORY / "results" / "experiments" / f"{variant['experiment']}.csv")
        score = table[(table["variant"] == name) & (table["metric"] == SCORE[system])].iloc[0]
        assert shipped["experiments"][variant["experiment"]]["split"] == "validation"
        found.append(
            {"method": variant["method"], "score": score["mean"], "high": score["ci_high"], **point(rows[name])}
        )
    return pd.DataFrame(found)


def point(row: dict[str, Any]) -> dict[str, float]:
    """What is tuned of a row."""
    rates = {f"rate of {name}": rate for name, rate in row["learning_rate"].items()}
    weights = {f"weight of {name}": weight for name, weight in row["chosen_weight"].items()}
    return {"beta": row["beta"], **rates, **weights}


@pytest.mark.parametrize("system", sorted(SCORE))
def test_methods_differ_in_nothing_but_what_they_compare_and_their_point_of_the_tuning_grid(system: str) -> None:
    shipped = load_config(REPOSITORY / "config.yaml")
    rows = method_rows(shipped, system)
    trained = [rows[name] for name in shipped["systems"][system]["methods"] if rows[name]["objective"] != "none"]
    own = {"objective", "labels", "candidates", "beta", "learning_rate", "chosen_weight", "chosen_intermediates"}
    own |= {"label", "meaning", "role"}
    budgets = [{key: value for key, value in row.items() if key not in own} for row in trained]
    assert all(budget == budgets[0] for budget in budgets)
    for row in trained:
        assert any(row["chosen_weight"].values()) == (row["objective"] == "likelihood")


@pytest.mark.parametrize("system", sorted(SCORE))
def test_every_row_is_tuned_by_as_many_trials_and_lies_inside_its_grid(system: str) -> None:
    shipped = load_config(REPOSITORY / "config.yaml")
    rows, trials = method_rows(shipped, system), trials_of(shipped, system)
    described = shipped["systems"][system]
    tuned = [name for name in described["methods"] if rows[name]["objective"] != "none"]
    added = [name for name in described["ablations"] if "+likelihood" in name]
    assert {**rows["shuffled"], "labels": None} == {**rows["direct"], "labels": None}  # a control has the same point
    assert set(trials["method"]) == {*tuned, *added}
    counts = trials["method"].value_counts()
    assert counts[tuned].nunique() == counts[added].nunique() == 1
    for name in [*tuned, *added]:
        tried = trials[trials["method"] == name]
        at = (tried[list(point(rows[name]))] == pd.Series(point(rows[name]))).all(axis=1)
        assert at.sum() == 1, name
        assert tried[at]["high"].item() >= tried["score"].max(), name  # no trial beats it by more than its interval
        for axis in [axis for axis in point(rows[name]) if tried[axis].nunique() > 1]:
            assert tried[axis].min() < tried[at][axis].item() < tried[axis].max(), (name, axis)


@pytest.mark.parametrize(
    ("candidates", "said"),
    [
        ({"count": 0}, "candidates.count: 0 should be at least 1"),
        ({"refresh": 0}, "candidates.refresh: 0 should be at least 1"),
        ({"generator": "beams"}, "candidates.generator: 'beams' should be one of"),
        ({"estimator": "exact"}, "candidates.estimator: 'exact' should be one of"),
        ({"count": 4, "groups": 3}, r"candidates.groups: 3 should be a divisor of count, 4"),
        ({"diversity": -1.0}, "candidates.diversity: -1.0 should be at least 0"),
        ({"temperature": 0.0}, "candidates.temperature: 0.0 should be above 0"),
        ({"top_p": 1.5}, "candidates.top_p: 1.5 should be at most 1"),
        ({"estimator": "importance"}, "candidates.generator: 'diverse_beam' should be 'ancestral'"),
        ({"estimator": "single", "generator": "ancestral"}, "candidates.count: 4 should be 1"),
        ({"cuont": 4}, r"candidates: unknown key 'cuont'"),
    ],
)
def test_candidates_that_make_no_sense_are_refused(candidates: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        MethodSettings(objective="sampling", learning_rate={"a": 0.1}, chosen_weight={"a": 0.0}, candidates=candidates)


def test_what_a_scale_sets_to_null_is_dropped() -> None:
    config = {
        "systems": {"kept": {"methods": {"a": {}, "b": None}, "foundation": {"c": None, "d": {}}}, "gone": None},
        "experiments": None,
        "studies": {"theory": {"steps": 1}, "gone": None},
    }
    assert without_dropped(config) == {
        "systems": {"kept": {"methods": {"a": {}}, "foundation": {"d": {}}}},
        "experiments": {},
        "studies": {"theory": {"steps": 1}},
    }
    assert without_dropped({"systems": {}}) == {"systems": {}}


EXPERIMENTS = {"a": {"system": "mine"}, "b": {"system": "theirs"}}
DESCRIBED = {
    "systems": {"mine": {"methods": {}}, "theirs": {"methods": {}}},
    "studies": {"theory": {}, "halves": {}},
    "experiments": EXPERIMENTS,
}


def test_only_what_is_named_is_run() -> None:
    assert without_dropped({"only": ["mine", "halves"], **DESCRIBED}) == {
        "only": ["mine", "halves"],
        "systems": {"mine": {"methods": {}}},
        "studies": {"halves": {}},
        "experiments": {"a": {"system": "mine"}},
    }
    chosen = without_dropped({"only": ["mine"], **DESCRIBED})
    assert (list(chosen["systems"]), chosen["studies"]) == (["mine"], {})
    assert without_dropped({"only": None, **DESCRIBED}) == {"only": None, **DESCRIBED}


@pytest.mark.parametrize(
    ("only", "said"),
    [
        (["mnie"], "only: 'mnie' is no system or study; did you mean 'mine'?"),
        (["theory"], r"only: \['theory'\] should name one of the systems \['mine', 'theirs'\]"),
        ([], r"only: \[\] should be not empty"),
        ("mine", "only: 'mine' should be a list"),
        (["mine", "mine"], r"only: \['mine', 'mine'\] should be without repetitions"),
    ],
)
def test_a_choice_of_what_is_not_there_is_refused(only: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        without_dropped({"only": only, **DESCRIBED})
    with pytest.raises(UserError, match=said):
        Comparison(only=only, systems=DESCRIBED["systems"], studies=DESCRIBED["studies"])

"""A wrong configuration is refused before any job, with one sentence that says what and where."""

import dataclasses
import math
import typing
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
import yaml
from config_check import broken_rule, contradiction, not_finite, read_schema, wrong_figures
from jsonschema import Draft202012Validator
from project import REPOSITORY, Project

from sysdpo.base.errors import UserError
from sysdpo.base.settings import check_value
from sysdpo.report.claim_file import read_claims

SCHEMA = read_schema(REPOSITORY / "workflow/schemas/config.schema.yaml")
SYSTEM = "systems.progressive_images"
SETTINGS_MODULES = (
    *("base.settings", "applications.images.world", "applications.answers.sums_language"),
    *("applications.questions", "applications.smollm2", "applications.images.progressive_images"),
    *(
        "applications.images.picture_series",
        "applications.answers.two_stage_qa",
        "applications.answers.chat_refinement",
    ),
    *("applications.images.judge_settings", "studies.theory", "studies.gradients", "studies.coverage"),
)
EXPERIMENT = {
    "system": "progressive_images",
    "seeds": [0],
    "split": "test",
    "methods": ["direct"],
    "grid": {"beta": [1]},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """The default configuration with one setting changed, or removed where `value` is `...`."""
    config = yaml.safe_load((REPOSITORY / "config.yaml").read_text())
    *folders, last = path.split(".")
    settings = config
    for folder in folders:
        settings = settings[folder]
    if value is ...:
        del settings[last]
    else:
        settings[last] = value
    return config


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("sedes", [0], "sedes is no setting; did you mean seeds?"),
        (f"{SYSTEM}.training.betta", 1, f"{SYSTEM}.training.betta is no setting; did you mean beta?"),
        (f"{SYSTEM}.foundation.painter.zz", 1, f"{SYSTEM}.foundation.painter.zz is no setting; there are "),
        (f"{SYSTEM}.components.writer.zz", 1, f"{SYSTEM}.components.writer.zz is no setting; there are "),
        (f"{SYSTEM}.methods.direct.beta", "high", "direct.beta is 'high', but should be a number"),
        (f"{SYSTEM}.methods.direct.beta", "2e-4", "(YAML wants the point: 2.0e-04)"),
        (f"{SYSTEM}.methods.direct.beta", 0, "direct.beta is 0, but should be above 0"),
        (f"{SYSTEM}.methods.direct.objective", "only_x", "'only_x' should be one of"),
        (f"{SYSTEM}.training.link", "logistic", "should be one of sigmoid, ipo,"),
        (f"{SYSTEM}.trajectories.samples_per_prompt", 1, "samples_per_prompt is 1, but should be at least 2"),
        (f"{SYSTEM}.foundation.painter.misread", 1.5, "misread is 1.5, but should be at most 1 (The share"),
        (f"{SYSTEM}.factory", ..., f"{SYSTEM}.factory is missing (The function"),
        (f"{SYSTEM}.baselines", ["befor"], f"{SYSTEM}.baselines: befor is no method; did you mean before?"),
        (f"{SYSTEM}.components.painter.estimator.noise_range", [0.5], "should be a list of 2 (The part"),
        (f"{SYSTEM}.trajectories.shards", 0, "shards is 0, but should be at least 1"),
        (f"{SYSTEM}.trajectories.shards", 301, "shards is 301, but should be at most 300, the train prompts"),
        (f"{SYSTEM}.evaluation.shards", 211, "shards is 211, but should be at most 210, the test prompts"),
        (f"{SYSTEM}.methods.direct.beta", math.nan, "direct.beta is nan, but should be a finite number"),
        (f"{SYSTEM}.methods.direct.beta", math.inf, "direct.beta is inf, but should be a finite number"),
        (f"{SYSTEM}.foundation.writer.learning_rate", math.nan, "writer.learning_rate is nan, but should be a finite"),
        (f"{SYSTEM}.components.painter.estimator.noise_range", [0.5, math.nan], "noise_range.1 is nan, but should be"),
        (f"{SYSTEM}.components.writer.lora.lora_alpha", -math.inf, "lora_alpha is -inf, but should be a finite"),
        (f"{SYSTEM}.training.learning_rate.writer", -1.0, "learning_rate.writer is -1.0, but should be above 0"),
        (f"{SYSTEM}.training.chosen_weight.writer", 1e30, "chosen_weight.writer is 1e+30, but should be at most"),
        (f"{SYSTEM}.training.batch_size", 10**12, "batch_size is 1000000000000, but should be at most"),
        ("seeds", [10**30], "should be at most 1000000000"),
        ("studies.theory.beta", math.nan, "studies.theory.beta is nan, but should be a finite number"),
        ("seeds", [], "seeds is [], but should be not empty"),
        ("seeds", [0, 0], "seeds is [0, 0], but should be without repetitions"),
        ("experiments", {"Tune-1": EXPERIMENT}, "'Tune-1', but should be of the form"),
        (
            f"{SYSTEM}.figures",
            ["$(touch x)"],
            "figures.0 is '$(touch x)', but should be of the form ^([A-Za-z_][A-Za-z0-9_.]*:)?[a-z][a-z0-9_]*$",
        ),
        (f"{SYSTEM}.figures", ["gallery\n"], "'gallery\\n', but should be of the form"),
        (f"{SYSTEM}.evaluation.greedy", ["a;b"], "should be of the form"),
        (f"{SYSTEM}.methods", {"direct\n": {}}, "should be of the form"),
        (f"{SYSTEM}.factory", "os:system\n", "should be of the form"),
        ("results", "a b", "should be of the form"),
        ("results", "$HOME", "should be of the form"),
        ("results", "results\n", "should be of the form"),
        ("results", "results/", "should be of the form"),
        ("numerics", "fast", "numerics is 'fast', but should be one of portable, native"),
        ("experiments", {"tune": EXPERIMENT | {"methods": ["dirct"]}}, "did you mean direct?"),
        ("experiments", {"tune": EXPERIMENT | {"system": "images"}}, "images is no system"),
        ("experiments", {"tune": EXPERIMENT | {"grid": {"betta": [1]}}}, "betta"),
        ("experiments", {"tune": EXPERIMENT | {"grid": {"x": {"y": {"betta": 1}}}}}, "did you mean beta?"),
    ],
)
def test_one_sentence_says_what_is_wrong(path: str, value: Any, said: str) -> None:
    config = changed(path, value)
    problem = not_finite(config) or broken_rule(config, SCHEMA) or contradiction(config)
    assert problem is not None
    assert said in problem
    assert "\n" not in problem


def test_a_system_of_ones_own_may_have_components_and_foundations_of_its_own() -> None:
    config = changed("seeds", [0])
    config["systems"]["mine"] = config["systems"]["progressive_images"] | {
        "factory": "my.package:build",
        "foundation": {"retriever": {"documents": 100}},
    }
    assert broken_rule(config, SCHEMA) is None


@pytest.mark.parametrize(("value", "said"), [("no number", "a number"), (-1, "above 0")])
def test_snakemake_stops_before_any_job(project: Project, value: object, said: str) -> None:
    project.edit(value, "methods", "direct", "beta")
    refused = project.snakemake("--cores", "1")
    assert refused.returncode == 2
    assert f"systems.progressive_images.methods.direct.beta is {value!r}, but should be {said}" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (project.folder / "results").exists()


def refused_at_once(project: Project, *arguments: str) -> str:
    """The sentence that Snakemake stops with before any job."""
    refused = project.snakemake("--cores", "1", *arguments)
    assert refused.returncode == 2, refused.stderr
    assert "Traceback" not in refused.stderr
    (sentence,) = [line for line in refused.stderr.splitlines() if line.startswith("Error in the configuration: ")]
    return sentence


def test_snakemake_stops_at_a_key_given_twice_in_any_file(project: Project) -> None:
    over = project.folder / "over.yaml"
    over.write_text("seeds: [0]\nsystems:\n  progressive_images:\n    training:\n      beta: 1\n      beta: 2\n")
    sentence = refused_at_once(project, "--configfile", "over.yaml")
    assert "over.yaml' has 'systems.progressive_images.training.beta' in line 5 and again in line 6" in sentence
    over.write_text("seeds: [0]\n")
    config = project.folder / "config.yaml"
    config.write_text(config.read_text() + "seeds: [0]\n")
    assert "config.yaml' has 'seeds' in line" in refused_at_once(project, "--configfile", "over.yaml")
    assert not (project.folder / "results").exists()


def test_snakemake_stops_at_a_number_that_is_none(project: Project) -> None:
    project.edit(math.nan, "training", "beta")
    assert "training.beta is nan, but should be a finite number" in refused_at_once(project)


CLAIM = {"id": "one", "system": "progressive_images", "metric": "m", "method": "direct", "baseline": "separate"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"method": "dirct"}, "one.method: 'dirct' should be one of ['before', 'best_of_n', 'separate', 'direct', "),
        ({"baseline": "best_of_n"}, "one.baseline: 'best_of_n' should be one of ['before', 'separate']."),
        ({"method": "best_of_n"}, "one.method: 'best_of_n' is not trained, so it is compared with no baseline."),
        ({"sing": "above"}, "claims: 'claims.yaml', one: unknown key ['sing']; known are "),
        ({"at_least": 0.1}, "one: a claim should have exactly one of ['sign', 'at_least', 'at_most', 'within']."),
        ({"system": "progresive_images", "method": "x"}, None),
    ],
)
def test_snakemake_stops_at_a_claim_about_what_is_not_there(project: Project, change: dict, said: str | None) -> None:
    claims = {"claims": [CLAIM | {"sign": "above"} | change]}
    (project.folder / "claims.yaml").write_text(yaml.safe_dump(claims))
    if said is None:  # of a system that another configuration has
        assert project.planned()
    else:
        assert said in refused_at_once(project)


def test_snakemake_stops_at_claims_that_are_not_there(project: Project) -> None:
    (project.folder / "claims.yaml").unlink()
    assert "'claims.yaml' should be a YAML file, but cannot be read" in refused_at_once(project)


def test_every_shipped_claim_is_about_a_system_of_some_scale() -> None:
    scales = [REPOSITORY / "config.yaml", *(REPOSITORY / "workflow/scales").glob("*.yaml")]
    systems = {name for path in scales for name in yaml.safe_load(path.read_text()).get("systems", {})}
    for path in (REPOSITORY / "workflow").glob("claims*.yaml"):
        assert {claim.system for claim in read_claims(path).claims} <= systems


@pytest.mark.parametrize(
    ("results", "said"),
    [
        (".", "it would hold the working directory"),
        ("mine", "mine/over.yaml"),
        ("papers", "it holds 'thesis.md' and nothing that a run has made"),
    ],
)
def test_snakemake_stops_where_results_would_lie_among_other_files(project: Project, results: str, said: str) -> None:
    for path in ("mine/over.yaml", "papers/thesis.md"):
        (project.folder / path).parent.mkdir(exist_ok=True)
        (project.folder / path).write_text(f"results: {results}\n")
    before = {path: path.read_bytes() for path in project.folder.rglob("*") if path.is_file()}
    sentence = refused_at_once(project, "--configfile", "mine/over.yaml")
    assert f"results: '{results}' should be a folder" in sentence
    assert said in sentence
    after = {path: path.read_bytes() for path in project.folder.rglob("*") if path.is_file()}
    assert {path: after.get(path) for path in before} == before


def settings_described(part: Any, place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(part, dict):
        for name, setting in part.get("properties", {}).items():
            yield f"{place}.{name}", setting
        for key, below in part.items():
            yield from settings_described(below, f"{place}.{key}")


def test_every_setting_of_the_schema_is_described() -> None:
    for place, setting in settings_described(SCHEMA):
        definition = SCHEMA["$defs"].get(setting.get("$ref", "").removeprefix("#/$defs/"), {})
        assert "description" in definition | setting, place


def test_schema_and_library_know_the_same_settings() -> None:
    for settings, described in described_settings().items():
        fields = {field.name for field in dataclasses.fields(settings)}
        assert fields == set(described["properties"]), settings.__name__


def described_settings() -> dict[Any, dict[str, Any]]:
    """The library's settings and where the schema describes them."""
    from sysdpo.applications.answers import chat_refinement
    from sysdpo.applications.images import picture_series
    from sysdpo.applications.images.judge_settings import ImageJudgeSettings
    from sysdpo.applications.images.progressive_images import PromptSettings
    from sysdpo.applications.images.world import PainterSettings, RegressorSettings, WriterSettings
    from sysdpo.base.settings import (
        CandidateSettings,
        DiffusionSettings,
        Estimator,
        Evaluation,
        LanguageModelSettings,
        MethodSettings,
        Sampling,
    )

    definitions = SCHEMA["$defs"]
    return {
        MethodSettings: definitions["method"],
        CandidateSettings: definitions["candidates"],
        Evaluation: definitions["system"]["properties"]["evaluation"],
        Sampling: definitions["system"]["properties"]["trajectories"],
        LanguageModelSettings: definitions["language"],
        DiffusionSettings: definitions["diffusion"],
        WriterSettings: definitions["writer_foundation"],
        PainterSettings: definitions["painter_foundation"],
        RegressorSettings: definitions["regressor_foundation"],
        Estimator: definitions["diffusion"]["properties"]["estimator"],
        PromptSettings: definitions["progressive_images"]["properties"]["prompts"],
        picture_series.PromptSettings: definitions["picture_series"]["properties"]["prompts"],
        ImageJudgeSettings: definitions["image_judge"],
        chat_refinement.PromptSettings: definitions["chat_refinement"]["properties"]["prompts"],
        chat_refinement.DataSettings: definitions["chat_refinement"]["properties"]["data"],
        chat_refinement.RewardModelSettings: definitions["reward_model"],
    }


PROBES = (
    *(math.nan, math.inf, -math.inf, -1e30, -1, -1e-9, 0, 1e-9, 0.25, 0.5, 0.999, 1, 1.5, 2, 32, 100, 101),
    *(10**7, 10**7 + 1, 10**9, 10**9 + 1, 10**30, 1e30, True, "1", None),
)
COUNTS = ("train", "validation", "test")
OF_THEIR_OWN = {"samples_per_prompt", "model", "revision", "chat_template_kwargs"}
"""Pairs need two trajectories, an evaluation one; texts are no numbers, and a template may be told anything."""
OTHERS = {"applications.images.world", "applications.images.judge_settings"}
"""Modules of which the schema alone knows the bounds; what is not finite they refuse all the same."""


def library_takes(value: Any, hint: Any) -> bool:
    try:
        check_value(value, hint, "setting")
    except UserError:
        return False
    return True


def test_schema_and_library_take_the_same_numbers() -> None:
    compared = 0
    for settings, described in described_settings().items():
        hints = typing.get_type_hints(settings, include_extras=True)
        for name, part in described["properties"].items():
            if name in COUNTS:  # described where every system's prompts are
                part = {"$ref": "#/$defs/count"}
            schema = Draft202012Validator({"$defs": SCHEMA["$defs"]} | part)
            if name in OF_THEIR_OWN or (not schema.is_valid(1) and not schema.is_valid({"a": 1})):
                continue
            if schema.is_valid(True):
                continue
            compared += 1
            for value in PROBES:
                given = {"a": value} if schema.is_valid({"a": 1}) else value
                takes = schema.is_valid(given) and not not_finite({"a": given})
                strict = not any(settings.__module__.endswith(other) for other in OTHERS)
                if strict or (isinstance(value, float) and not math.isfinite(value)):
                    assert library_takes(given, hints[name]) == takes, (settings.__name__, name, value)
    assert compared > 50


def test_no_setting_of_the_library_may_be_infinite_or_no_number() -> None:
    """Whatever numbers the settings hold; those of systems of one's own too."""
    for module in SETTINGS_MODULES:
        for name, cls in vars(import_module(f"sysdpo.{module}")).items():
            if dataclasses.is_dataclass(cls) and name.endswith(("Settings", "Estimator", "Sampling", "Evaluation")):
                hints = typing.get_type_hints(cls, include_extras=True)
                for field in dataclasses.fields(cls):
                    for value in (math.nan, math.inf, -math.inf):
                        for given in (value, {"a": {"b": (1, [value])}}):
                            assert not library_takes(given, hints[field.name]), (name, field.name)


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        (["comparison", "galery"], "systems.s.figures: galery is no figure; there are comparison, credit"),
        (["comparisn"], "systems.s.figures: comparisn is no figure; did you mean comparison?"),
        (["no_such_module:draw"], "systems.s.figures: no_such_module:draw should name a function as package.module:"),
        (["comparison", "sysdpo.report.run:comparison"], "comparison should be the name of one figure alone"),
        (["comparison", "sysdpo.applications.images.figures:words"], None),
    ],
)
def test_a_figure_that_is_none_is_refused(figures: list[str], said: str | None) -> None:
    found = wrong_figures({"systems": {"s": {"figures": figures}}})
    assert (found is None) if said is None else found is not None and said in found

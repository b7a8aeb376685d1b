"""A wrong configuration is refused before any job, with one sentence that says what and where."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from config_check import broken_rule, contradiction, read_schema
from project import REPOSITORY, Project

SCHEMA = read_schema(REPOSITORY / "workflow/schemas/config.schema.yaml")
SYSTEM = "systems.progressive_images"
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
        (f"{SYSTEM}.evaluation.shards", 201, "shards is 201, but should be at most 200, the test prompts"),
        ("seeds", [], "seeds is [], but should be not empty"),
        ("seeds", [0, 0], "seeds is [0, 0], but should be without repetitions"),
        ("experiments", {"Tune-1": EXPERIMENT}, "'Tune-1', but should be of the form"),
        (
            f"{SYSTEM}.figures",
            ["$(touch x)"],
            "figures.0 is '$(touch x)', but should be of the form ^[a-z][a-z0-9_]*$ ",
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
    problem = broken_rule(config, SCHEMA) or contradiction(config)
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
    from sysdpo.components.diffusion import Estimator
    from sysdpo.foundation.world import PainterSettings, RegressorSettings, WriterSettings
    from sysdpo.settings import (
        CandidateSettings,
        DiffusionSettings,
        Evaluation,
        LanguageModelSettings,
        MethodSettings,
        Sampling,
    )
    from sysdpo.systems.progressive_images import PromptSettings

    definitions = SCHEMA["$defs"]
    pairs = {
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
    }
    for settings, described in pairs.items():
        fields = {field.name for field in dataclasses.fields(settings)}
        assert fields == set(described["properties"]), settings.__name__

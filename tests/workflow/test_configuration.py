"""A wrong configuration is refused before any job, with one sentence that says what and where."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from project import REPOSITORY, Project

from sysdpo.base.errors import UserError
from sysdpo.base.settings import Settings
from sysdpo.method.config import check
from sysdpo.method.scales import merged, without_dropped
from sysdpo.report.claim_file import read_claims
from sysdpo.run import settings_page
from sysdpo.run.figure_check import check_figures

SYSTEM = "systems.progressive_images"
SCHEMA = json.loads((REPOSITORY / settings_page.SCHEMA).read_text())
SCALES = sorted((REPOSITORY / "workflow/scales").glob("*.yaml"))
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
        ("sedes", [0], "config: unknown key 'sedes'; did you mean 'seeds'?"),
        (f"{SYSTEM}.training.betta", 1, f"{SYSTEM}.training: unknown key 'betta'; did you mean 'beta'?"),
        (f"{SYSTEM}.foundation.painter.zz", 1, f"{SYSTEM}.foundation.painter: unknown key 'zz'; known are ["),
        (f"{SYSTEM}.foundation.printer", {}, f"{SYSTEM}.foundation: unknown key 'printer'; did you mean 'painter'?"),
        (f"{SYSTEM}.foundation.writer.reversed", ["calmr"], "writer.reversed: 'calmr' should be one of ['angrier',"),
        (f"{SYSTEM}.components.writer.zz", 1, f"{SYSTEM}.components.writer: unknown key 'zz'; known are ["),
        (f"{SYSTEM}.components.wirter", {}, f"{SYSTEM}.components: unknown key 'wirter'; did you mean 'writer'?"),
        (f"{SYSTEM}.components.writer.lora.rank", 1, "components.writer.lora: unknown key 'rank'; known are ['lora_"),
        (f"{SYSTEM}.methods.direct.learning_rate", {"wirter": 0.1}, "methods.direct: 'wirter' is no component; did yo"),
        (f"{SYSTEM}.methods.direct.beta", "high", "direct.beta: 'high' should be a number"),
        (f"{SYSTEM}.methods.direct.beta", "2e-4", "(YAML wants the point: 2.0e-04)"),
        (f"{SYSTEM}.methods.direct.beta", 0, "direct.beta: 0 should be above 0"),
        (f"{SYSTEM}.methods.direct.objective", "only_x", "methods.direct.objective: 'only_x' should be one of"),
        (
            f"{SYSTEM}.methods.direct.take",
            {"writer": "sampling"},
            "direct.take: {'writer': 'sampling'} should b",
        ),
        (f"{SYSTEM}.ablations.writer_of_direct.take", {"writer": "before"}, "'before' is no method that trains; there"),
        (f"{SYSTEM}.training.link", "logistic", "link: 'logistic' should be one of ['sigmoid', 'ipo',"),
        (f"{SYSTEM}.trajectories.samples_per_prompt", 1, "samples_per_prompt: 1 should be at least 2"),
        (f"{SYSTEM}.foundation.painter.misread", 1.5, "misread: 1.5 should be at most 1"),
        (f"{SYSTEM}.factory", ..., f"{SYSTEM}: the keys ['factory'] are missing"),
        (f"{SYSTEM}.factory", "sysdpo.nothing:build", f"{SYSTEM}.factory: 'sysdpo.nothing:build' should name a func"),
        (f"{SYSTEM}.baselines", ["befor"], f"{SYSTEM}.baselines: 'befor' is no method; did you mean 'before'?"),
        (f"{SYSTEM}.components.painter.estimator.noise_range", [0.5], "estimator.noise_range"),
        (f"{SYSTEM}.components.painter.estimator.noise_range", [0.5, 0.5], "[0.5, 0.5] should be two rising numbers"),
        (f"{SYSTEM}.trajectories.shards", 0, "shards: 0 should be at least 1"),
        (f"{SYSTEM}.trajectories.shards", 301, "shards: 301 should be at most 300, the train prompts"),
        (f"{SYSTEM}.evaluation.shards", 211, "shards: 211 should be at most 210, the test prompts"),
        (f"{SYSTEM}.methods.direct.beta", math.nan, "direct.beta: nan should be a finite number"),
        (f"{SYSTEM}.methods.direct.beta", math.inf, "direct.beta: inf should be a finite number"),
        (f"{SYSTEM}.foundation.writer.learning_rate", math.nan, "writer.learning_rate: nan should be a finite"),
        (f"{SYSTEM}.components.painter.estimator.noise_range", [0.5, math.nan], "noise_range.1: nan should be a fini"),
        (f"{SYSTEM}.components.writer.lora.lora_alpha", -math.inf, "lora_alpha: -inf should be a finite"),
        (f"{SYSTEM}.components.writer.chat_template_kwargs", {"a": [math.nan]}, "nan should be a finite number"),
        (f"{SYSTEM}.training.learning_rate.writer", -1.0, "learning_rate.writer: -1.0 should be above 0"),
        (f"{SYSTEM}.training.chosen_weight.writer", 1e30, "chosen_weight.writer: 1e+30 should be at most"),
        (f"{SYSTEM}.training.batch_size", 10**12, "batch_size: 1000000000000 should be at most"),
        ("seeds", [10**30], "should be at most 1000000000"),
        ("studies.theory.beta", math.nan, "studies.theory.beta: nan should be a finite number"),
        ("studies.theory.systems", ["chian"], "studies.theory.systems.0: 'chian' should be one of"),
        ("studies.coverage.contents", [30], "studies.coverage.contents: [30] should divide the number of prompts, 20"),
        ("seeds", [], "seeds: [] should be not empty"),
        ("seeds", [0, 0], "seeds: [0, 0] should be without repetitions"),
        ("experiments", {"Tune-1": EXPERIMENT}, "'Tune-1' should be a name of small letters"),
        (f"{SYSTEM}.figures", ["$(touch x)"], "figures.0: '$(touch x)' should be a figure's name"),
        (f"{SYSTEM}.figures", ["gallery\n"], "'gallery\\n' should be a figure's name"),
        (f"{SYSTEM}.evaluation.greedy", ["a;b"], "should be a name of small letters"),
        (f"{SYSTEM}.methods", {"direct\n": {}}, "should be a name of small letters"),
        (f"{SYSTEM}.factory", "os:system\n", "should be a function or class, as package.module:name"),
        ("results", "a b", "should be a folder, without spaces"),
        ("results", "$HOME", "should be a folder, without spaces"),
        ("results", "results\n", "should be a folder, without spaces"),
        ("results", "results/", "should be a folder, without spaces"),
        ("numerics", "fast", "numerics: 'fast' should be one of ['portable', 'native']"),
        ("systems.two_stage_qa.questions.source", "a.b:c", "two_stage_qa.questions.source: 'a.b:c' should name a fu"),
        ("systems.two_stage_qa.questions.unsen", 0.1, "two_stage_qa.questions: unknown key 'unsen'; did you mean 'u"),
        ("systems.two_stage_qa.foundation.third", {}, "two_stage_qa.foundation: unknown key 'third'; known are ['f"),
        ("experiments", {"tune": EXPERIMENT | {"methods": ["dirct"]}}, "did you mean 'direct'?"),
        ("experiments", {"tune": EXPERIMENT | {"system": "images"}}, "experiments.tune.system: 'images' is no system"),
        ("experiments", {"tune": EXPERIMENT | {"grid": {"betta": [1]}}}, "unknown key 'betta'; did you mean 'beta'?"),
        ("experiments", {"tune": EXPERIMENT | {"grid": {"x": {"y": {"betta": 1}}}}}, "did you mean 'beta'?"),
        ("experiments", {"tune": EXPERIMENT | {"grid": {"beta": [1.0, 0.0]}}}, "direct at {'beta': 0.0}.beta: 0.0 sho"),
    ],
)
def test_one_sentence_says_what_is_wrong(path: str, value: Any, said: str) -> None:
    with pytest.raises(UserError) as error:
        check(changed(path, value))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_system_of_ones_own_may_have_components_and_foundations_of_its_own() -> None:
    config = changed("seeds", [0])
    config["systems"]["mine"] = config["systems"]["progressive_images"] | {
        "factory": "my.package:build",
        "foundation": {"retriever": {"documents": 100}},
    }
    with pytest.raises(UserError, match=r"systems.mine.factory: 'my.package:build' should name a function"):
        check(config)  # there is no such module here
    config["systems"]["mine"]["factory"] = "json:loads"
    check(config)
    assert Draft202012Validator(SCHEMA).is_valid(config)


@pytest.mark.parametrize(("value", "said"), [("no number", "a number"), (-1, "above 0")])
def test_snakemake_stops_before_any_job(project: Project, value: object, said: str) -> None:
    project.edit(value, "methods", "direct", "beta")
    refused = project.snakemake("--cores", "1")
    assert refused.returncode == 2
    assert f"systems.progressive_images.methods.direct.beta: {value!r} should be {said}" in refused.stderr
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
    assert "training.beta: nan should be a finite number" in refused_at_once(project)


CLAIM = {"id": "one", "system": "progressive_images", "metric": "m", "method": "direct", "baseline": "separate"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"method": "dirct"}, "one.method: 'dirct' should be one of ['before', 'best_of_n', 'separate', 'direct', "),
        ({"baseline": "best_of_n"}, "one.baseline: 'best_of_n' should be one of ['before', 'separate']"),
        ({"method": "best_of_n"}, "one.method: 'best_of_n' is not trained, so it is compared with no baseline"),
        ({"sing": "above"}, "claims: 'claims.yaml', one: unknown key 'sing'; did you mean 'sign'?"),
        ({"at_least": 0.1}, "one: a claim should have exactly one of ['sign', 'at_least', 'at_most', 'within']"),
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


def test_the_page_and_the_schema_are_those_of_the_code(tmp_path: Path) -> None:
    """`make settings` writes them."""
    classes = settings_page.named_classes([REPOSITORY / "config.yaml", *SCALES])
    assert (REPOSITORY / settings_page.PAGE).read_text() == settings_page.page(classes)
    assert json.loads(json.dumps(settings_page.schema(classes))) == SCHEMA


@pytest.mark.parametrize("scale", [None, *SCALES], ids=lambda scale: scale.stem if scale else "default")
def test_the_schema_takes_what_the_code_takes(scale: Path | None) -> None:
    config = yaml.safe_load((REPOSITORY / "config.yaml").read_text())
    if scale is not None and scale.stem == "small-gpu":  # laid over the scale that it makes smaller
        config = merged(config, yaml.safe_load(scale.with_name("paper.yaml").read_text()))
    config = without_dropped(merged(config, yaml.safe_load(scale.read_text())) if scale is not None else config)
    check(config)
    validator = Draft202012Validator(SCHEMA)
    assert validator.is_valid(config)
    for path, value in (("seeds", []), ("numerics", "fast"), ("systems", {"mine": {}})):
        assert not validator.is_valid(config | {path: value})
    name = next(iter(config["systems"]))
    assert not validator.is_valid(merged(config, {"systems": {name: {"trainnig": {}}}}))
    assert not validator.is_valid(merged(config, {"systems": {name: {"training": {"beta": 0}}}}))


def all_settings(kind: type[Settings] = Settings) -> set[type[Settings]]:
    return {kind}.union(*(all_settings(below) for below in kind.__subclasses__()))


def test_every_setting_says_what_it_is_for() -> None:
    assert len(all_settings()) > 30
    for kind in all_settings():
        if kind.__module__.startswith("sysdpo."):
            assert kind.__doc__, kind
            assert all(field.description for field in kind.model_fields.values()), kind


def test_no_setting_may_be_infinite_or_no_number() -> None:
    """Whatever numbers the settings hold, however deep."""
    tried = 0
    for kind in all_settings():
        for name, field in kind.model_fields.items() if kind.__module__.startswith("sysdpo.") else ():
            if field.annotation is Any or ("Any" in str(field.annotation) and "Free" not in str(field.annotation)):
                continue  # read by a class of its own
            for value in (math.nan, math.inf, -math.inf):
                for given in (value, {"a": {"b": [1, [value]]}}, [value]):
                    with pytest.raises(UserError):
                        kind(**{name: given})
                    tried += 1
    assert tried > 500


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        (["comparison", "galery"], "systems.s.figures: 'galery' is no figure; there are comparison, credit"),
        (["comparisn"], "systems.s.figures: 'comparisn' is no figure; did you mean 'comparison'?"),
        (
            ["no_such_module:draw"],
            "systems.s.figures: 'no_such_module:draw' should name a function as 'pack",
        ),
        (["comparison", "sysdpo.report.run:comparison"], "'comparison' should be the name of one figure alone"),
        (["comparison", "sysdpo.applications.images.figures:words"], None),
    ],
)
def test_a_figure_that_is_none_is_refused(figures: list[str], said: str | None) -> None:
    config = {"systems": {"s": {"figures": figures}}}
    if said is None:
        check_figures(config)
    else:
        with pytest.raises(UserError, match=re.escape(said)):
            check_figures(config)

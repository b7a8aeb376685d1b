# What the rules share: the checked configuration, where things lie, and which jobs belong together.
import hashlib
import json
import os
import re
import shlex
import sys
from pathlib import Path

import yaml
from snakemake.settings.types import DeploymentMethod

WORKFLOW = Path(workflow.current_basedir.get_path_or_uri(secret_free=True)).parent
sys.path.insert(0, str(WORKFLOW.parent))
# The steps choose their numerics; this process computes nothing, and its plugins may have imported numpy before.
os.environ.pop("SYSDPO_NUMERICS", None)

from sysdpo.base.errors import UserError
from sysdpo.base.functions import local_data, module_file, own_modules
from sysdpo.base.results_folder import check_results
from sysdpo.base.settings import without
from sysdpo.base.yaml_files import read_yaml
from sysdpo.method.config import check, expand_experiments, method_rows
from sysdpo.method.scales import without_dropped
from sysdpo.method.settings import METHOD_WITHOUT_EFFECT
from sysdpo.report.claim_file import check_claims, claims_path
from sysdpo.report.figure import figure_files, figure_name
from sysdpo.run.figure_check import check_figures
from sysdpo.method.method_words import traits

# Where a path lies that is no input or output: Snakemake applies a module's `prefix:` to those alone.
placed = workflow.modifier.path_modifier.replace_prefix

try:
    CONFIG_FILES = [Path(path) for path in workflow.configfiles]
    for path in CONFIG_FILES:  # Snakemake keeps the last of a key that is given twice
        read_yaml(path)
    config = without_dropped(config)
    COMPARISON = check(config)
    check_claims(config)
    check_figures(config)
    check_results(placed(COMPARISON.results), CONFIG_FILES)
except UserError as error:
    print(f"Error in the configuration: {error}", file=sys.stderr)
    sys.exit(2)

RESULTS = COMPARISON.results
NUMERICS = COMPARISON.numerics
LOGS = f"{RESULTS}/logs"
BENCHMARKS = f"{RESULTS}/benchmarks"
RUN = f"{RESULTS}/runs/{{system}}/{{seed}}"
DATASET = f"{RESULTS}/runs/{{system}}/dataset"
FOUNDATION = f"{RUN}/foundation"
SHARD = r"\.\d+-of-\d+"  # ends a file's name where several jobs share the work
RESOLVED_CONFIG = placed(f"{RESULTS}/config.yaml")
EXPERIMENT_TABLE = f"{RESULTS}/experiments/{{experiment}}.csv"
DESCRIPTIONS = f"{RESULTS}/descriptions.json"
CREDIT_TABLE = f"{RESULTS}/tables/{{system}}_credit.csv"
STUDY_TABLE = f"{RESULTS}/studies/{{study}}.csv"
STUDY_FIGURE = f"{RESULTS}/figures/study_{{study}}"

SYSTEMS = config["systems"]
SEEDS = COMPARISON.seeds
PLUGINS = [path for name in COMPARISON.plugins if (path := module_file(name))]
ABLATIONS = {name: system["ablations"] for name, system in SYSTEMS.items() if system.get("ablations")}
EXPERIMENTS = config.get("experiments") or {}
STUDIES = config.get("studies") or {}
CLAIMS = [local(str(path))] if (path := claims_path(config)) else []

# A variant is a point of an experiment's grid; its jobs are those of any method.
VARIANTS = expand_experiments(config)
METHODS = {system: method_rows(config, system) for system in SYSTEMS}
MAIN_METHODS = {system: [*SYSTEMS[system]["methods"], *ABLATIONS.get(system, {})] for system in SYSTEMS}


FIGURES = {name: [figure_name(figure) for figure in system.get("figures", [])] for name, system in SYSTEMS.items()}


def one_of(names):
    """A wildcard's constraint: one of these names, and nothing else."""
    return "|".join(re.escape(name) for name in dict.fromkeys(names)) or "(?!)"


wildcard_constraints:
    system=one_of(SYSTEMS),
    seed=r"\d+",
    model=one_of(model for system in SYSTEMS.values() for model in system.get("foundation", {})),
    method=one_of(method for methods in METHODS.values() for method in methods),
    figure=one_of(figure for names in FIGURES.values() for figure in names),
    experiment=one_of(EXPERIMENTS),
    study=one_of(STUDIES),
    shard="()",  # nothing, where one job does all the work


# The library is used where it stands: the environments hold only what it needs, so a change of its code asks for no new
# one. Conda puts an environment in the place of the one that was active, which may be behind another python in PATH.
# Each command says all of it: the shell's prefix is shared with the workflow that has this one as a module.
LIBRARY = f'"$PWD"/{shlex.quote(os.path.relpath(WORKFLOW.parent))}'
OWN_ENVIRONMENTS = DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method
PYTHON = '"$CONDA_PREFIX/bin/python"' if OWN_ENVIRONMENTS else "python"
if not OWN_ENVIRONMENTS:
    os.environ.update(PATH=os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()]))
os.environ.update(OMP_WAIT_POLICY="PASSIVE")


def step(command):
    """A rule's shell command: a step of the library, whose messages are shown and kept in the rule's log."""
    name, options = command.split(" ", 1)
    return (
        f"set -o pipefail; PYTHONPATH={LIBRARY} SYSDPO_NUMERICS={NUMERICS} {PYTHON} -m sysdpo {name}"
        f" --config {shlex.quote(RESOLVED_CONFIG)} {options} 2>&1 | tee -i {{log:q}} >&2"
    )


def growing(first):
    """A resource of which a job asks for `first`, and with every retry for as much again."""
    return lambda wildcards, attempt: first * attempt


def shards_of(system, section):
    """The jobs that share a system's sampling (`trajectories`) or each method's `evaluation`."""
    return SYSTEMS[system][section].get("shards", 1)


def in_shards(section):
    """A wildcard's constraint: the systems whose `section` several jobs share."""
    return one_of(system for system in SYSTEMS if shards_of(system, section) > 1)


def shards(path, section):
    """The files `path` of the jobs that share a section, in their order."""

    def paths(wildcards):
        count = shards_of(wildcards.system, section)
        return expand(path, shard=[f".{number}-of-{count}" for number in range(1, count + 1)], **wildcards)

    return paths


def shard_option(wildcards):
    """Which of several jobs a step is; nothing where it is the only one."""
    return "--part {}/{}".format(*re.findall(r"\d+", wildcards.shard)) if wildcards.shard else ""


def write_whole(path, text):
    """Write under another name first, so that a file that exists is whole."""
    part = Path(f"{path}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    part.write_text(text)
    part.replace(path)


def as_yaml(settings):
    return yaml.safe_dump(json.loads(json.dumps(settings)), sort_keys=False)


def foundation_models(wildcards):
    return expand(f"{FOUNDATION}/{{model}}", model=SYSTEMS[wildcards.system].get("foundation", {}), **wildcards)


def own_code(wildcards):
    """The modules behind a system of one's own, and plugins: when they change, so may all that the system does."""
    return system_code(wildcards.system)


def system_code(system):
    return [local(os.path.relpath(path)) for path in [*own_modules(SYSTEMS[system]), *PLUGINS]]


def figure_code(*systems):
    """The modules behind figures of one's own: when they change, so may what is drawn and said of it."""
    return [local(os.path.relpath(path)) for system in systems for path in figure_files(SYSTEMS[system])]


def data_files(wildcards):
    """The files of a data set on this machine."""
    return [local(os.path.relpath(path)) for path in local_data(SYSTEMS[wildcards.system])]


def is_from_dataset(wildcards):
    return METHODS[wildcards.system][wildcards.method].get("preferences") == "dataset"


def preference_data(name):
    """What a method learns from: the seed's own trajectories, or what comes with the prompts."""
    return lambda wildcards: f"{DATASET if is_from_dataset(wildcards) else RUN}/{name}.parquet".format(**wildcards)


def preference_scores(wildcards):
    """The scores of the seed's own trajectories; those that come with the prompts have none."""
    return [] if is_from_dataset(wildcards) else f"{RUN}/scores.parquet".format(**wildcards)


def scores_option(wildcards, input):
    return f"--scores {shlex.quote(str(input.scores))}" if input.scores else ""


def process_options(wildcards, resources):
    """The processes that share a training: one for every GPU, or as many as `processes` says; on `nodes` machines."""
    processes = max(1, resources.gpu, resources.processes)
    several = f"--processes {processes}" if processes > 1 else ""
    return f"{several} --machines {resources.nodes}" if resources.nodes > 1 else several


def training_folders(wildcards):
    """A method's own training, or those that it takes components from."""
    row = METHODS[wildcards.system][wildcards.method]
    own = [wildcards.method] if row["objective"] != "none" else dict.fromkeys(row.get("take", {}).values())
    return expand(f"{RUN}/{{method}}/training", system=wildcards.system, seed=wildcards.seed, method=own)


def training_options(wildcards, input):
    folders = " ".join(map(shlex.quote, input.training))
    return f"--training {folders}" if folders else ""


def evaluation_split(wildcards):
    """The main comparison is made on the test prompts; each experiment says which prompts are its own."""
    variant = VARIANTS.get(wildcards.method)
    return EXPERIMENTS[variant["experiment"]]["split"] if variant else "test"


def evaluations_of(system, methods, seeds):
    return expand(f"{RUN}/{{method}}/evaluation", system=system, seed=seeds, method=methods)


def variant_evaluations(wildcards):
    experiment = EXPERIMENTS[wildcards.experiment]
    variants = [name for name, variant in VARIANTS.items() if variant["experiment"] == wildcards.experiment]
    return evaluations_of(experiment["system"], variants, experiment["seeds"])


def trainings_of(system):
    trained = [method for method in SYSTEMS[system]["methods"] if METHODS[system][method]["objective"] != "none"]
    return expand(f"{RUN}/{{method}}/training", system=system, seed=SEEDS, method=trained)


def runs_of(system):
    """What is shown of a system's runs themselves: samples, training curves, the quality of its models."""
    has_foundation = SYSTEMS[system].get("foundation")
    quality = expand(f"{FOUNDATION}/quality.json", system=system, seed=SEEDS if has_foundation else [])
    return evaluations_of(system, SYSTEMS[system]["methods"], SEEDS) + trainings_of(system) + quality


def study_files(name):
    """The table and figures of a study, nothing where the configuration has none of this name."""
    return expand([STUDY_TABLE, f"{STUDY_FIGURE}.png", f"{STUDY_FIGURE}.svg"], study=[name] if name in STUDIES else [])


def experiment_tables(prefix):
    """The tables of the experiments whose names begin so."""
    return expand(EXPERIMENT_TABLE, experiment=[name for name in EXPERIMENTS if name.startswith(prefix)])


def results_shown(wildcards):
    """Everything that the manifest and the report speak of."""
    return [
        DESCRIPTIONS,
        f"{RESULTS}/metrics.csv",
        f"{RESULTS}/comparisons.csv",
        *expand(f"{RESULTS}/tables/{{system}}.{{kind}}", system=SYSTEMS, kind=["csv", "md", "tex"]),
        *expand(CREDIT_TABLE, system=SYSTEMS),
        *([f"{RESULTS}/claims.csv", f"{RESULTS}/claims.md"] if CLAIMS else []),
        *[
            f"{RESULTS}/figures/{system}_{figure}.{kind}"
            for system in SYSTEMS
            for figure in FIGURES[system]
            for kind in ("png", "svg")
        ],
        *study_files("theory"),
        *[path for system in SYSTEMS for path in runs_of(system)],
    ]

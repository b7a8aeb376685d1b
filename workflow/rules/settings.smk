# The settings each step depends on. A rule has them as a parameter, and Snakemake runs a job again when its
# parameters change: a new beta for one method trains and evaluates that method again, and nothing beside it.


def as_parameter(settings):
    """One text for equal settings."""
    # Twice, since YAML reads some labels of a grid as numbers, and keys are sorted as texts only once they are.
    return json.dumps(json.loads(json.dumps(settings)), sort_keys=True)


def sections(system, *names):
    """These parts of a system's settings, less what changes no result: how many jobs share the work."""
    found = {name: without_shards(SYSTEMS[system][name]) for name in names if name in SYSTEMS[system]}
    return found | {"numerics": NUMERICS}


def without_shards(section):
    return {key: value for key, value in section.items() if key != "shards"} if isinstance(section, dict) else section


def settings_of(*names):
    """These sections of the system's settings."""
    return lambda wildcards: as_parameter(sections(wildcards.system, *names))


def sampling_sections(system, *names):
    """With the components as they sample: their adapters and their estimate of a likelihood matter to training."""
    components = {
        name: {key: value for key, value in settings.items() if key not in ("lora", "estimator")}
        for name, settings in SYSTEMS[system]["components"].items()
    }
    return sections(system, "factory", *names) | {"components": components}


def sampling_settings_of(*names):
    return lambda wildcards: as_parameter(sampling_sections(wildcards.system, *names))


def foundation_settings(wildcards):
    model = SYSTEMS[wildcards.system]["foundation"][wildcards.model]
    return as_parameter(sections(wildcards.system, "factory", "questions") | {"model": model})


def training_settings(wildcards):
    """The method's row laid over the defaults, and what fresh trajectories between rounds are made with."""
    shared = sections(wildcards.system, "factory", "components", "trajectories", "scorer")
    row = without(METHODS[wildcards.system][wildcards.method], METHOD_WITHOUT_EFFECT)
    return as_parameter(shared | {"method": row})


def evaluation_settings(wildcards):
    """Of the method's row only what sampling depends on; the rest is felt through its adapters."""
    row = METHODS[wildcards.system][wildcards.method]
    used = {name: row[name] for name in ("best_of", "take") if name in row}
    shared = SYSTEMS[wildcards.system]["training"].get("candidates")
    used |= {"held-out candidates": shared} if shared else {}
    return as_parameter(sampling_sections(wildcards.system, "evaluation", "scorer", "judge") | used)


def description_settings(wildcards):
    """What decides how systems, metrics and methods are called, and nothing of what is trained or measured."""
    shown = {
        system: sections(system, "factory", "figures", "evaluation", "scorer", "judge")
        | {"components": sorted(described["components"])}
        | {"methods": [[name, traits(METHODS[system][name])] for name in MAIN_METHODS[system]]}
        for system, described in SYSTEMS.items()
    }
    return as_parameter({"systems": shown, "studies": list(STUDIES)})


def comparison_settings(wildcards):
    return as_parameter({system: sections(system, "baselines", "evaluation") for system in SYSTEMS})


def experiment_settings(wildcards):
    return as_parameter(EXPERIMENTS[wildcards.experiment])


def study_settings(wildcards):
    return as_parameter(STUDIES[wildcards.study] | {"numerics": NUMERICS})


def experiments_found(wildcards):
    """Checksums of the tables of experiments, studies and ablations that are there: as inputs, they would ask for their runs."""
    tables = {name: EXPERIMENT_TABLE.format(experiment=name) for name in EXPERIMENTS}
    tables |= {name: STUDY_TABLE.format(study=name) for name in STUDIES}
    tables |= {name: f"{RESULTS}/ablations/{name}.csv" for name in ("metrics", "claims")}
    found = {name: path for name, table in tables.items() if (path := Path(placed(table))).is_file()}
    return as_parameter({name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in found.items()})

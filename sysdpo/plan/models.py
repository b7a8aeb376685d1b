"""The system of a run without weights, from local model configurations.

Configurations of hub models ship with the project, in `configs/{organisation}--{name}`; nothing is downloaded.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from sysdpo.base.errors import UserError
from sysdpo.components.pipelines import INDEX
from sysdpo.components.settings import DiffusionSettings, LanguageModelSettings
from sysdpo.components.weightless import weightless_diffusion_model, weightless_language_model
from sysdpo.method.benchmark import Benchmark, Planned, outputs_of
from sysdpo.method.function import Function
from sysdpo.method.system import System

SHIPPED = Path(__file__).parent / "configs"


def loaded(benchmark: Benchmark) -> Mapping[str, Any]:
    """A benchmark's components as its system loads them; `model` is None if the workflow makes the model itself."""
    return benchmark.loaded() if isinstance(benchmark, Planned) else benchmark.components


def build_system(benchmark: Benchmark, where: str) -> System:
    """The system before alignment. Raises `UserError` if a model's configuration is unknown.

    The output of a function is assumed to be as long as its longest input.
    """
    components: dict[str, Any] = {}
    for name, settings in loaded(benchmark).items():
        folder = config_folder(str(settings.model), f"{where}.components.{name}.model")
        if isinstance(settings, LanguageModelSettings):
            components[name] = weightless_language_model(settings, folder)
        elif isinstance(settings, DiffusionSettings):
            components[name] = weightless_diffusion_model(settings, folder)
        else:
            raise UserError(
                f"{where}.components.{name}: the plan knows language models and diffusion models, and no "
                f"{type(settings).__name__}"
            )
    for name in {node.component for node in benchmark.nodes} - components.keys():
        components[name] = Function(partial(_output_of, name))
    return System(benchmark.inputs, benchmark.nodes, components, outputs_of(benchmark))


def _output_of(function: str, *values: Any) -> str:
    return f"{function} {max(map(str, values), key=len)}"


def config_folder(model: str, where: str) -> Path:
    """The folder of a model's configurations, local or shipped; without one, `UserError` names the setting `where`."""
    for folder in (Path(model), SHIPPED / model.replace("/", "--")):
        if any((folder / name).is_file() for name in ("config.json", INDEX)):
            return folder
    known = sorted(folder.name.replace("--", "/") for folder in SHIPPED.iterdir())
    raise UserError(
        f"{where}: the configs of '{model}' are not here; give a local folder in from_pretrained format, or put the "
        f"model's config.json (of a pipeline: model_index.json and its folders' configs) into "
        f"{SHIPPED / model.replace('/', '--')}; the plan knows {known}"
    )

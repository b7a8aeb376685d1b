"""The networks of a run without weights, from configurations that are here, and what their weights would take.

Hub models' folders of configurations ship with the project, in `configs/{organisation}--{name}`; nothing is downloaded.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sysdpo.base.errors import UserError
from sysdpo.components.diffusion import DiffusionModel
from sysdpo.components.pipelines import INDEX
from sysdpo.components.settings import DiffusionSettings, LanguageModelSettings
from sysdpo.components.sharding import group_bytes
from sysdpo.components.weightless import (
    networks_of,
    weight_bytes,
    weightless_diffusion_model,
    weightless_language_model,
)
from sysdpo.method.benchmark import Benchmark, Planned
from sysdpo.method.function import Function
from sysdpo.method.system import System

SHIPPED = Path(__file__).parent / "configs"
FOUR_BITS = 0.5 + 4 / 64  # bytes a weight: NF4 with a float32 scale for each block of 64


def loaded(benchmark: Benchmark) -> Mapping[str, LanguageModelSettings | DiffusionSettings]:
    """A benchmark's components as its system loads them; `model` is None where the workflow makes the model itself."""
    return benchmark.loaded() if isinstance(benchmark, Planned) else benchmark.components


def build_system(benchmark: Benchmark, where: str) -> System:
    """The system before alignment. Raises `UserError` where a model's configuration is not known.

    What a function makes of its inputs is taken to be as long as the longest of them.
    """
    components: dict[str, Any] = {}
    for name, settings in loaded(benchmark).items():
        folder = config_folder(str(settings.model), f"{where}.components.{name}.model")
        is_language = isinstance(settings, LanguageModelSettings)
        build: Any = weightless_language_model if is_language else weightless_diffusion_model
        components[name] = build(settings, folder)
    for name in {node.component for node in benchmark.nodes} - components.keys():
        components[name] = Function(partial(_said_by, name))
    return System(benchmark.inputs, benchmark.nodes, components, getattr(benchmark, "outputs", None))


def _said_by(function: str, *values: Any) -> str:
    return f"{function} {max(map(str, values), key=len)}"


def config_folder(model: str, where: str) -> Path:
    """The folder of a model's configurations: a local one, or one that ships. `UserError` names the setting `where`."""
    for folder in (Path(model), SHIPPED / model.replace("/", "--")):
        if any((folder / name).is_file() for name in ("config.json", INDEX)):
            return folder
    known = sorted(folder.name.replace("--", "/") for folder in SHIPPED.iterdir())
    raise UserError(
        f"{where}: the configs of '{model}' are not here; give a local folder in from_pretrained format, or put the "
        f"model's config.json (of a pipeline: model_index.json and its folders' configs) into "
        f"{SHIPPED / model.replace('/', '--')}; the plan knows {known}"
    )


class Held:
    """The bytes of a component's weights on a GPU: `whole`, and `share` in a training by so many processes.

    four_bit: whether its linear layers but the last are held in four bits; `unpacked` is the largest of these as it is
    multiplied, one at a time.
    """

    def __init__(self, component: Any, *, four_bit: bool = False, processes: int = 1):
        networks = networks_of(component)
        packed = _packed(networks) if four_bit else []
        self.unpacked = max((weight.nbytes for weight in packed), default=0)
        self.whole = weight_bytes(*networks) - sum(each.nbytes - FOUR_BITS * each.numel() for each in packed)
        self.share = self.whole
        if getattr(component, "sharded", False) and processes > 1:
            network = component.denoiser if isinstance(component, DiffusionModel) else component.model.get_base_model()
            groups = group_bytes(network, network._no_split_modules, whole=packed)
            # Of the groups that are gathered one after the other, one is whole while the next is on its way.
            self.share += sum(sorted(groups)[-2:]) - sum(groups) * (1 - 1 / processes)


def _packed(networks: list[nn.Module]) -> list[Tensor]:
    """The weights that `load_in_4bit` holds in four bits."""
    named = [each for network in networks for each in network.named_modules() if isinstance(each[1], nn.Linear)]
    return [layer.weight for name, layer in named if "lora_" not in name and not name.endswith("lm_head")]

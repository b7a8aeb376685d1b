"""Networks on the meta device, built from the configs of a model folder: all shapes, no weights.

Hub models' folders of configs ship with the project, in `configs/{organisation}--{name}`; nothing is downloaded.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sysdpo.base.errors import UserError
from sysdpo.components.pipelines import part_class

SHIPPED = Path(__file__).parent / "configs"
FOUR_BITS = 0.5 + 4 / 64  # bytes a weight: NF4 with a float32 scale for each block of 64


@dataclass(eq=False)
class Pipeline:
    """A diffusers pipeline's networks by name, its scheduler, and the text encoders' longest prompt in tokens."""

    networks: Mapping[str, Any]
    scheduler: Any
    prompt_tokens: int
    text_encoders: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.text_encoders = [name for name in self.networks if name.startswith("text_encoder")]

    @property
    def denoiser(self) -> Any:
        """The network that is trained."""
        return self.networks["unet"] if "unet" in self.networks else self.networks["transformer"]

    @property
    def is_transformer(self) -> bool:
        """Whether the denoiser is a transformer as in Stable Diffusion 3."""
        return "unet" not in self.networks

    @property
    def vae(self) -> Any:
        """The autoencoder between pixels and latents."""
        return self.networks["vae"]

    @property
    def pixels_per_latent(self) -> int:
        """How many pixels one latent position stands for, along a side."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)


def config_folder(model: str, where: str) -> Path:
    """The folder of a model's configs: a local one, or one that ships. `UserError` names the setting `where`."""
    local, shipped = Path(model), SHIPPED / model.replace("/", "--")
    for folder in (local, shipped):
        if any((folder / name).is_file() for name in ("config.json", "model_index.json")):
            return folder
    known = sorted(folder.name.replace("--", "/") for folder in SHIPPED.iterdir())
    raise UserError(
        f"{where}: the configs of '{model}' are not here; give a local folder in from_pretrained format, or put the "
        f"model's config.json (of a pipeline: model_index.json and its folders' configs) into "
        f"{shipped}; the plan knows {known}"
    )


def language_network(folder: Path, dtype: str) -> Any:
    """A causal language model."""
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), dtype=getattr(torch, dtype))


def pipeline_networks(folder: Path, dtype: str) -> Pipeline:
    """The networks that a pipeline's folder lists in `model_index.json`, in a number format."""
    index = _read(folder / "model_index.json")
    networks: dict[str, Any] = {}
    scheduler, lengths = None, []
    for name, described in index.items():
        if not isinstance(described, list) or described[0] is None:
            continue
        if name == "scheduler":
            scheduler = part_class(described).from_config(_read(folder / name / "scheduler_config.json"))
        elif (folder / name / "config.json").is_file():
            networks[name] = _network(part_class(described), folder / name).to(getattr(torch, dtype)).eval()
            if name.startswith("text_encoder"):
                lengths.append(getattr(networks[name].config, "max_position_embeddings", None))
    # CLIP encoders say the same positions in more channels; a T5 says them again, in 256 positions of its own.
    tokens = max((length for length in lengths if length), default=0) + 256 * lengths.count(None)
    return Pipeline(networks, scheduler, tokens)


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"model: '{path}' should be a model's configuration in JSON ({error})") from error


def _network(kind: Any, folder: Path) -> Any:
    with torch.device("meta"):
        if hasattr(kind, "load_config"):
            return kind.from_config(_read(folder / "config.json"))
        return kind(kind.config_class.from_pretrained(folder))


def scoring_network(folder: Path, dtype: str) -> Any:
    """A model that judges: CLIP, a classifier of images or of texts, or a folder with an attribute regressor."""
    import transformers

    from sysdpo.applications.images.regressor import AttributeRegressor

    described = _read(folder / "config.json")
    with torch.device("meta"):
        if "model_type" not in described:
            return AttributeRegressor(**described).eval()
        config = transformers.AutoConfig.from_pretrained(folder)
        kind = getattr(transformers, (described.get("architectures") or ["AutoModelForSequenceClassification"])[0])
        return kind._from_config(config, dtype=getattr(torch, dtype)).eval()


def networks_of(model: nn.Module | Pipeline) -> tuple[nn.Module, ...]:
    """All networks of a model."""
    return tuple(model.networks.values()) if isinstance(model, Pipeline) else (model,)


def parameters(*networks: nn.Module) -> int:
    """How many weights networks have, each counted once."""
    return sum(weight.numel() for weight in _weights(networks))


def trainable(*networks: nn.Module) -> int:
    """How many of them may be trained."""
    return sum(weight.numel() for weight in _weights(networks) if weight.requires_grad)


def weight_bytes(*networks: nn.Module, four_bit: bool = False) -> float:
    """What weights and buffers take; `four_bit` holds the weights of linear layers but the last in four bits."""
    small = {id(weight) for network in networks for weight in _packed(network)} if four_bit else set()
    tensors = [*_weights(networks), *(buffer for network in networks for buffer in network.buffers())]
    return sum(each.numel() * (FOUR_BITS if id(each) in small else each.element_size()) for each in tensors)


def unpacked_bytes(network: nn.Module) -> float:
    """The largest weight that is held in four bits, in the number format in which it is multiplied."""
    return max((_bytes(weight) for weight in _packed(network)), default=0)


def _packed(network: nn.Module) -> list[torch.Tensor]:
    """The weights that `load_in_4bit` holds in four bits."""
    return [
        module.weight
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and "lora_" not in name and not name.endswith("lm_head")
    ]


def sharded_bytes(network: nn.Module, processes: int, *, four_bit: bool = False) -> float:
    """What each of so many processes holds of a network's weights, split as `components.sharding.shard` does.

    Of the blocks that are gathered one after the other, one is whole while the next is on its way.
    """
    whole = {id(weight) for weight in _packed(network)} if four_bit else set()
    split = []
    # Children first: a block's share is what no block within it has claimed.
    for module in reversed(list(network.modules())):
        if type(module).__name__ in _blocks(network):
            own = [each for each in module.parameters() if not each.requires_grad and id(each) not in whole]
            whole |= {id(each) for each in own}
            split.append(sum(map(_bytes, own)))
    gathered = sum(sorted(split)[-2:])
    return weight_bytes(network, four_bit=four_bit) - sum(split) * (1 - 1 / processes) + gathered


def _blocks(network: Any) -> Any:
    return (network.get_base_model() if hasattr(network, "get_base_model") else network)._no_split_modules or ()


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _weights(networks: tuple[nn.Module, ...]) -> list[nn.Parameter]:
    return list({id(weight): weight for network in networks for weight in network.parameters()}.values())

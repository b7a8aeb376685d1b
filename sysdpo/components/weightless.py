"""Components from their models' configurations alone, on torch's meta device: all shapes, no weights.

Stand-ins for tokenizers whose files are not there give the right number of tokens, not the same ones.
"""

import inspect
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from accelerate import init_empty_weights
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from sysdpo.base.errors import UserError
from sysdpo.base.functions import load_function
from sysdpo.base.settings import without
from sysdpo.components.diffusion import DiffusionModel
from sysdpo.components.language import LanguageModel
from sysdpo.components.loading import load_tokenizer
from sysdpo.components.pipelines import INDEX, part_class
from sysdpo.components.prompting import conversation
from sysdpo.components.settings import DiffusionSettings, LanguageModelSettings
from sysdpo.components.sharding import group_bytes

TOKENS_A_WORD = 1.4  # of English, with its punctuation: a little more than tokenizers need on average
MESSAGE_TOKENS = 10  # what a chat template puts around a message
KNOWN_TOKENS = 50
FOUR_BITS = 0.5 + 4 / 64  # bytes a weight: NF4 with a float32 scale for each block of 64
T5_TOKENS = 256  # of a prompt, for text encoders that have positions for any number
NOT_LOADED = {"safety_checker": None, "requires_safety_checker": False, "add_watermarker": False}


def weightless_language_model(settings: LanguageModelSettings, folder: Path) -> LanguageModel:
    """The language model of a folder with a `config.json`, with its own tokenizer if that is there.

    It is never held in four bits. Without a template the prompt is the node's first input.
    """
    with torch.device("meta"):
        config = transformers.AutoConfig.from_pretrained(folder)
        network = transformers.AutoModelForCausalLM.from_config(config, dtype=getattr(torch, settings.dtype))
    arguments = without(settings.arguments, ("model", "revision", "dtype", "load_in_4bit"))
    with init_empty_weights():
        return LanguageModel(network, tokenizer_of(folder), **arguments)


def tokenizer_of(folder: Path) -> Any:
    """The tokenizer in a folder; where there is none, one that gives about as many tokens."""
    return load_tokenizer(folder) if (folder / "tokenizer_config.json").is_file() else CountingTokenizer()


def conversation_tokens(folder: Path, asked: Sequence[str], answered: Sequence[str]) -> int:
    """The tokens of a question and its answer to the model in a folder, in its chat template or as a pair."""
    tokenizer = tokenizer_of(folder)
    question, answer = "\n\n".join(asked), "\n\n".join(answered)
    if tokenizer.chat_template is None:
        return len(tokenizer(question, answer)["input_ids"])
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return len(conversation(tokenizer, turns, str(folder)))


def weightless_diffusion_model(settings: DiffusionSettings, folder: Path) -> DiffusionModel:
    """The pipeline of a folder with a `model_index.json` and its parts' configurations, without a safety checker."""
    index, dtype = _read(folder / INDEX), getattr(torch, settings.dtype)
    parts: dict[str, Any] = {}
    for name, described in index.items():
        if isinstance(described, list) and described[0] is not None and name not in NOT_LOADED:
            parts[name] = _part(part_class(described), folder / name, dtype)
    encoders = [part for name, part in parts.items() if name.startswith("text_encoder")]
    tokenizers = [name for name in parts if name.startswith("tokenizer")]
    for name, encoder in zip(tokenizers, encoders, strict=True):
        longest = getattr(encoder.config, "max_position_embeddings", T5_TOKENS)
        parts[name] = parts[name] or _padding_tokenizer(longest)
    kind: Any = load_function(settings.pipeline, "pipeline")
    if kind is diffusers.DiffusionPipeline:
        kind = getattr(diffusers, index["_class_name"])
    known = inspect.signature(kind.__init__).parameters
    others = {name: value for name, value in (index | NOT_LOADED).items() if name in known}
    arguments = without(settings.arguments, ("model", "revision", "variant", "pipeline", "dtype"))
    with init_empty_weights():
        return DiffusionModel(kind(**others | parts), **arguments)


def _part(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    """A part of a pipeline; None if its folder has no configuration."""
    if hasattr(kind, "set_timesteps"):
        return kind.from_config(_read(folder / "scheduler_config.json"))
    if (folder / "tokenizer_config.json").is_file():
        return kind.from_pretrained(folder)
    if not (folder / "config.json").is_file():
        return None
    with torch.device("meta"):
        if hasattr(kind, "load_config"):
            return kind.from_config(_read(folder / "config.json")).to(dtype)
        return kind(kind.config_class.from_pretrained(folder)).to(dtype)


def weightless_judge(folder: Path, dtype: str) -> Any:
    """A frozen model that scores images or texts; None if the folder's `config.json` is not of transformers."""
    described = _read(folder / "config.json")
    if "model_type" not in described:
        return None
    kind = getattr(transformers, (described.get("architectures") or ["AutoModelForSequenceClassification"])[0])
    with torch.device("meta"):
        config = transformers.AutoConfig.from_pretrained(folder)
        return kind._from_config(config, dtype=getattr(torch, dtype)).requires_grad_(False).eval()


def networks_of(*components: Any) -> list[nn.Module]:
    """All networks of these components; functions have none."""
    models = [part.model for part in components if isinstance(part, LanguageModel)]
    pipelines = [part.pipeline for part in components if isinstance(part, DiffusionModel)]
    parts = [part for pipeline in pipelines for part in pipeline.components.values()]
    return [part for part in (*models, *parts) if isinstance(part, nn.Module)]


def parameters(*networks: nn.Module, trained: bool = False) -> int:
    """The number of weights in networks, or of the trained ones alone."""
    weights = nn.ModuleList(networks).parameters()
    return sum(weight.numel() for weight in weights if weight.requires_grad or not trained)


def weight_bytes(*networks: nn.Module, frozen: bool = False) -> float:
    """The bytes of weights and buffers, or of those alone that are not trained."""
    every = nn.ModuleList(networks)
    return sum(
        tensor.nbytes for tensor in (*every.parameters(), *every.buffers()) if not (frozen and tensor.requires_grad)
    )


class Held:
    """The bytes of a component's weights on a GPU: `whole`, and `share` in a training by several processes.

    `file` are those of the frozen weights as they are loaded, `unpacked` those of the largest layer in four bits while
    it is multiplied.

    four_bit: whether all linear layers but the last are held in four bits.
    """

    def __init__(self, component: Any, processes: int = 1, *, four_bit: bool = False):
        networks = networks_of(component)
        packed = _packed(networks) if four_bit else []
        self.file = weight_bytes(*networks, frozen=True)
        self.unpacked = max((weight.nbytes for weight in packed), default=0)
        self.whole = weight_bytes(*networks) - sum(tensor.nbytes - FOUR_BITS * tensor.numel() for tensor in packed)
        self.share = self.whole
        if getattr(component, "sharded", False) and processes > 1:
            network = component.denoiser if isinstance(component, DiffusionModel) else component.model.get_base_model()
            groups = group_bytes(network, network._no_split_modules, whole=packed)
            # Of the groups that are gathered one after the other, one is whole while the next is on its way.
            self.share += sum(sorted(groups)[-2:]) - sum(groups) * (1 - 1 / processes)


def _packed(networks: list[nn.Module]) -> list[Tensor]:
    """The weights that `load_in_4bit` holds in four bits."""
    named = [layer for network in networks for layer in network.named_modules() if isinstance(layer[1], nn.Linear)]
    return [layer.weight for name, layer in named if "lora_" not in name and not name.endswith("lm_head")]


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"model: '{path}' should be a model's configuration in JSON ({error})") from error


class CountingTokenizer:
    """A stand-in for a language model's tokenizer: a fixed number of tokens for each word, always the same ones."""

    chat_template = ""
    bos_token_id = eos_token_id = 1
    all_special_ids = (1,)
    added_tokens_decoder: Mapping[int, Any] = {}

    def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
        """Token ids under `input_ids`."""
        words = text.split()
        ends = pairwise(math.ceil(TOKENS_A_WORD * count) for count in range(len(words) + 1))
        spans = zip(words, ends, strict=True)
        tokens = [zlib.crc32(word.encode()) % KNOWN_TOKENS for word, (start, end) in spans for _ in range(start, end)]
        return {"input_ids": tokens}

    def apply_chat_template(self, messages: Any, *, tokenize: bool = True, **_: Any) -> Any:
        """The messages one after the other, each with the tokens that a template puts around it."""
        if not tokenize:
            return "".join(message["content"] for message in messages)
        return [token for message in messages for token in [0] * MESSAGE_TOKENS + self(message["content"])["input_ids"]]


def _padding_tokenizer(longest: int) -> PreTrainedTokenizerFast:
    """A stand-in for a text encoder's tokenizer, which pads every prompt to its longest."""
    words = Tokenizer(WordLevel({"<unk>": 0}, unk_token="<unk>"))
    special = {"unk_token": "<unk>", "pad_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=longest, **special)

"""What a language model at a node takes: to train, to generate, to say how likely an answer is."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from sysdpo.components.architectures import architecture_of
from sysdpo.components.settings import LanguageModelSettings
from sysdpo.plan.depth import of_all_layers
from sysdpo.plan.meter import NOTHING, Meter, Usage, extended, reserve_gradients
from sysdpo.plan.models import parameters, sharded_bytes, trainable, unpacked_bytes, weight_bytes

NEAR = 0.1  # of a length
CONTEXTS = 64, 512  # tokens


@dataclass(frozen=True)
class Lengths:
    """Tokens of the longest prompt, of which all prompts begin with `shared`, and of the completion."""

    shared: int
    prompt: int
    completion: int


@dataclass(frozen=True)
class Pass:
    """A batch through a component's `log_probs` and back: the policy, its reference, and the gradients of the policy.

    What `reference` and `backward` say of memory is beyond what `policy` keeps. `plain` is the policy where nothing is
    trained.
    """

    policy: Usage
    reference: Usage
    backward: Usage
    plain: Usage

    def rows(self, count: float) -> "Pass":
        """Of so many times as many rows."""
        return self.joined(self, lambda usage, _: usage.rows(count))

    def joined(self, other: "Pass", how: Callable[[Usage, Usage], Usage]) -> "Pass":
        """Each part with the other's."""
        names = [each.name for each in fields(Pass)]
        return Pass(**{name: how(getattr(self, name), getattr(other, name)) for name in names})


class LanguagePlan:
    """A language model with its adapter. `typical` lengths are what is computed with, `longest` what must fit.

    Where it generates, some row of a batch is taken to go on for `max_new_tokens`.
    """

    def __init__(self, network: Any, settings: LanguageModelSettings, typical: Lengths, longest: Lengths):
        if not architecture_of(network.get_base_model()).shares:
            typical, longest = replace(typical, shared=0), replace(longest, shared=0)
        self.network, self.settings, self.longest = network, settings, longest
        # Lengths that hardly differ are counted once.
        self.typical = longest if longest.prompt - typical.prompt <= NEAR * longest.prompt else typical
        self.parameters, self.trainable = parameters(network), trainable(network)
        self.weights = weight_bytes(network, four_bit=settings.load_in_4bit)
        # Weights in four bits are unpacked one at a time.
        self.unpacked = unpacked_bytes(network) if settings.load_in_4bit else 0.0
        self.stored = (self.parameters - self.trainable) * (4 if settings.dtype == "float32" else 2)
        self.batch_size, self.sharded = settings.batch_size, settings.sharded
        self.dtype = getattr(torch, settings.dtype)
        self.images = 0

    @property
    def caches_reference(self) -> bool:
        """Whether what the reference says of a value is computed once."""
        return self.dtype == torch.float32 and not self.sharded

    @property
    def tokens(self) -> int:
        """Of a row."""
        return self.typical.prompt + self.typical.completion

    def held(self, processes: int) -> float:
        """The bytes of weights that each of so many processes holds in training."""
        if not self.sharded or processes == 1:
            return self.weights
        return sharded_bytes(self.network, processes, four_bit=self.settings.load_in_4bit)

    def training(self, rows: float) -> Pass:
        """Of so many rows at once: the memory of the longest, the arithmetic of typical ones."""
        typical, longest = self._training(rows, self.typical), self._training(rows, self.longest)
        return typical.joined(longest, lambda usual, most: Usage(usual.flops, most.peak + self.unpacked, most.kept))

    def _training(self, rows: float, lengths: Lengths) -> Pass:
        if self.settings.gradient_checkpointing or self.sharded:  # then every row is read whole
            lengths = replace(lengths, shared=0)
        policy, backward = (self._of(rows, lengths, part) for part in (0, 1))
        reference, plain = (self._forward(rows, lengths, adapted=adapted) for adapted in (False, True))
        return Pass(policy, reference, backward, plain)

    def _forward(self, rows: float, lengths: Lengths, *, adapted: bool) -> Usage:
        once, row = forward(self.network, lengths, adapted=adapted)
        return once + row.rows(rows)

    def _of(self, rows: float, lengths: Lengths, part: int) -> Usage:
        """A part of `gradients`, from two rows, and from four where they share a prefix; all else grows with them."""
        two = gradients(self.network, lengths, 2)[part]
        if not lengths.shared:
            return two.rows(rows / 2)
        return extended(two, gradients(self.network, lengths, 4)[part], (rows - 2) / 2)

    def likelihood(self, rows: float) -> Usage:
        """Policy and reference of so many rows at once, without gradients."""
        through = self.training(rows)
        return through.plain + through.reference

    def sampling(self, rows: float) -> Usage:
        """A completion for each of so many rows, `batch_size` at a time; every batch goes on to its longest."""
        batch = min(rows, self.batch_size)
        return self._generation(batch, 1, self.typical, self.longest).times(rows / batch) if rows else NOTHING

    def beams(self, prompts: float, count: int, *, drawn: bool) -> Usage:
        """Candidates, `batch_size` at once: `count` beams a prompt, or as many draws, which encode a prompt each."""
        typical, longest = (replace(lengths, shared=0) for lengths in (self.typical, self.longest))
        rows, width = (prompts * count, 1) if drawn else (prompts, count)
        batch = min(rows, max(1, self.batch_size // width))
        return self._generation(batch, width, typical, longest).times(rows / batch)

    def _generation(self, prompts: float, width: int, typical: Lengths, longest: Lengths) -> Usage:
        return replace(self.generation(prompts, width, typical), peak=self.generation(prompts, width, longest).peak)

    def generation(self, prompts: float, width: int, lengths: Lengths) -> Usage:
        """`width` completions of each of so many prompts, token by token."""
        rows = prompts * width
        (first,), steps = prefill(self.network, lengths), self.settings.max_new_tokens - 1
        middle = decoding(self.network, lengths.prompt + steps // 2)
        last = decoding(self.network, lengths.prompt + steps)
        flops = (Usage(first.flops).times(prompts) + Usage(middle.flops).times(rows * steps)).flops
        peak = max(first.peak * prompts, (last.kept + last.peak) * rows) + self.unpacked
        return Usage(flops, peak, read=(steps + 1) * self.weights + steps * middle.kept * rows)


@of_all_layers
def gradients(network: Any, lengths: Lengths, rows: int) -> tuple[Usage, Usage]:
    """The policy's log-probabilities, as `LanguageModel` computes them, and their gradients."""
    with torch.device("meta"):
        reserve_gradients(network)
        with Meter() as meter:
            with meter.phase() as policy:
                log_prob = _log_prob(network, lengths, rows, _prefix(network, lengths))
            with meter.phase() as backward:
                log_prob.sum().backward()
    return policy[0], backward[0]


@of_all_layers
def forward(network: Any, lengths: Lengths, *, adapted: bool) -> tuple[Usage, Usage]:
    """Log-probabilities alone, of the shared prefix and of one row: the policy's, or, adapter off, the reference's."""
    switched = nullcontext() if adapted else network.disable_adapter()
    with switched, torch.device("meta"), torch.no_grad(), Meter() as meter:
        with meter.phase() as once:
            cached = _prefix(network, lengths)
        with meter.phase() as found:
            _log_prob(network, lengths, 2, cached)
    return once[0], found[0].rows(1 / 2)


def _prefix(network: Any, lengths: Lengths) -> Any:
    """Keys and values of the prefix that all rows share, if there is one."""
    _tell_layers(network)
    if not lengths.shared:
        return None
    tokens = torch.zeros(1, lengths.shared, dtype=torch.long)
    return network(input_ids=tokens, use_cache=True, logits_to_keep=1).past_key_values


def _log_prob(network: Any, lengths: Lengths, rows: int, cached: Any) -> Tensor:
    prompt = lengths.prompt - lengths.shared
    input_ids = torch.zeros(rows, prompt + lengths.completion, dtype=torch.long)
    kept = torch.arange(prompt - 1, prompt + lengths.completion - 1)
    if cached is not None:
        cached.batch_repeat_interleave(rows)
    logits = network(input_ids=input_ids, past_key_values=cached, logits_to_keep=kept).logits.float()
    targets = input_ids[:, kept + 1]
    return logits.log_softmax(-1).gather(-1, targets[..., None])[..., 0].sum(-1)


def _tell_layers(network: Any) -> None:
    """Layers recompute their activations only when they are told that they train."""
    for part in network.modules():
        if getattr(part, "gradient_checkpointing", False):
            part.training = torch.is_grad_enabled()


@of_all_layers
def prefill(network: Any, lengths: Lengths) -> tuple[Usage]:
    """Reading a prompt before the first token: of one row, less the prefix that all rows share."""
    own = torch.zeros(2, lengths.prompt - lengths.shared, dtype=torch.long, device="meta")
    cached = _filled_cache(network, lengths.shared, 2) if lengths.shared else None
    with torch.device("meta"), torch.no_grad(), Meter() as meter, meter.phase() as found:
        _tell_layers(network)
        network(input_ids=own, past_key_values=cached, use_cache=True, logits_to_keep=1)
    return (found[0].rows(1 / 2),)


def decoding(network: Any, context: int) -> Usage:
    """One token more after so many: of one row, `kept` being its keys and values. All of it grows evenly with these."""
    few, many = (_decoding(network, tokens)[0] for tokens in CONTEXTS)
    return extended(few, many, (context - CONTEXTS[0]) / (CONTEXTS[1] - CONTEXTS[0]))


@of_all_layers
def _decoding(network: Any, context: int) -> tuple[Usage]:
    cached = _filled_cache(network, context, 2)
    held = sum(part.nbytes for layer in cached.layers for part in (layer.keys, layer.values))
    with torch.device("meta"), torch.no_grad(), Meter() as meter, meter.phase() as found:
        _tell_layers(network)
        said = torch.empty(2, network.config.vocab_size)
        cached.reorder_cache(torch.arange(2))
        token = torch.zeros(2, 1, dtype=torch.long)
        logits = network(input_ids=token, past_key_values=cached, use_cache=True, logits_to_keep=1).logits
        scores = said + logits[:, -1].float().log_softmax(-1)
    del scores
    return (Usage(found[0].rows(1 / 2).flops, found[0].peak / 2, held / 2),)


def _filled_cache(network: Any, tokens: int, rows: int) -> DynamicCache:
    """Keys and values of so many tokens in so many rows, without going through the network for them."""
    one = torch.zeros(1, 1, dtype=torch.long, device="meta")
    with torch.no_grad(), Meter():
        _tell_layers(network)
        layers = network(input_ids=one, use_cache=True, logits_to_keep=1).past_key_values.layers
    pairs = [(layer.keys, layer.values) for layer in layers if layer.is_initialized]
    return DynamicCache([tuple(_many(part, tokens, rows) for part in pair) for pair in pairs])


def _many(part: Tensor, tokens: int, rows: int) -> Tensor:
    return part.new_empty(rows, part.shape[1], tokens, part.shape[3])

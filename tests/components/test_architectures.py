"""Whatever a decoder is made of, what is computed in batches is what a plain forward pass says of each row alone."""

import pytest
import tiny_decoders
import torch
from tiny_models import perturb
from torch import Tensor
from transformers import DynamicCache, Gemma3TextConfig, LlamaConfig, Phi3Config, Qwen2Config

from sysdpo.base.errors import UserError
from sysdpo.components.architectures import context_length
from sysdpo.components.language import GumbelNoise, LanguageModel
from sysdpo.method.candidates import CandidateSettings, propose
from sysdpo.method.values import Completion

# Longer than the windows, and of different lengths, which completions of up to 12 tokens carry on.
UNLIKE = ["What is a cat? Describe the cat at length.", "Is a dog alive?", "Write a sentence about a river, or two."]
PREFIX = "Explain it as if to a child of five years. Give a detailed and long answer. "
ALIKE = [PREFIX + text for text in ("A cat?", "What is a stone that is older than every river?", "Is a dog alive?")]
ANSWERS = ["A cat is what one calls a cat.", "No river.", "Everybody knows one when they see one."]


def component(name: str, **settings) -> LanguageModel:
    torch.manual_seed(0)
    made = LanguageModel(
        tiny_decoders.decoder(name, noise=settings.pop("noise", None)),
        tiny_decoders.tokenizer(),
        lora=tiny_decoders.lora(name),
        max_new_tokens=12,
        **settings,
    )
    perturb(made)
    return made


def answers(language: LanguageModel) -> list[Completion]:
    end = language.tokenizer.eos_token_id
    return [
        Completion(text, (*language.tokenizer(text, add_special_tokens=False)["input_ids"], end)) for text in ANSWERS
    ]


@torch.no_grad()
def plain_logits(language: LanguageModel, prompt: str, tokens: tuple[int, ...]) -> Tensor:
    """What predicts each of these tokens, `[tokens, vocabulary]`: one row, no padding, no cache."""
    ids = torch.tensor([[*language.encode_prompt((prompt,)), *tokens]])
    return language.model(input_ids=ids, use_cache=False).logits[0, -len(tokens) - 1 : -1].float()


def plain_log_prob(language: LanguageModel, prompt: str, tokens: tuple[int, ...]) -> float:
    log_probs = plain_logits(language, prompt, tokens).log_softmax(-1)
    return float(log_probs.gather(-1, torch.tensor(tokens)[:, None]).sum())


@pytest.mark.parametrize("prompts", [UNLIKE, ALIKE], ids=["unlike", "alike"])
@pytest.mark.parametrize("name", tiny_decoders.DECODERS)
def test_batches_say_what_a_plain_forward_pass_says(name: str, prompts: list[str]) -> None:
    language = component(name)
    conditions = [(prompt,) for prompt in prompts]

    values = answers(language)
    computed = language.log_probs(conditions, values, draw=[0] * 3).policy.tolist()
    expected = [plain_log_prob(language, *row) for row in zip(prompts, (value.tokens for value in values), strict=True)]
    assert computed == pytest.approx(expected, abs=1e-4)

    drawn = language.sample(conditions, seeds=[7, 8, 9])
    for prompt, seed, value in zip(prompts, [7, 8, 9], drawn, strict=True):
        noise = GumbelNoise([seed], 1.0)
        logits = plain_logits(language, prompt, value.tokens)
        assert value.tokens == tuple(int(noise(torch.empty(1, 0), row[None]).argmax()) for row in logits)
    assert max(len(value.tokens) for value in drawn) > tiny_decoders.WINDOW

    for settings in (
        CandidateSettings(generator="beam", count=2),
        CandidateSettings(generator="ancestral", estimator="importance", count=2),
    ):
        for prompt, found in zip(
            prompts, propose(language.decoder(conditions), settings, seeds=[1, 2, 3]), strict=True
        ):
            assert len(found) == 2
            for candidate in found:
                expected_log_prob = plain_log_prob(language, prompt, candidate.value.tokens)
                assert candidate.log_prob == pytest.approx(expected_log_prob, abs=1e-4)


@pytest.mark.parametrize("name", tiny_decoders.DECODERS)
def test_layers_that_compute_again_add_no_noise(name: str) -> None:
    """Dropout and a router's jitter are at a half in the configuration, and off in policy and reference."""
    plain = component(name, noise=0.5)
    values, conditions = answers(plain), [(prompt,) for prompt in UNLIKE]
    expected = plain.log_probs(conditions, values, draw=[0] * 3)
    if not plain.model.get_base_model().supports_gradient_checkpointing:
        with pytest.raises(UserError, match=r"gradient_checkpointing: true should be false for a \w+, whose layers"):
            component(name, gradient_checkpointing=True)
        return
    again = component(name, noise=0.5, gradient_checkpointing=True)
    computed = again.log_probs(conditions, values, draw=[0] * 3)
    torch.testing.assert_close(computed.policy, expected.policy, rtol=0, atol=1e-5)
    torch.testing.assert_close(computed.reference, expected.reference, rtol=0, atol=1e-5)
    gradients = [
        torch.autograd.grad(each.policy.sum(), part.trainable_parameters(), allow_unused=True)
        for each, part in ((expected, plain), (computed, again))
    ]
    for ours, theirs in zip(*gradients, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert not any(module.training for module in again.model.modules())


def test_layers_keep_no_activations_where_they_compute_again() -> None:
    kept = {}
    for checkpointed in (False, True):
        language, sizes = component("Llama", gradient_checkpointing=checkpointed), []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, sizes=sizes: sizes.append(x.numel()) or x, lambda x: x):
            language._completion_log_probs([[1, 2, 3]], [Completion("", (4, 5))])
        kept[checkpointed] = sum(sizes)
    assert kept[True] < kept[False] / 2


@pytest.mark.parametrize("name", tiny_decoders.REFUSED)
def test_what_cannot_be_made_right_is_refused_when_it_is_built(name: str) -> None:
    with pytest.raises(UserError, match=r"model: a \w+ (reads a text from both sides|should be a causal language)"):
        component(name)


def test_an_encoder_that_is_told_to_decode_is_taken() -> None:
    network = tiny_decoders.decoder("BERT")
    network.config.is_decoder = True
    LanguageModel(network, tiny_decoders.tokenizer(), lora=tiny_decoders.lora("BERT"))


def test_all_linear_layers_of_a_model_whose_router_is_one_are_refused() -> None:
    lora = {"r": 2, "target_modules": "all-linear"}
    with pytest.raises(UserError, match=r"lora.target_modules: all-linear should leave out 'router', the choice"):
        LanguageModel(tiny_decoders.decoder("Llama 4"), tiny_decoders.tokenizer(), lora=lora)


@pytest.mark.parametrize(
    ("name", "pads", "shares"),
    [
        ("Llama", True, True),
        ("OPT", True, True),
        ("Mistral", True, False),
        ("Gemma 3n", True, False),
        ("Llama 4", True, False),
        ("Bloom", False, True),
        ("Mamba", False, False),
        ("Qwen3-Next", False, False),
    ],
)
def test_what_is_padded_and_what_is_shared(name: str, pads: bool, shares: bool) -> None:
    """Padded in one batch, or as many batches as lengths; a prefix by itself, or with every row."""
    language = component(name)
    sizes: list[tuple[int, ...]] = []
    language.model.register_forward_pre_hook(
        lambda module, args, kwargs: sizes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    conditions = [(prompt,) for prompt in ALIKE]
    language._completion_log_probs(language._encode(conditions), answers(language))
    prefix = len(language.tokenizer(PREFIX)["input_ids"])
    assert (sizes[0] == (1, prefix)) == shares
    sizes.clear()
    language.decoder(conditions).start()
    assert [rows for rows, _ in sizes] == ([3] if pads else [1, 1, 1])


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (LlamaConfig(max_position_embeddings=512), 512),
        (tiny_decoders.decoder("GPT-2").config, 256),
        (tiny_decoders.decoder("Bloom").config, None),
        (tiny_decoders.decoder("MPT").config, None),
        (tiny_decoders.decoder("Falcon").config, None),
        (tiny_decoders.decoder("Mamba").config, None),
        (Gemma3TextConfig(max_position_embeddings=777), 777),
        (
            Qwen2Config(
                max_position_embeddings=512,
                rope_parameters={
                    "rope_type": "yarn",
                    "rope_theta": 1e4,
                    "factor": 4.0,
                    "original_max_position_embeddings": 512,
                },
            ),
            2048,
        ),
        # Past the original length these positions would depend on the longest row of a batch.
        (
            LlamaConfig(
                max_position_embeddings=512, rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
            ),
            512,
        ),
        (
            Phi3Config(
                max_position_embeddings=512,
                original_max_position_embeddings=128,
                rope_parameters={
                    "rope_type": "longrope",
                    "rope_theta": 1e4,
                    "short_factor": [1.0] * 48,
                    "long_factor": [2.0] * 48,
                },
            ),
            128,
        ),
    ],
    ids=str,
)
def test_how_far_positions_reach(config, expected: int | None) -> None:
    assert context_length(config) == expected


def test_a_cache_is_what_generation_makes() -> None:
    language = component("Gemma 2")
    ours = [type(layer) for layer in language.architecture.new_cache().layers]
    assert ours == [type(layer) for layer in DynamicCache(config=language.model.config).layers]
    assert len(set(ours)) == 2

"""Log-probabilities of a language model against an independent computation in float64."""

import copy
from importlib.util import find_spec
from pathlib import Path

import pytest
import tiny_chat
import torch
from tiny_models import LANGUAGE_LORA, completion, perturb
from torch import Tensor
from transformers import GenerationConfig, PreTrainedTokenizerBase, Qwen2Config, Qwen2ForCausalLM

from sysdpo.base.errors import UserError
from sysdpo.components.language import LanguageModel
from sysdpo.method.values import Completion

# Prompts and completions of different lengths, one completion cut off before its end token, one empty but for it.
CONDITIONS = [("cat",), ("big red cat runs",), ("dog sleeps",), ("small blue dog sleeps big red cat",)]
TEXTS = ["runs", "sleeps", "big red cat runs small", ""]
ENDS = [True, False, True, True]


@pytest.fixture
def values(language: LanguageModel) -> list[Completion]:
    return [completion(language, text, end) for text, end in zip(TEXTS, ENDS, strict=True)]


def in_float64(language: LanguageModel, condition: tuple, value: Completion) -> tuple[Tensor, torch.nn.Module]:
    """One row alone, left-padded on purpose, by the whole logits of a float64 copy; and that copy."""
    model = copy.deepcopy(language.model).double()
    prompt = [language.tokenizer.bos_token_id] + [language.tokenizer.vocab[word] for word in condition[0].split()]
    padding = 3
    ids = torch.tensor([[language.tokenizer.pad_token_id] * padding + prompt + list(value.tokens)])
    mask = torch.ones_like(ids)
    mask[:, :padding] = 0
    positions = (mask.cumsum(1) - 1).clamp_min(0)
    logits = model(input_ids=ids, attention_mask=mask, position_ids=positions).logits
    log_probs = torch.log_softmax(logits[0], -1)
    start = padding + len(prompt)
    total = sum(log_probs[start + place - 1, token] for place, token in enumerate(value.tokens))
    return total, model


def test_log_probs_equal_an_independent_computation(language: LanguageModel, values: list[Completion]) -> None:
    with torch.no_grad():
        before = [in_float64(language, *row)[0].item() for row in zip(CONDITIONS, values, strict=True)]
        perturb(language)
        after = [in_float64(language, *row)[0].item() for row in zip(CONDITIONS, values, strict=True)]
    policy, reference = language.log_probs(CONDITIONS, values, draw=[0] * 4)
    assert policy.dtype == reference.dtype == torch.float32
    assert policy.tolist() == pytest.approx(after, abs=1e-4)
    assert reference.tolist() == pytest.approx(before, abs=1e-4)
    assert (policy - reference).abs().min() > 1e-2


def test_gradients_equal_an_independent_computation(language: LanguageModel, values: list[Completion]) -> None:
    perturb(language)
    coefficients = [1.0, -0.5, 2.0, 0.3]
    expected: list[Tensor] = []
    for coefficient, *row in zip(coefficients, CONDITIONS, values, strict=True):
        total, model = in_float64(language, *row)
        named = [weight for name, weight in model.named_parameters() if ".default." in name]
        grads = torch.autograd.grad(coefficient * total, named)
        expected = [a + b for a, b in zip(expected, grads, strict=True)] if expected else list(grads)
    policy, _ = language.log_probs(CONDITIONS, values, draw=[0] * 4)
    computed = torch.autograd.grad(policy @ torch.tensor(coefficients), language.trainable_parameters())
    assert len(computed) == len(expected) > 0
    for ours, theirs in zip(computed, expected, strict=True):
        assert theirs.abs().max() > 0
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-3, atol=1e-4)


def test_a_row_does_not_depend_on_its_batch(language: LanguageModel, values: list[Completion]) -> None:
    perturb(language)
    together = language.log_probs(CONDITIONS, values, draw=[0] * 4).policy
    for row, (condition, value) in enumerate(zip(CONDITIONS, values, strict=True)):
        alone = language.log_probs([condition], [value], draw=[0]).policy
        assert alone.item() == pytest.approx(together[row].item(), abs=1e-4)
    order = [2, 0, 3, 1]
    permuted = language.log_probs([CONDITIONS[i] for i in order], [values[i] for i in order], draw=[0] * 4)
    torch.testing.assert_close(permuted.policy, together[order], rtol=0, atol=1e-4)


def test_the_end_token_and_only_the_completion_count(language: LanguageModel) -> None:
    """log p(a b end) = log p(a) + log p(b | a) + log p(end | a b), the prompt moved along."""
    whole = language.log_probs([("cat",)], [completion(language, "runs big")], draw=[0]).policy
    parts = language.log_probs(
        [("cat",), ("cat runs",), ("cat runs big",)],
        [completion(language, "runs", False), completion(language, "big", False), completion(language, "")],
        draw=[0] * 3,
    ).policy
    assert whole.item() == pytest.approx(parts.sum().item(), abs=1e-4)


def test_probabilities_of_all_one_token_completions_sum_to_one(language: LanguageModel) -> None:
    perturb(language)
    values = [Completion("", (token,)) for token in range(len(language.tokenizer))]
    policy, reference = language.log_probs([("big cat",)] * len(values), values, draw=[0] * len(values))
    assert policy.exp().sum().item() == pytest.approx(1.0, abs=1e-5)
    assert reference.exp().sum().item() == pytest.approx(1.0, abs=1e-5)


def test_policy_and_reference_are_exactly_equal_before_training(
    language: LanguageModel, values: list[Completion]
) -> None:
    policy, reference = language.log_probs(CONDITIONS, values, draw=[0] * 4)
    assert torch.equal(policy, reference)


def test_only_the_adapter_is_trained_and_dropout_is_off(language: LanguageModel, values: list[Completion]) -> None:
    trained = {id(weight) for weight in language.trainable_parameters()}
    asking = {name for name, weight in language.model.named_parameters() if weight.requires_grad}
    assert asking == {name for name, weight in language.model.named_parameters() if id(weight) in trained}
    assert all("lora" in name for name in asking)
    assert not any(module.training for module in language.model.modules())
    language.log_probs(CONDITIONS, values, draw=[0] * 4)  # leaves them so
    assert all(weight.requires_grad for weight in language.trainable_parameters())


def test_the_template_holds_all_parents(language_folder, language: LanguageModel) -> None:
    lora = {"r": 2, "target_modules": "all-linear"}
    swapped = LanguageModel.from_pretrained(language_folder, lora=lora, template="{1} {0}")
    value = [completion(language, "runs")]
    expected = language.log_probs([("red cat",)], value, draw=[0])
    assert torch.equal(swapped.log_probs([("cat", "red")], value, draw=[0]).policy, expected.policy)


def test_a_chat_template_is_applied_where_the_tokenizer_has_one(language: LanguageModel) -> None:
    value = [completion(language, "runs")]
    plain = language.log_probs([("big cat sleeps",)], value, draw=[0]).policy
    language.tokenizer.chat_template = (
        "{{ bos_token }} big {% for message in messages %}{{ message['content'] }}{% endfor %}"
        "{% if add_generation_prompt %} sleeps{% endif %}"
    )
    # The template writes the start token as text, and the tokenizer must not add another.
    expected = language.log_probs([("cat",)], value, draw=[0]).policy
    assert expected.item() == pytest.approx(plain.item(), abs=1e-5)


def test_the_reference_of_a_completion_is_computed_once_and_anew_once_rebased(language: LanguageModel) -> None:
    perturb(language)
    asked: list[int] = []
    inner = language._completion_log_probs
    language._completion_log_probs = lambda prompts, values: asked.append(len(values)) or inner(prompts, values)
    conditions, values = [("cat",), ("dog",)], [completion(language, "red"), completion(language, "blue runs")]
    first = language.log_probs(conditions, values, draw=[0, 0])
    again = language.log_probs([("cat",), ("big",)], [values[0]] * 2, draw=[0, 0])
    assert asked == [2, 2, 2, 1]  # the policy each time, the reference of what is new
    assert again.reference[0] == first.reference[0]
    language.rebase_reference()
    rebased = language.log_probs(conditions, values, draw=[0, 0])
    torch.testing.assert_close(rebased.reference, first.policy, rtol=0, atol=1e-5)


def test_in_half_precision_policy_and_reference_see_the_same_batch(language: LanguageModel) -> None:
    language.model.to(torch.bfloat16)
    values = [completion(language, "red"), completion(language, "blue runs big small")]
    for rows in ([0], [0, 1], [1, 0]):
        both = language.log_probs([("cat",)] * len(rows), [values[row] for row in rows], draw=[0] * len(rows))
        assert torch.equal(both.policy, both.reference)


def test_a_prefix_that_all_prompts_share_is_encoded_once_and_changes_no_value_and_no_gradient(
    language: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    perturb(language)
    language.encode_prompt.template = (
        "big red cat runs small blue dog sleeps big red cat runs small blue dog sleeps {0}"
    )
    texts = ["cat", "small blue dog", "small red"]
    values = [completion(language, text) for text in ("runs", "sleeps big red", "dog")]
    seen: list[int] = []
    watch = language.model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    together = language._completion_log_probs([language.encode_prompt((text,)) for text in texts], values)
    watch.remove()
    assert seen[0] == 17  # the start token and the prefix, once
    assert seen[1] <= 3 * (3 + 4)
    monkeypatch.setattr("sysdpo.components.language.WORTH_SHARING", 1000)
    apart = language._completion_log_probs([language.encode_prompt((text,)) for text in texts], values)
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-4)
    weights = torch.tensor([1.0, -2.0, 0.5])
    gradients = [
        torch.autograd.grad((weights * each).sum(), language.trainable_parameters()) for each in (together, apart)
    ]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def test_checkpointed_policy_and_reference_come_about_alike(language_folder: Path) -> None:
    model = LanguageModel.from_pretrained(
        language_folder,
        lora=LANGUAGE_LORA,
        template="big red cat runs small blue dog sleeps big red cat runs small blue dog sleeps {0}",
        dtype="bfloat16",
        gradient_checkpointing=True,
    )
    conditions = [("cat",), ("small blue dog",)]
    values = [completion(model, "runs"), completion(model, "sleeps big red")]
    policy, reference = model.log_probs(conditions, values, draw=[0, 0])
    assert torch.equal(policy, reference)


@pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
def test_weights_in_four_bits_stay_and_the_adapter_learns(language_folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, again = (
        LanguageModel.from_pretrained(language_folder, lora=LANGUAGE_LORA, load_in_4bit=True) for _ in range(2)
    )
    packed = {name: weight.clone() for name, weight in model.model.named_parameters() if weight.dtype == torch.uint8}
    assert len(packed) == 14  # seven linear layers in each of two blocks
    conditions, values = [("cat",), ("dog",)], [completion(model, "runs"), completion(model, "sleeps")]
    policy, reference = model.log_probs(conditions, values, draw=[0, 0])
    assert torch.equal(policy, reference)
    optimizer = torch.optim.SGD(model.trainable_parameters(), lr=1.0)
    (-policy.sum()).backward()
    optimizer.step()
    after, reference = model.log_probs(conditions, values, draw=[0, 0])
    assert (after.sum() > reference.sum()).item()
    assert all(torch.equal(weight, packed[name]) for name, weight in model.model.named_parameters() if name in packed)
    model.save(tmp_path)
    again.load(tmp_path)
    torch.testing.assert_close(again.log_probs(conditions, values, draw=[0, 0]).policy, after)


@pytest.mark.parametrize("template", ["{0} {1}", "{0} {name}", "{0", 'Answer as {"answer": 1}: {0}'])
def test_a_template_that_cannot_be_filled_is_refused(language: LanguageModel, template: str) -> None:
    language.encode_prompt.template = template
    with pytest.raises(UserError, match=r"template: .* should stand for a prompt, with \{0\} for the node's inputs"):
        language.encode_prompt(("cat",))


def test_what_is_longer_than_the_model_has_positions_for_is_refused(language: LanguageModel) -> None:
    """96 positions, completions of 6 tokens, a begin token: a prompt of 89 words is the longest."""
    fits, long = (" ".join(["cat"] * words) for words in (89, 90))
    refused = r"max_new_tokens: 6 should leave room for the prompt; a prompt of 91 tokens and a completion of 6 .* 96"
    assert language.sample([(fits,)], seeds=[0])
    language.decoder([(fits,)]).start()
    with pytest.raises(UserError, match=refused):
        language.sample([("dog",), (long,)], seeds=[0, 1])
    with pytest.raises(UserError, match=refused):
        language.decoder([(long,)])
    # What is given counts as it is, whatever the model may write.
    language.log_probs([(long,)], [completion(language, "runs")], draw=[0])
    with pytest.raises(UserError, match=r"a prompt of 91 tokens and a completion of 6 are more than the 96"):
        language.log_probs([(long,)], [completion(language, "runs " * 5)], draw=[0])


def small_qwen(tokenizer: PreTrainedTokenizerBase, **config) -> Qwen2ForCausalLM:
    """A model whose generation settings name no end token."""
    torch.manual_seed(0)
    small = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}
    network = Qwen2ForCausalLM(
        Qwen2Config(**{"vocab_size": len(tokenizer), **small, "num_key_value_heads": 2} | config)
    )
    network.generation_config = GenerationConfig()
    return network


@pytest.mark.parametrize("padding", [None, "<|endoftext|>"])
def test_a_tokenizer_without_end_or_padding(padding: str | None) -> None:
    tokenizer = tiny_chat.qwen2_tokenizer(chat_template=None)
    tokenizer.eos_token, tokenizer.pad_token = None, padding
    network = small_qwen(tokenizer)
    with pytest.raises(UserError, match=r"should have a token that ends a completion; .* name none"):
        LanguageModel(network, tokenizer, lora=LANGUAGE_LORA)
    network.generation_config.eos_token_id = 7
    language = LanguageModel(network, tokenizer, lora=LANGUAGE_LORA, max_new_tokens=5)
    conditions = [("What?",), ("What is a cat, then?",)]
    together = language.sample(conditions, seeds=[0, 1])
    assert together == [language.sample([each], seeds=[seed])[0] for seed, each in enumerate(conditions)]
    values = [Completion("", (5, 7)), Completion("", (5, 6, 7))]
    both = language.log_probs(conditions, values, draw=[0, 0]).policy
    alone = [
        language.log_probs([each], [value], draw=[0]).policy for each, value in zip(conditions, values, strict=True)
    ]
    torch.testing.assert_close(both, torch.cat(alone))


def test_a_padding_token_that_the_model_does_not_know_is_not_read() -> None:
    """As where a tokenizer was given one and the model was not resized."""
    tokenizer = tiny_chat.qwen2_tokenizer(chat_template=None)
    known = len(tokenizer)
    tokenizer.add_tokens(["[PAD]"], special_tokens=True)
    tokenizer.pad_token = "[PAD]"
    language = LanguageModel(small_qwen(tokenizer, vocab_size=known), tokenizer, lora=LANGUAGE_LORA, max_new_tokens=3)
    assert len(language.sample([("What?",), ("What is a cat, then?",)], seeds=[0, 1])) == 2
    with pytest.raises(UserError, match=rf"model: the tokenizer of .* gives token {known}, and there are {known}"):
        language.sample([("What is [PAD]?",)], seeds=[0])
    with pytest.raises(UserError, match=rf"gives token {known + 3}, and there are {known}"):
        language.log_probs([("What?",)], [Completion("", (5, known + 3))], draw=[0])


def test_prompts_are_padded_in_front_of_a_prefix_that_they_share(language: LanguageModel) -> None:
    """The model sees every row as one piece: padding, and then the prompt; its prefix is read once all the same."""
    perturb(language)
    prefix = "big red cat runs small blue dog sleeps big red cat runs small blue dog sleeps"
    conditions = [(f"{prefix} {text}",) for text in ("cat", "small blue dog runs", "small red")]
    seen: list[tuple[list[int], list[list[int]]]] = []
    language.model.get_base_model().register_forward_pre_hook(
        lambda module, args, kwargs: seen.append((list(kwargs["input_ids"].shape), kwargs.get("attention_mask"))),
        with_kwargs=True,
    )
    language.max_new_tokens = 2
    language.sample(conditions, seeds=[1, 2, 3])
    assert seen[0][0] == [1, 17]  # the begin token and the prefix
    assert seen[1][0] == [3, 4]
    lengths = seen[1][1].sum(1).tolist()
    assert lengths == [18, 21, 19]
    assert all(row[21 - length :].all() for row, length in zip(seen[1][1], lengths, strict=True))


def test_processes_that_share_weights_call_the_model_equally_often(language_folder: Path) -> None:
    """Whatever the prompts of one of them have in common."""
    prefix = "big red cat runs small blue dog sleeps big red cat runs small blue dog sleeps"
    language = LanguageModel.from_pretrained(language_folder, lora=LANGUAGE_LORA, sharded=True)
    calls: list[int] = []
    language.model.register_forward_pre_hook(lambda module, args: calls.append(1))
    for conditions in ([("cat",), ("dog",)], [(f"{prefix} cat",), (f"{prefix} dog",)]):
        calls.clear()
        language.log_probs(conditions, [completion(language, "runs")] * 2, draw=[0, 0])
        assert len(calls) == 2  # policy and reference


def test_a_table_of_tokens_with_an_adapter_still_says_how_many_there_are(language_folder: Path) -> None:
    language = LanguageModel.from_pretrained(language_folder, lora={"r": 2, "target_modules": ["embed_tokens"]})
    assert language.log_probs([("cat",)], [completion(language, "runs")], draw=[0]).policy.isfinite()

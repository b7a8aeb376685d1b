"""Draws from a language model: whose seed decides, with what frequencies, and where they end."""

import math
from pathlib import Path

import pytest
import tiny_chat
import torch
from tiny_models import LANGUAGE_LORA, perturb
from transformers import AutoModelForCausalLM

from sysdpo.components.language import GumbelNoise, LanguageModel
from sysdpo.method.values import Completion

CONDITIONS = [("cat",), ("big red cat runs",), ("dog sleeps",), ("small blue dog",), ("cat",)]
SEEDS = [11, 12, 13, 14, 15]


def test_a_draw_depends_on_its_own_seed_and_condition_alone(language: LanguageModel) -> None:
    together = language.sample(CONDITIONS, seeds=SEEDS)
    assert len(set(together)) > 1
    order = [3, 0, 4]
    subset = language.sample([CONDITIONS[i] for i in order], seeds=[SEEDS[i] for i in order])
    assert subset == [together[i] for i in order]
    for row in range(len(SEEDS)):
        assert language.sample([CONDITIONS[row]], seeds=[SEEDS[row]]) == [together[row]]


def test_the_size_of_batches_changes_nothing(language: LanguageModel) -> None:
    together = language.sample(CONDITIONS, seeds=SEEDS)
    language.batch_size = 2
    assert language.sample(CONDITIONS, seeds=SEEDS) == together


def test_other_seeds_give_other_draws(language: LanguageModel) -> None:
    assert len({draw.tokens for draw in language.sample([("cat",)] * 30, seeds=range(30))}) > 5


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_frequencies_match_the_model_s_probabilities(language_folder: Path, temperature: float) -> None:
    language = LanguageModel.from_pretrained(
        language_folder, lora=LANGUAGE_LORA, max_new_tokens=1, temperature=temperature
    )
    perturb(language)
    count, size = 2000, len(language.tokenizer)
    every = [Completion("", (token,)) for token in range(size)]
    with torch.no_grad():
        log_probs = language.log_probs([("big cat",)] * size, every, draw=[0] * size).policy
    expected = count * torch.softmax(log_probs / temperature, 0)
    draws = language.sample([("big cat",)] * count, seeds=range(count))
    observed = torch.bincount(torch.tensor([draw.tokens[0] for draw in draws]), minlength=size)
    common = expected >= 5
    expected = torch.cat([expected[common], expected[~common].sum()[None].clamp_min(1e-9)])
    observed = torch.cat([observed[common], observed[~common].sum()[None]])
    assert common.sum() >= 3
    chi_square = ((observed - expected) ** 2 / expected.clamp_min(1)).sum().item()
    # At most 12 categories, 11 degrees of freedom: P(chi² > 33.1) = 0.0005.
    assert chi_square < 33.1


def test_temperature_zero_takes_the_most_likely_token(language_folder: Path) -> None:
    language = LanguageModel.from_pretrained(language_folder, lora=LANGUAGE_LORA, max_new_tokens=1, temperature=0)
    size = len(language.tokenizer)
    every = [Completion("", (token,)) for token in range(size)]
    log_probs = language.log_probs([("big cat",)] * size, every, draw=[0] * size).policy
    draws = language.sample([("big cat",)] * 3, seeds=[1, 2, 3])
    assert {draw.tokens for draw in draws} == {(log_probs.argmax().item(),)}


def test_a_completion_ends_at_its_end_token_or_at_its_limit(language: LanguageModel) -> None:
    end = language.tokenizer.eos_token_id
    draws = language.sample([("cat",)] * 60, seeds=range(60))
    ended = [draw for draw in draws if end in draw.tokens]
    assert 0 < len(ended) < len(draws)
    assert all(draw.tokens.index(end) == len(draw.tokens) - 1 for draw in ended)
    assert all(len(draw.tokens) == 6 for draw in draws if end not in draw.tokens)
    assert all("</s>" not in draw.text and draw.text == draw.text.strip() for draw in draws)


def test_sampling_uses_the_adapter(language: LanguageModel) -> None:
    before = language.sample([("cat",)] * 20, seeds=range(20))
    perturb(language, size=1.0)
    assert language.sample([("cat",)] * 20, seeds=range(20)) != before


def test_the_model_s_own_generation_settings_do_not_bend_the_distribution(language: LanguageModel) -> None:
    """Hub models ship settings such as a repetition penalty; p_θ, which is trained, knows nothing of them."""
    before = language.sample([("cat",)] * 20, seeds=range(20))
    language.model.generation_config.repetition_penalty = 100.0
    language.model.generation_config.top_k = 1
    assert language.sample([("cat",)] * 20, seeds=range(20)) == before


def test_every_end_token_of_the_model_ends_a_completion(language: LanguageModel) -> None:
    """Llama-3-Instruct has two end tokens, and a tokenizer that names one of them."""
    other = language.tokenizer.vocab["runs"]
    language.model.generation_config.eos_token_id = [language.tokenizer.eos_token_id, other]
    draws = language.sample([("cat",)] * 60, seeds=range(60))
    stopped = [draw for draw in draws if other in draw.tokens]
    assert stopped
    assert all(draw.tokens.index(other) == len(draw.tokens) - 1 for draw in stopped)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_prefix_that_all_prompts_share_is_encoded_once_and_changes_no_completion(
    language: LanguageModel, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    perturb(language)
    language.temperature = temperature
    language.encode_prompt.template = (
        "big red cat runs small blue dog sleeps big red cat runs small blue dog sleeps {0}"
    )
    conditions = [("cat",), ("small blue dog",), ("small red",)] * 4
    together = language.sample(conditions, seeds=range(12))
    start = language.decoder(conditions).start()
    monkeypatch.setattr("sysdpo.components.language.WORTH_SHARING", 1000)
    assert language.sample(conditions, seeds=range(12)) == together
    assert len(set(together)) > 1
    torch.testing.assert_close(language.decoder(conditions).start(), start, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("seed", [2**32 + 11, 2**64 + 11, 2**200, -11])
def test_every_bit_of_a_seed_counts(language: LanguageModel, seed: int) -> None:
    language.max_new_tokens = 20
    drawn, again, small = (language.sample([("cat",)], seeds=[each])[0] for each in (seed, seed, 11))
    assert drawn == again
    assert drawn != small


def gumbel_noise(rows: int, tokens: int, first: int = 0) -> torch.Tensor:
    """Of tokens that are all as likely, at temperature 1."""
    return GumbelNoise(range(first, first + rows), 1.0)(torch.empty(rows, 0), torch.zeros(rows, tokens))


def test_the_noise_of_rare_tokens_is_as_long_tailed_as_it_should_be() -> None:
    """Of 50 million draws, how many pass a level; 4 standard errors. A token 17 nats down needs the last levels."""
    counts = dict.fromkeys((10.0, 13.0, 15.0, 16.5), 0)
    for first in range(5):
        noise = gumbel_noise(10, 10**6, first=10 * first)
        for level in counts:
            counts[level] += int((noise > level).sum())
    for level, count in counts.items():
        expected = 5e7 * -math.expm1(-math.exp(-level))
        assert abs(count - expected) < 4 * math.sqrt(expected), level
    assert counts[16.5] > 0


def test_the_greatest_noise_has_its_exact_distribution() -> None:
    """`P(max ≤ x) = exp(−n e^−x)`, by Kolmogorov and Smirnov: above 1.95 / √rows in one of 1,000 tests."""
    rows, tokens = 2000, 500
    greatest = gumbel_noise(rows, tokens).amax(-1).double().sort().values
    exact = torch.exp(-tokens * torch.exp(-greatest))
    steps = torch.arange(rows + 1) / rows
    apart = torch.maximum((steps[1:] - exact).abs(), (steps[:-1] - exact).abs()).max()
    assert apart < 1.95 / math.sqrt(rows)


def test_noise_reaches_tokens_of_any_probability_that_a_double_tells_from_none() -> None:
    class Smallest:
        def standard_exponential(self, out) -> None:
            out[:] = [0.0, 1e-16, 1.0]

    noise = GumbelNoise([0], 1.0)
    noise.generators = [Smallest()]
    found = noise(torch.empty(1, 0), torch.tensor([[0.0, 0.0, float("-inf")]]))[0]
    assert found[0] > found[1] > 36
    assert found[2] == float("-inf")
    noise.generators[0].standard_exponential = lambda out: out.fill(0.0)
    assert noise(torch.empty(1, 0), torch.tensor([[0.0, float("-inf"), -1.0]])).argmax() == 0  # never not a number


def test_a_rare_token_is_drawn_as_often_as_it_is_likely() -> None:
    """One token 9 nats below 99 others together: 4 standard errors of 100,000 draws."""
    scores = torch.zeros(1000, 100)
    scores[:, 0] = math.log(99) - 9
    probability = 1 / (1 + math.exp(9))
    noise = GumbelNoise(range(1000), 1.0)
    won = sum(int((noise(torch.empty(1000, 0), scores).argmax(-1) == 0).sum()) for _ in range(100))
    assert abs(won - 1e5 * probability) < 4 * math.sqrt(1e5 * probability)


def test_an_answer_ends_where_the_chat_template_ends_a_turn(tmp_path: Path) -> None:
    """Here neither the tokenizer's end token nor the generation settings name `<|im_end|>`."""
    network = AutoModelForCausalLM.from_pretrained(tiny_chat.save_qwen2(tmp_path))
    tokenizer = tiny_chat.qwen2_tokenizer()
    tokenizer.eos_token = tiny_chat.END_OF_TEXT
    network.generation_config.eos_token_id = tokenizer.eos_token_id
    chat = LanguageModel(network, tokenizer, lora=LANGUAGE_LORA, max_new_tokens=40)
    ends = tokenizer.convert_tokens_to_ids([tiny_chat.END_OF_TURN, tiny_chat.END_OF_TEXT])
    assert chat.decoder([("What?",)]).ends == set(ends)
    with torch.no_grad():
        chat.model.get_base_model().lm_head.weight[ends[0]] += 3.0
    drawn = chat.sample([("What is a cat?",)] * 20, seeds=range(20))
    assert any(ends[0] in value.tokens for value in drawn)
    assert not any(ends[0] in value.tokens[:-1] for value in drawn)

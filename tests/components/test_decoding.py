"""Step-by-step generation: every step's probabilities against whole sequences scored at once."""

import pytest
import torch
from tiny_models import completion, perturb

from sysdpo.components.language import LanguageModel
from sysdpo.method.values import Completion

CONDITIONS = [("cat",), ("big red cat runs",), ("small blue dog sleeps big red cat",)]


@torch.no_grad()
def next_log_probs(language: LanguageModel, condition: tuple, tokens: tuple[int, ...]) -> torch.Tensor:
    """`log p(next token | prompt, tokens)` of the policy as a difference of whole completions."""
    values = [Completion("", (*tokens, token)) for token in range(len(language.tokenizer))]
    log_probs = language.log_probs([condition] * len(values), values, draw=[0] * len(values)).policy
    return log_probs - log_probs.logsumexp(0)


def test_steps_equal_the_component_s_log_probs(language: LanguageModel) -> None:
    """Prompts of three lengths; rows are repeated, dropped and reordered between steps."""
    perturb(language)
    decoder = language.decoder(CONDITIONS)
    assert decoder.max_length == language.max_new_tokens
    assert decoder.ends == {language.tokenizer.eos_token_id}
    present: list[tuple[tuple, tuple[int, ...]]] = [(condition, ()) for condition in CONDITIONS]
    log_probs = decoder.start()
    for rows, tokens in [([2, 0, 0, 1], [4, 5, 6, 7]), ([3, 1, 3], [8, 4, 5]), ([0, 1, 2], [6, 6, 9])]:
        log_probs = decoder.advance(torch.tensor(rows), torch.tensor(tokens))
        present = [(present[row][0], (*present[row][1], token)) for row, token in zip(rows, tokens, strict=True)]
        assert log_probs.shape == (len(rows), len(language.tokenizer))
        assert log_probs.dtype == torch.float32
        assert not log_probs.requires_grad
        for ours, row in zip(log_probs, present, strict=True):
            torch.testing.assert_close(ours, next_log_probs(language, *row), rtol=0, atol=1e-4)


def test_the_first_step_depends_on_no_other_prompt(language: LanguageModel) -> None:
    perturb(language)
    together = language.decoder(CONDITIONS).start()
    for row, condition in enumerate(CONDITIONS):
        alone = language.decoder([condition]).start()
        torch.testing.assert_close(alone[0], together[row], rtol=0, atol=1e-4)
        torch.testing.assert_close(alone[0], next_log_probs(language, condition, ()), rtol=0, atol=1e-4)


def test_prompts_are_encoded_once(language: LanguageModel) -> None:
    lengths = []
    decoder = language.decoder(CONDITIONS)
    run = decoder._model
    decoder._model = lambda **inputs: lengths.append(tuple(inputs["input_ids"].shape)) or run(**inputs)
    decoder.start()
    decoder.advance(torch.tensor([0, 0, 1, 2]), torch.tensor([4, 5, 6, 7]))
    decoder.advance(torch.tensor([3, 0]), torch.tensor([4, 5]))
    assert lengths == [(3, 8), (4, 1), (2, 1)]


def test_a_decoder_can_start_again(language: LanguageModel) -> None:
    decoder = language.decoder(CONDITIONS)
    first = decoder.start()
    decoder.advance(torch.tensor([1]), torch.tensor([4]))
    assert torch.equal(decoder.start(), first)


def test_temperature_bends_draws_and_not_these_probabilities(language: LanguageModel) -> None:
    expected = language.decoder(CONDITIONS).start()
    language.temperature = 0.5
    assert torch.equal(language.decoder(CONDITIONS).start(), expected)


def test_every_end_token_of_the_model_ends(language: LanguageModel) -> None:
    language.model.generation_config.eos_token_id = [7, language.tokenizer.eos_token_id]
    assert language.decoder(CONDITIONS).ends == {7, language.tokenizer.eos_token_id}


@pytest.mark.parametrize("end", [True, False])
def test_a_value_is_what_sampling_would_have_given(language: LanguageModel, end: bool) -> None:
    value = completion(language, "red cat sleeps", end)
    assert language.decoder(CONDITIONS).value(list(value.tokens)) == value
    drawn = language.sample(CONDITIONS, seeds=[1, 2, 3])
    assert [language.decoder(CONDITIONS).value(each.tokens) for each in drawn] == drawn

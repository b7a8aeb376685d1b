"""Beams against worked examples, exhaustive enumeration and transformers' own beam search."""

import math
from itertools import product

import pytest
import torch
from table_decoder import TableDecoder
from tiny_models import perturb
from transformers import GenerationConfig

from sysdpo.base.errors import UserError
from sysdpo.components.language import LanguageModel
from sysdpo.method.candidates import GENERATORS, CandidateSettings, Generator, propose
from sysdpo.method.values import Completion

A, B, END = 0, 1, 2
TWO_STEPS = {(): [0.6, 0.3, 0.1], (A,): [0.5, 0.1, 0.4], (B,): [0.6, 0.1, 0.3]}
CONDITIONS = [("cat",), ("big red cat runs",), ("dog sleeps",), ("small blue dog sleeps big red cat",)]


def probabilities(decoder, **settings) -> list[dict]:
    """Each condition's candidates in their order, and their probabilities."""
    settings = CandidateSettings(**settings)
    found = propose(decoder, settings, seeds=range(len(decoder.tables)))
    assert all(len({each.value for each in row}) == len(row) <= settings.count for row in found)
    return [{each.value: math.exp(each.log_prob) for each in row} for row in found]


def assert_ordered(found: dict, expected: dict) -> None:
    assert list(found) == list(expected)
    assert list(found.values()) == pytest.approx(list(expected.values()), rel=1e-5)


@pytest.mark.parametrize(
    ("count", "groups", "diversity", "expected"),
    [
        # Both groups find the greedy value; the best other one fills up.
        (2, None, 0.0, {(A, A): 0.3, (A, END): 0.24}),
        # 0.6 e^-1 = 0.22 < 0.3: the second group starts with B. Then A, taken by the first, counts 0.6 e^-1 < 0.3: it
        # ends, at no penalty.
        (2, None, 1.0, {(A, A): 0.3, (B, END): 0.09}),
        # 0.6 e^-0.5 = 0.36 > 0.3: the second starts with A too, but 0.5 e^-0.5 = 0.30 < 0.4: it ends there.
        (2, None, 0.5, {(A, A): 0.3, (A, END): 0.24}),
        # Two groups before the third took A: 0.6 e^-1 < 0.3. In the second step just one did: 0.6 e^-0.5 > 0.3.
        (3, None, 0.5, {(A, A): 0.3, (A, END): 0.24, (B, A): 0.18}),
        # Two beams a group. The second group ends at once, 0.1 > 0.6 e^-2 > 0.3 e^-2, and goes on with A and B, where
        # ends alone are free: (A, END), which the first group has. Of the others (B, A) is the likeliest.
        (4, 2, 2.0, {(A, A): 0.3, (A, END): 0.24, (B, A): 0.18, (END,): 0.1}),
    ],
)
def test_diverse_beams_worked_by_hand(count: int, groups: int | None, diversity: float, expected: dict) -> None:
    decoder = TableDecoder([TWO_STEPS], ends={END}, max_length=2)
    (found,) = probabilities(decoder, count=count, groups=groups, diversity=diversity)
    assert_ordered(found, expected)


def test_penalties_stay_with_a_beam() -> None:
    """The second group holds C (0.2) and A (0.5 e^-1 = 0.184, as the first has it): C's children outrank A's."""
    c, end = 2, 3
    table = {(): [0.5, 0.3, 0.2, 0], (A,): [0.3, 0.2, 0, 0.5], (B,): [0, 0, 0, 1], (c,): [0, 0, 0.48, 0.52]}
    decoder = TableDecoder([table], ends={end}, max_length=2)
    (found,) = probabilities(decoder, count=4, groups=2, diversity=1.0)
    assert_ordered(found, {(B, end): 0.3, (A, end): 0.25, (c, end): 0.104, (c, c): 0.096})


def test_conditions_do_not_repel_each_other() -> None:
    other = {(): [0.1, 0.8, 0.1], (A,): [0.1, 0.1, 0.8], (B,): [0.7, 0.2, 0.1]}
    alone = [probabilities(TableDecoder([table], ends={END}, max_length=2), count=2)[0] for table in (TWO_STEPS, other)]
    together = probabilities(TableDecoder([TWO_STEPS, other], ends={END}, max_length=2), count=2)
    assert together == alone
    assert together[0] != together[1]


def test_fewer_values_than_asked_for() -> None:
    """Impossible values are no candidates; a space smaller than `count` is given whole."""
    certain = {(): [0, 1, 0], (B,): [0, 0.25, 0.75]}
    for generator in ("beam", "diverse_beam"):
        decoder = TableDecoder([certain], ends={END}, max_length=2)
        (found,) = probabilities(decoder, count=8, generator=generator)
        assert_ordered(found, {(B, END): 0.75, (B, B): 0.25})


@pytest.mark.parametrize("generator", ["beam", "diverse_beam"])
def test_every_token_may_end(generator: str) -> None:
    """As in a table of answers: ending is never penalised, so the likeliest answers are found."""
    decoder = TableDecoder([{(): [0.1, 0.4, 0.2, 0.3]}], ends={0, 1, 2, 3}, max_length=1)
    (found,) = probabilities(decoder, count=3, generator=generator, diversity=10.0)
    assert_ordered(found, {(1,): 0.4, (3,): 0.3, (2,): 0.2})


def test_length_penalty_ranks_what_is_finished() -> None:
    """log 0.3 / 2 = −0.60 against log 0.4 = −0.92: by probability the short value leads, by its mean the long one."""
    table = {(): [0.6, 0.0, 0.4], (A,): [0.5, 0.0, 0.5]}
    decoder = TableDecoder([table], ends={END}, max_length=2)
    (by_probability,) = probabilities(decoder, count=2, generator="beam")
    (by_mean,) = probabilities(decoder, count=2, generator="beam", length_penalty=1.0)
    assert next(iter(by_probability)) == (END,)
    assert set(by_mean) == {(A, A), (A, END)}


def test_a_group_keeps_what_it_would_have_returned_alone() -> None:
    """Its one beam stops at END, as log 0.5 > log 0.4; what is looked at later to fill up does not push it out."""
    table = {(): [0.4, 0.1, 0.5], (A,): [0.6, 0.0, 0.4]}
    decoder = TableDecoder([table], ends={END}, max_length=2)
    (found,) = probabilities(decoder, count=2, diversity=0.0, length_penalty=2.0)
    assert_ordered(found, {(A, A): 0.24, (END,): 0.5})  # log 0.24 / 4 = −0.36, log 0.16 / 4 = −0.46, log 0.5 = −0.69


def every_completion(language: LanguageModel) -> list[Completion]:
    """All that a value can be: end tokens come last, and only a value of full length has none."""
    end = language.tokenizer.eos_token_id
    going = [token for token in range(len(language.tokenizer)) if token != end]
    lengths = range(language.max_new_tokens)
    ended = [(*tokens, end) for length in lengths for tokens in product(going, repeat=length)]
    return [Completion("", tokens) for tokens in [*ended, *product(going, repeat=language.max_new_tokens)]]


def tokens_of(candidates) -> list[tuple[int, ...]]:
    return [each.value.tokens for each in candidates]


@torch.no_grad()
def exact(language: LanguageModel, condition: tuple, values: list[Completion]) -> list[float]:
    return language.log_probs([condition] * len(values), values, draw=[0] * len(values)).policy.tolist()


def test_enough_beams_find_the_likeliest_of_all_completions(language: LanguageModel) -> None:
    perturb(language)
    language.max_new_tokens = 3
    count = len(language.tokenizer) ** 2
    every = every_completion(language)
    settings = CandidateSettings(generator="beam", count=count)
    found = propose(language.decoder(CONDITIONS[:2]), settings, seeds=[0, 0])
    for condition, candidates in zip(CONDITIONS, found, strict=False):
        log_probs = exact(language, condition, every)
        assert sum(map(math.exp, log_probs)) == pytest.approx(1.0, abs=1e-4)
        likeliest = dict(zip((value.tokens for value in every), log_probs, strict=True))
        assert len(set(tokens_of(candidates))) == count
        expected = sorted(log_probs, reverse=True)[:count]
        assert [each.log_prob for each in candidates] == pytest.approx(expected, abs=1e-4)
        assert [likeliest[tokens] for tokens in tokens_of(candidates)] == pytest.approx(expected, abs=1e-4)


def their_beams(language: LanguageModel, conditions, count: int, length_penalty: float):
    """Tokens and scores of transformers' own beam search."""
    input_ids, mask = language._pad(language._encode(conditions))
    end, pad = language.tokenizer.eos_token_id, language.tokenizer.pad_token_id
    output = language.model.generate(
        input_ids=input_ids,
        attention_mask=mask.long(),
        generation_config=GenerationConfig(
            num_beams=count,
            num_return_sequences=count,
            early_stopping=False,
            do_sample=False,
            length_penalty=length_penalty,
            max_new_tokens=language.max_new_tokens,
            eos_token_id=end,
            pad_token_id=pad,
            return_dict_in_generate=True,
            output_scores=True,
        ),
    )
    completions = [language._completion(row, [end]) for row in output.sequences[:, input_ids.shape[1] :].tolist()]
    scores = output.sequences_scores.tolist()
    rows = [slice(row * count, (row + 1) * count) for row in range(len(conditions))]
    return [([each.tokens for each in completions[row]], scores[row]) for row in rows]


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
@pytest.mark.parametrize("max_new_tokens", [1, 3, 6])
def test_one_group_is_transformers_beam_search(
    language: LanguageModel, moved: bool, length_penalty: float, max_new_tokens: int
) -> None:
    language.max_new_tokens = max_new_tokens
    if moved:
        perturb(language)
    for count, generator in ((2, "beam"), (4, "diverse_beam"), (7, "beam")):
        settings = CandidateSettings(
            generator=generator, groups=1, count=count, diversity=3.0, length_penalty=length_penalty
        )
        ours = propose(language.decoder(CONDITIONS), settings, seeds=[0] * 4)
        for candidates, (tokens, scores) in zip(
            ours, their_beams(language, CONDITIONS, count, length_penalty), strict=True
        ):
            assert tokens_of(candidates) == tokens
            ranks = [each.log_prob / len(each.value.tokens) ** length_penalty for each in candidates]
            assert ranks == pytest.approx(scores, abs=1e-4)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_beam_s_log_prob_is_the_component_s_own(language: LanguageModel, groups: int) -> None:
    perturb(language)
    settings = CandidateSettings(groups=groups, count=4, diversity=2.0)
    for condition, candidates in zip(
        CONDITIONS, propose(language.decoder(CONDITIONS), settings, seeds=[0] * 4), strict=True
    ):
        log_probs = [each.log_prob for each in candidates]
        assert log_probs == pytest.approx(exact(language, condition, [each.value for each in candidates]), abs=1e-4)
        assert log_probs == sorted(log_probs, reverse=True)
        assert len(set(tokens_of(candidates))) == 4


def test_great_diversity_makes_every_group_begin_differently(language: LanguageModel) -> None:
    """With one beam a group and no end in sight, each group's own value is one of the candidates."""
    language._end_tokens = list
    found = propose(language.decoder(CONDITIONS), CandidateSettings(count=6, diversity=1000.0), seeds=[0] * 4)
    for candidates in found:
        assert len({tokens[0] for tokens in tokens_of(candidates)}) == 6
        # The same holds of every later step: no token is taken twice.
        assert all(len(set(step)) == 6 for step in zip(*tokens_of(candidates), strict=True))


def test_no_diversity_gives_the_greedy_value_and_others(language: LanguageModel) -> None:
    found = propose(language.decoder(CONDITIONS), CandidateSettings(count=4, diversity=0.0), seeds=[0] * 4)
    language.temperature = 0
    for candidates, greedy in zip(found, language.sample(CONDITIONS, seeds=[0] * 4), strict=True):
        assert greedy in [each.value for each in candidates]
        assert len(set(tokens_of(candidates))) == 4


@pytest.mark.parametrize("generator", ["beam", "diverse_beam", "ancestral", "nucleus"])
def test_candidates_depend_on_their_own_condition_and_seed_alone(language: LanguageModel, generator: str) -> None:
    perturb(language)
    settings = CandidateSettings(generator=generator, count=4)
    seeds = [5, 6, 7, 8]
    together = propose(language.decoder(CONDITIONS), settings, seeds=seeds)
    assert propose(language.decoder(CONDITIONS), settings, seeds=seeds) == together  # to the last bit
    order = [2, 0, 3, 1]
    permuted = propose(language.decoder([CONDITIONS[i] for i in order]), settings, seeds=[seeds[i] for i in order])
    alone = [
        propose(language.decoder([condition]), settings, seeds=[seed])[0]
        for condition, seed in zip(CONDITIONS, seeds, strict=True)
    ]
    for found in (alone, [permuted[order.index(i)] for i in range(4)]):
        for ours, theirs in zip(found, together, strict=True):
            assert tokens_of(ours) == tokens_of(theirs)
            expected = [each.log_prob for each in theirs]
            assert [each.log_prob for each in ours] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ([[]], r"should find 1 to 2 values for each of 1 conditions; it found \[0\]"),
        ([[((0,), -1.0)]] * 2, r"it found \[1, 1\]"),
        ([[((0,), -1.0)] * 3], r"it found \[3\]"),
        ([[((0,), float("nan"))]], "should give each value a finite log-probability, not nan"),
    ],
)
def test_what_a_generator_of_ones_own_finds_is_checked(found, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(GENERATORS._entries, "own", Generator(lambda decoder, settings, seeds: found, draws=False))
    with pytest.raises(UserError, match=told):
        propose(
            TableDecoder([TWO_STEPS], ends={END}, max_length=2), CandidateSettings(count=2, generator="own"), seeds=[0]
        )

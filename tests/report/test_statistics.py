"""Means, pairing and what the tables say of intervals, against arithmetic that can be done by hand."""

import numpy as np
import pandas as pd
import pytest
from described import made_up

from sysdpo.base.errors import UserError
from sysdpo.report.statistics import (
    COMPARISON_COLUMNS,
    METRIC_COLUMNS,
    PROMPT,
    VALUE_COLUMNS,
    Estimate,
    compare,
    estimate,
    summarise,
    win_rates,
)

METRIC_OF = made_up("toy", "qa").metric


def table(rows: list[tuple[str, int, str, int, float]], metric: str = "preference_score") -> pd.DataFrame:
    """Rows are (method, seed, prompt, sample, value)."""
    values = [
        ("toy", method, seed, prompt, prompt, sample, metric, value) for method, seed, prompt, sample, value in rows
    ]
    return pd.DataFrame(values, columns=list(VALUE_COLUMNS))


# Prompt p1 has two samples: its mean is (1 + 3)/2 = 2 and counts once, so seed 0 gives (2 + 4)/2 = 3.
BY_HAND = [
    ("before", 0, "p1", 0, 1.0),
    ("before", 0, "p1", 1, 3.0),
    ("before", 0, "p2", 0, 4.0),
    ("before", 1, "p1", 0, 5.0),
    ("before", 1, "p2", 0, 5.0),
    ("direct", 0, "p1", 0, 4.0),
    ("direct", 0, "p2", 0, 5.0),
    ("direct", 1, "p1", 0, 6.0),
    ("direct", 1, "p2", 0, 9.0),
]


def simulated(rng: np.random.Generator, methods: dict[str, float], seeds: int, prompts: int) -> pd.DataFrame:
    rows = []
    for seed in range(seeds):
        hardness = rng.normal(0, 1, prompts)
        for method, shift in methods.items():
            for prompt in range(prompts):
                value = shift + hardness[prompt] + rng.normal(0, 0.1)
                rows.append((method, seed, f"p{prompt}", 0, float(value)))
    return table(rows)


def test_mean_averages_samples_then_prompts_then_seeds() -> None:
    metrics = summarise(table(BY_HAND), METRIC_OF).set_index("method")
    assert metrics.loc["before", "mean"] == pytest.approx((3 + 5) / 2)
    assert metrics.loc["direct", "mean"] == pytest.approx((4.5 + 7.5) / 2)
    assert list(metrics["n_prompts"]) == [2, 2]
    assert list(metrics["n_seeds"]) == [2, 2]
    assert metrics["higher_is_better"].all()


def test_difference_is_paired_by_prompt_and_seed() -> None:
    row = compare(table(BY_HAND), ["before"], ["direct"], METRIC_OF).iloc[0]
    # Seed 0: 4-2 and 5-4; seed 1: 6-5 and 9-5. Their seed means are 1.5 and 2.5.
    assert row["difference"] == pytest.approx(2.0)
    assert (row["method"], row["baseline"], row["n_prompts"], row["n_seeds"]) == ("direct", "before", 2, 2)
    # Seeds: ((1.5−2)² + (2.5−2)²)/2 = 0.25; prompts, of means 1.5 and 2.5, the same; what is left is ±1, over SC 1.
    # 0.25 + 0.25 − 1 is less than the seeds' own 0.25, and of one degree of freedom, whose t is tan(0.95 π/2) = 12.706.
    assert row["ci_high"] - 2 == pytest.approx(2 - row["ci_low"]) == pytest.approx(np.tan(0.475 * np.pi) * 0.5)


def test_columns_are_those_of_the_files() -> None:
    values = table(BY_HAND)
    assert tuple(summarise(values, METRIC_OF).columns) == METRIC_COLUMNS
    assert tuple(compare(values, ["before"], ["direct"], METRIC_OF).columns) == COMPARISON_COLUMNS


def test_every_method_meets_every_baseline_but_itself() -> None:
    values = simulated(np.random.default_rng(0), {"before": 0, "separate": 1, "direct": 2}, 2, 5)
    pairs = compare(values, ["before", "separate", "direct"], ["separate", "direct"], METRIC_OF)
    assert list(zip(pairs["method"], pairs["baseline"], strict=True)) == [
        ("direct", "before"),
        ("direct", "separate"),
        ("separate", "before"),
        ("separate", "direct"),
    ]


def test_pairing_takes_the_hardness_of_prompts_out_of_the_interval() -> None:
    values = simulated(np.random.default_rng(0), {"before": 0, "direct": 0.2}, 3, 50)
    metrics = summarise(values, METRIC_OF).set_index("method")
    row = compare(values, ["before"], ["direct"], METRIC_OF).iloc[0]
    assert row["ci_low"] > 0
    assert row["ci_high"] - row["ci_low"] < 0.3 * (metrics.loc["direct", "ci_high"] - metrics.loc["direct", "ci_low"])


def test_the_same_values_in_any_order_give_the_same_bytes() -> None:
    values = simulated(np.random.default_rng(0), {"before": 0, "direct": 1}, 3, 20)
    shuffled = values.sample(frac=1, random_state=1)
    assert (
        summarise(values, METRIC_OF).to_csv()
        == summarise(values, METRIC_OF).to_csv()
        == summarise(shuffled, METRIC_OF).to_csv()
    )
    assert (
        compare(values, ["before"], ["direct"], METRIC_OF).to_csv()
        == compare(shuffled, ["before"], ["direct"], METRIC_OF).to_csv()
    )


def test_a_methods_row_does_not_depend_on_the_other_methods() -> None:
    values = simulated(np.random.default_rng(0), {"before": 0, "direct": 1}, 3, 20)
    alone = summarise(values[values["method"] == "direct"], METRIC_OF)
    among = summarise(values, METRIC_OF).query("method == 'direct'").reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, among)


def prompts(values: dict[tuple[int, str, str], float]) -> pd.Series:
    """Keys are (seed, content, prompt)."""
    index = pd.MultiIndex.from_tuples(values, names=PROMPT)
    return pd.Series(list(values.values()), index=index)


def test_constant_scores_have_a_point_for_an_interval_and_constant_shares_do_not() -> None:
    alike = prompts({(seed, name, name): 1.0 for seed in range(5) for name in "abcdefgh"})
    assert estimate(alike) == Estimate(1.0, 1.0, 1.0, n_prompts=8, n_contents=8, n_seeds=5)
    share = estimate(alike, "proportion")
    assert (share.mean, share.high) == (1.0, 1.0)
    assert 0.3 < share.low < 0.8
    gained = estimate(alike - 1, "proportion difference")
    assert gained.mean == 0
    assert gained.low == -gained.high < -0.1


def test_names_of_seeds_prompts_and_contents_do_not_matter() -> None:
    rng = np.random.default_rng(0)
    values = {(seed, f"c{prompt // 2}", f"p{prompt}"): rng.normal() for seed in range(3) for prompt in range(6)}
    renamed = {(9 - seed, f"x{content}", f"y{prompt}"): value for (seed, content, prompt), value in values.items()}
    assert estimate(prompts(renamed)) == estimate(prompts(values))
    assert estimate(prompts(values).sample(frac=1, random_state=1)) == estimate(prompts(values))


def test_contents_are_counted_and_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    hard = dict(enumerate(rng.normal(0, 1, 10)))
    rows = [
        (method, seed, f"p{prompt:02d}", 0, hard[prompt // 4] + shift + rng.normal(0, 0.1))
        for method, shift in (("before", 0), ("direct", 1))
        for seed in range(3)
        for prompt in range(40)
    ]
    alone = table(rows)
    shared = alone.assign(content=[f"c{int(prompt[1:]) // 4}" for prompt in alone["prompt_id"]])
    narrow, wide = (summarise(samples, METRIC_OF).set_index("method").loc["direct"] for samples in (alone, shared))
    assert (narrow["n_prompts"], narrow["n_contents"]) == (40, 40)
    assert (wide["n_prompts"], wide["n_contents"]) == (40, 10)
    assert wide["mean"] == narrow["mean"]
    assert wide["ci_high"] - wide["ci_low"] > 1.7 * (narrow["ci_high"] - narrow["ci_low"])
    assert compare(shared, ["before"], ["direct"], METRIC_OF)["n_contents"].tolist() == [10]
    won = win_rates(shared, ["before"])
    assert won["content"].tolist() == shared.loc[shared["method"] == "direct", "content"].tolist()
    assert summarise(won, METRIC_OF)["n_contents"].tolist() == [10]


def test_a_share_has_an_interval_between_0_and_1() -> None:
    rng = np.random.default_rng(0)
    rows = [("direct", seed, f"p{prompt}", 0, float(rng.random() < 0.97)) for seed in range(5) for prompt in range(60)]
    row = summarise(table(rows, "accuracy"), METRIC_OF).iloc[0]
    assert 0 < row["ci_low"] < row["mean"] < row["ci_high"] < 1
    # Wilson's interval reaches further towards one half.
    assert row["mean"] - row["ci_low"] > 1.2 * (row["ci_high"] - row["mean"])


def test_a_share_beyond_1_is_refused() -> None:
    with pytest.raises(UserError, match=r"'accuracy' of 'direct': 3 is no share; .* should lie between 0 and 1"):
        summarise(table([("direct", 0, "p1", 0, 1.0), ("direct", 0, "p2", 0, 3.0)], "accuracy"), METRIC_OF)


def test_a_prompt_that_a_seed_lacks_is_named() -> None:
    message = r"'preference_score' of 'before': prompt 'p3' has no value for seed 0, but for another"
    with pytest.raises(UserError, match=message):
        summarise(table([*BY_HAND, ("before", 1, "p3", 0, 1.0)]), METRIC_OF)


def test_one_value_has_no_interval() -> None:
    with pytest.raises(UserError, match="one prompt of one seed has no interval; evaluate more prompts, or more seeds"):
        summarise(table([("direct", 0, "p1", 0, 1.0)]), METRIC_OF)


def test_a_prompt_of_two_contents_is_refused() -> None:
    values = table(BY_HAND)
    values.loc[4, "content"] = "c"
    with pytest.raises(UserError, match=r"row 4 has another content than its prompt has elsewhere .*'p2', content 'c'"):
        summarise(values, METRIC_OF)


@pytest.mark.parametrize("column", VALUE_COLUMNS)
def test_missing_column_is_named(column: str) -> None:
    with pytest.raises(UserError, match=rf"lacks the columns \['{column}'\]"):
        summarise(table(BY_HAND).drop(columns=column), METRIC_OF)


def test_empty_table() -> None:
    with pytest.raises(UserError, match="empty"):
        summarise(table([]), METRIC_OF)


def test_value_that_is_not_a_number_is_located() -> None:
    with pytest.raises(UserError, match=r"row \d+ has a value .*method 'direct', seed 0, prompt_id 'p9'.* nan"):
        summarise(table([*BY_HAND, ("direct", 0, "p9", 0, float("nan"))]), METRIC_OF)


def test_value_given_twice() -> None:
    with pytest.raises(UserError, match=r"row \d+ repeats another row's .*method 'before', seed 0, prompt_id 'p1'"):
        summarise(table([*BY_HAND, BY_HAND[0]]), METRIC_OF)


def test_metric_without_direction() -> None:
    with pytest.raises(UserError, match="Metric 'cuteness' of 'toy' is not described, so it has no direction"):
        summarise(table(BY_HAND, metric="cuteness"), METRIC_OF)


def test_unmatched_prompts_are_named() -> None:
    with pytest.raises(UserError, match=r"prompt 'p3' of seed 1 was evaluated for 'direct' but not for 'before'"):
        compare(table([*BY_HAND, ("direct", 1, "p3", 0, 1.0)]), ["before"], ["direct"], METRIC_OF)


def test_unknown_method_is_named() -> None:
    with pytest.raises(UserError, match="'separate' has no values to compare; there are before, direct"):
        compare(table(BY_HAND), ["before"], ["separate"], METRIC_OF)


def test_metric_that_one_of_the_two_lacks_is_skipped() -> None:
    only_direct = table([("direct", 0, "p1", 0, 1.0)], metric="length")
    pairs = compare(pd.concat([table(BY_HAND), only_direct]), ["before"], ["direct"], METRIC_OF)
    assert list(pairs["metric"]) == ["preference_score"]


def test_win_rates_count_ties_half_and_pair_by_seed_prompt_and_sample() -> None:
    scores = {"before": [0.0, 1.0, 0.0], "direct": [1.0, 1.0, 0.0], "separate": [0.0, 0.0, 1.0]}
    values = pd.DataFrame(
        [
            ("qa", method, 0, f"p{prompt}", f"p{prompt}", 0, "preference_score", score)
            for method, row in scores.items()
            for prompt, score in enumerate(row)
        ],
        columns=list(VALUE_COLUMNS),
    )
    won = win_rates(values, ["before", "separate"])
    means = won.groupby(["method", "metric"])["value"].mean().to_dict()
    assert means == {
        ("direct", "win_rate_vs_before"): pytest.approx((1 + 0.5 + 0.5) / 3),
        ("separate", "win_rate_vs_before"): pytest.approx((0.5 + 0 + 1) / 3),
        ("direct", "win_rate_vs_separate"): pytest.approx((1 + 1 + 0) / 3),
        ("before", "win_rate_vs_separate"): pytest.approx((0.5 + 1 + 0) / 3),
    }
    assert list(won.columns) == list(values.columns)
    assert win_rates(values, []).empty
    with pytest.raises(UserError, match="'nobody' has no values of 'preference_score'"):
        win_rates(values, ["nobody"])

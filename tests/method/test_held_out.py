"""How often a trained system prefers the chosen one of held-out pairs, by worked arithmetic."""

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from coin_system import CONFIG, Coins, coins

from sysdpo import Node, System, Table
from sysdpo.base.errors import UserError
from sysdpo.method.candidates import CandidateSettings
from sysdpo.method.evaluation import evaluate, judge_pairs
from sysdpo.method.held_out import intermediates_for, pair_margins, rightness
from sysdpo.method.settings import MethodSettings
from sysdpo.method.training import align

HEADS, TAILS = "heads", "tails"
BOTH = CandidateSettings(count=2)


def trained_coins(first: float, second: float) -> System:
    """Fair coins before, these logits now."""
    system = coins()
    system.components["first"].logit.data.fill_(first)
    system.components["second"].logit.data.fill_(second)
    return system


def held_out(*pairs: tuple[str, str, str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Pairs of trajectories of a prompt, each the letters of its two coins: `("p0", "ht", "tt")`."""
    trajectories, found = [], []
    for number, (prompt, *sides) in enumerate(pairs):
        ids = [f"{prompt}/{number}{side}" for side in "wl"]
        for name, values in zip(ids, sides, strict=True):
            left, right = ({"h": HEADS, "t": TAILS}[letter] for letter in values)
            trajectories.append(
                {"trajectory_id": name, "prompt_id": prompt, "text": prompt, "left": left, "right": right}
            )
        found.append({"pair_id": f"q{number}", "prompt_id": prompt, "chosen_id": ids[0], "rejected_id": ids[1]})
    return pd.DataFrame(trajectories), pd.DataFrame(found).assign(margin=1.0)


PAIRS = held_out(("p0", "hh", "tt"), ("p0", "ht", "tt"), ("p1", "th", "tt"), ("p1", "hh", "hh"))


def test_margins_are_summed_over_the_trained_components() -> None:
    """A coin with the logit l has log σ(l) − log σ(−l) = l between heads and tails, and its reference 0."""
    system = trained_coins(1.0, -2.0)
    known = intermediates_for(system, PAIRS[0].columns, BOTH)
    both = pair_margins(system, PAIRS, known, ["first", "second"], seed=0)
    assert both == pytest.approx([1 - 2, 1, -2, 0], abs=1e-6)
    assert rightness(both).tolist() == [0, 1, 0, 0.5]
    assert pair_margins(system, PAIRS, known, ["first"], seed=0) == pytest.approx([1, 1, 0, 0], abs=1e-6)
    assert pair_margins(system, PAIRS, known, [], seed=0).tolist() == [0] * 4
    assert pair_margins(system, PAIRS, known, ["first", "second"], seed=0, rows=2).tolist() == both.tolist()


def test_of_hidden_intermediates_it_is_the_margin_of_the_marginal() -> None:
    """p(z = a) = 3/4 · 2/3 + 1/4 · 1/4 = 9/16, and 1/2 before: the margin of a against b is log 9/7."""
    words = ("a", "b")
    first, second = (Table(seen, words, torch.zeros(len(seen), 2)) for seen in ([("x",)], [("a",), ("b",)]))
    system = System(
        ("x",), [Node("y", "first", ("x",)), Node("z", "second", ("y",))], {"first": first, "second": second}
    )
    first.logits.data = torch.tensor([[3 / 4, 1 / 4]]).log()
    second.logits.data = torch.tensor([[2 / 3, 1 / 3], [1 / 4, 3 / 4]]).log()
    ids = {"trajectory_id": ["w", "l"], "prompt_id": "p", "x": "x", "z": ["a", "b"]}
    pair = {"pair_id": ["q"], "prompt_id": ["p"], "chosen_id": ["w"], "rejected_id": ["l"]}
    data = (pd.DataFrame(ids), pd.DataFrame(pair))
    hidden = intermediates_for(system, data[0].columns, BOTH)
    found = pair_margins(system, data, hidden, ["first", "second"], seed=0)
    assert found == pytest.approx([math.log(9 / 7)], abs=1e-6)


def test_the_table_has_a_row_a_pair_and_only_of_the_prompts_asked_for() -> None:
    class Scoreless:
        pass

    prompts = pd.DataFrame({"prompt_id": ["p0", "p1"], "content": ["c", "c"]})
    system = trained_coins(1.0, -2.0)
    judged: dict[str, Any] = {"components": ["first", "second"], "candidates": BOTH, "seed": 0}
    table = judge_pairs(Scoreless(), system, prompts, PAIRS, **judged)
    assert table["value"].tolist() == [0, 1, 0, 0.5]
    assert table["sample"].tolist() == [0, 1, 0, 1]
    assert set(table["content"]) == {"c"}
    assert set(table["metric"]) == {"preference_accuracy"}
    part = judge_pairs(Scoreless(), system, prompts[1:], PAIRS, **judged)
    assert part["value"].tolist() == [0, 0.5]
    # Coins have no decoder: outputs alone cannot be judged, which only a benchmark with a score can do without.
    outputs = (PAIRS[0].drop(columns="left"), PAIRS[1])
    with pytest.raises(UserError, match="needs candidates for 'left'"):
        judge_pairs(Scoreless(), system, prompts, outputs, **judged)
    assert judge_pairs(Coins(CONFIG["systems"]["coins"]), system, prompts, outputs, **judged).empty


def test_without_a_scorer_nothing_is_scored() -> None:
    class Scoreless:
        inputs, description = Coins.inputs, Coins.description
        metrics = Coins.metrics

    prompts = pd.DataFrame({"prompt_id": ["p0", "p1"], "split": "test", "text": ["a", "b"]})
    asked: dict[str, Any] = {"samples": 2, "seed": 0, "purpose": "test"}
    samples, measured = evaluate(Scoreless(), coins(), prompts, Path(), best_of=1, **asked)
    assert "score" not in samples
    assert set(measured["metric"]) == {"spread", "kl_first", "kl_second"}
    with pytest.raises(UserError, match="best_of: 2 should be 1, because this system has no score to pick by"):
        evaluate(Scoreless(), coins(), prompts, Path(), best_of=2, **asked)


TRAINING = held_out(("p0", "hh", "tt"), ("p0", "hh", "ht"), ("p1", "ht", "tt"), ("p1", "hh", "th"))
REVERSED = held_out(("p0", "tt", "hh"), ("p1", "tt", "hh"))


def run(output: Path, held: Any = None, **method: Any) -> tuple[System, list[dict[str, Any]]]:
    names = ("first", "second")
    common = {"objective": "direct", "steps": 6, "batch_size": 2, "warmup_steps": 1, "rounds": 2}
    settings = MethodSettings(learning_rate=dict.fromkeys(names, 0.2), **(common | method))
    system = coins()
    align(system, lambda number: TRAINING, settings, seed=0, output=output, held_out=held)
    log = [json.loads(line) for line in (output / "training.jsonl").read_text().splitlines()]
    return system, [{key: value for key, value in row.items() if key != "seconds"} for row in log]


def test_looking_changes_nothing_of_a_training(tmp_path: Path) -> None:
    blind, expected = run(tmp_path / "blind")
    seeing, log = run(tmp_path / "seeing", PAIRS, eval_every=4)
    looked = [row.pop("held_out_accuracy", None) for row in log]
    assert [step for step, accuracy in enumerate(looked) if accuracy is not None] == [3, 9]
    assert [row.pop("held_out_margin", None) for row in log][3] > 0
    assert log == expected
    for name in ("first", "second"):
        assert torch.equal(seeing.components[name].logit, blind.components[name].logit)


def test_early_stopping_ends_a_round_and_keeps_the_best(tmp_path: Path) -> None:
    """Of pairs that say the opposite of the training the accuracy is 0 at every look: the first one stays the best."""
    system, log = run(tmp_path, REVERSED, steps=30, rounds=1, eval_every=2, early_stopping=3)
    assert len(log) == 2 * (1 + 3)
    looks = [row["held_out_margin"] for row in log if "held_out_margin" in row]
    assert looks == sorted(looks, reverse=True)
    known = intermediates_for(system, REVERSED[0].columns, BOTH)
    assert pair_margins(system, REVERSED, known, ["first", "second"], seed=0).mean() == pytest.approx(looks[0])


def test_early_stopping_needs_pairs_to_look_at(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="early_stopping: 2 should be null, because there are no held-out pairs"):
        run(tmp_path, eval_every=2, early_stopping=2)

"""Sampling for evaluation and what is measured of it."""

import copy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from coin_system import CONFIG, Coin, Coins, build, coins
from safetensors.torch import load_file
from steps import Steps
from tiny_models import perturb
from tiny_system import preference_data

from sysdpo.base.errors import UserError
from sysdpo.base.tables import VALUE_COLUMNS
from sysdpo.method.evaluation import drift, evaluate, sample_trajectories

BENCHMARK = build(CONFIG["systems"]["coins"])
PROMPTS = pd.DataFrame({"prompt_id": ["p0", "p1", "p2"], "split": "test", "text": ["a", "b", "c"]})
ASKED = {"seed": 0, "purpose": "test"}


def test_every_prompt_gets_its_number_of_samples() -> None:
    frame = sample_trajectories(BENCHMARK, coins(), PROMPTS, 2, **ASKED)
    assert frame["trajectory_id"].tolist() == ["p0/0", "p0/1", "p1/0", "p1/1", "p2/0", "p2/1"]
    assert frame["sample"].tolist() == [0, 1] * 3
    assert frame["text"].tolist() == ["a", "a", "b", "b", "c", "c"]
    assert set(frame["left"]) <= {"heads", "tails"}


def draws(seed: int, purpose: str, system=None) -> list[str]:
    frame = sample_trajectories(BENCHMARK, system or coins(), PROMPTS, 20, seed=seed, purpose=purpose)
    return (frame["left"] + frame["right"]).tolist()


def test_methods_share_their_seeds_and_seeds_and_splits_do_not() -> None:
    assert draws(0, "test") == draws(0, "test")
    different = [draws(0, "test"), draws(1, "test"), draws(0, "train"), draws(0, "validation")]
    assert all(different[i] != different[j] for i in range(4) for j in range(i))
    # With common seeds a likelier head never turns into a tail.
    biased = draws(0, "test", coins(1.0, 1.0))
    fewer = [pair.count("heads") for pair in draws(0, "test")]
    assert all(pair.count("heads") >= before for pair, before in zip(biased, fewer, strict=True))


def measured(samples: int, best_of: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    return evaluate(BENCHMARK, coins(), PROMPTS, Path(), samples=samples, best_of=best_of, **ASKED)


def test_one_row_for_every_sample_and_metric() -> None:
    kept, metrics = measured(samples=2, best_of=1)
    assert len(kept) == 6
    assert kept["score"].between(0, 2).all()
    assert set(metrics.columns) == set(VALUE_COLUMNS)
    assert metrics["content"].tolist() == metrics["prompt_id"].tolist()
    assert set(metrics["metric"]) == {"spread", "preference_score", "kl_first", "kl_second"}
    assert not metrics.duplicated(["prompt_id", "sample", "metric"]).any()
    assert len(metrics) == 6 * 4
    assert metrics["value"].dtype == float
    scores = metrics[metrics["metric"] == "preference_score"].set_index(["prompt_id", "sample"])["value"]
    assert scores.to_dict() == kept.set_index(["prompt_id", "sample"])["score"].to_dict()
    spread = metrics[metrics["metric"] == "spread"]["value"].tolist()
    assert spread == (kept["left"] == "heads").astype(float).tolist()


def test_every_value_knows_its_prompts_content() -> None:
    prompts = PROMPTS.assign(content=["c", "d", "c"])
    _, metrics = evaluate(BENCHMARK, coins(), prompts, Path(), samples=2, best_of=1, greedy=["spread"], **ASKED)
    assert set(zip(metrics["prompt_id"], metrics["content"], strict=True)) == {("p0", "c"), ("p1", "d"), ("p2", "c")}


def test_best_of_n_keeps_the_highest_score_of_every_n() -> None:
    best_of, samples = 3, 2
    everything = sample_trajectories(BENCHMARK, coins(), PROMPTS, samples * best_of, **ASKED)
    scores = BENCHMARK.score(PROMPTS, everything, Path())["score"].to_numpy()
    expected = scores.reshape(len(PROMPTS) * samples, best_of).max(1)
    kept, metrics = measured(samples, best_of)
    assert kept["score"].tolist() == expected.tolist()
    assert kept["sample"].tolist() == [0, 1] * 3
    assert kept["prompt_id"].tolist() == ["p0", "p0", "p1", "p1", "p2", "p2"]
    shown = kept.merge(everything, on="trajectory_id", suffixes=("", "_drawn"))
    assert (shown["left"] == shown["left_drawn"]).all()
    assert len(metrics) == 6 * 5
    # log 3 − ⅔: what picking the best of three costs at most
    bound = metrics[metrics["metric"] == "kl_selection"]["value"]
    assert bound.tolist() == pytest.approx([0.4319456] * 6)
    _, plain = measured(samples, 1)
    assert "kl_selection" not in set(plain["metric"])


class Shuffled(Coins):
    """The coins, whose tables of scores and metrics come in an order of their own."""

    by_id = False

    def score(self, prompts, trajectories, foundation):
        return super().score(prompts, trajectories, foundation).sample(frac=1.0, random_state=1)

    def metrics(self, prompts, trajectories, scores, foundation):
        assert scores["trajectory_id"].tolist() == trajectories["trajectory_id"].tolist()
        made = super().metrics(prompts, trajectories, scores, foundation)
        if self.by_id:
            made = made.assign(trajectory_id=trajectories["trajectory_id"])
        made = made.sample(frac=1.0, random_state=2)
        return made.reset_index(drop=True) if self.by_id else made


@pytest.mark.parametrize("best_of", [1, 3])
@pytest.mark.parametrize("by_id", [False, True])
def test_the_order_of_a_system_s_tables_does_not_matter(best_of: int, by_id: bool) -> None:
    shuffled = Shuffled(CONFIG["systems"]["coins"])
    shuffled.by_id = by_id
    found = evaluate(shuffled, coins(), PROMPTS, Path(), samples=2, best_of=best_of, **ASKED)
    for ours, expected in zip(found, measured(samples=2, best_of=best_of), strict=True):
        pd.testing.assert_frame_equal(ours, expected)


def test_drift_is_the_log_ratio_of_every_row() -> None:
    system = coins()
    system.components["first"].logit.data += 1.0
    frame = sample_trajectories(BENCHMARK, system, PROMPTS, 2, **ASKED)
    measured = drift(system, frame, batch_size=4)
    # log σ(1) − log ½ = −0.3132617 + 0.6931472 for heads, log σ(−1) − log ½ = −1.3132617 + 0.6931472 for tails
    expected = np.where(frame["left"] == "heads", 0.3798855, -0.6201145)
    assert measured["kl_first"] == pytest.approx(expected, abs=1e-6)
    assert measured["kl_second"].tolist() == [0.0] * 6


def test_drift_does_not_depend_on_the_size_of_batches(make_system) -> None:
    system = make_system()
    frame, _ = preference_data(system)
    assert all((values == 0).all() for values in drift(system, frame).values())
    for component in system.components.values():
        perturb(component)
    whole, parts = drift(system, frame), drift(system, frame, batch_size=4)
    assert set(whole) == {"kl_writer", "kl_painter"}
    for name, values in whole.items():
        assert (values != 0).all()
        assert parts[name] == pytest.approx(values, rel=1e-3, abs=1e-4)


def test_evaluation_leaves_no_gradients(make_system) -> None:
    system = make_system()
    frame, _ = preference_data(system)
    drift(system, frame)
    weights = [weight for part in system.components.values() for weight in part.trainable_parameters()]
    assert all(weight.grad is None for weight in weights)
    assert torch.is_grad_enabled()


class WarmCoin(Coin):
    """A coin with a temperature: at 0 it always falls on the likelier side."""

    temperature = 1.0

    def sample(self, conditions, *, seeds):
        if self.temperature == 0:
            return ["heads" if self.logit > 0 else "tails"] * len(seeds)
        return super().sample(conditions, seeds=seeds)


def test_greedy_metrics_are_those_of_the_likeliest_tokens_and_leave_the_temperature_as_it_was() -> None:
    system = coins()
    system.components = {"first": WarmCoin(0.1), "second": WarmCoin(-0.1)}
    _, metrics = evaluate(BENCHMARK, system, PROMPTS, Path(), samples=2, best_of=1, greedy=["spread"], **ASKED)
    likeliest = metrics[metrics["metric"] == "spread_greedy"]
    assert likeliest["prompt_id"].tolist() == ["p0", "p1", "p2"]
    assert likeliest["value"].tolist() == [1.0, 1.0, 1.0]
    sampled = metrics[metrics["metric"] == "spread"]["value"]
    assert len(sampled) == 6
    assert 0 < sampled.mean() < 1
    assert system.components["first"].temperature == 1.0
    with pytest.raises(UserError, match=r"evaluation.greedy: \['accuracy'\] should be among"):
        evaluate(BENCHMARK, system, PROMPTS, Path(), samples=1, best_of=1, greedy=["accuracy"], **ASKED)


SWAP = {
    "direct": {"objective": "direct"},
    "only_first": {"objective": "only_first"},
    "first_of_direct": {"objective": "none", "take": {"first": "direct"}},
    "mixed": {"objective": "none", "take": {"first": "only_first", "second": "direct"}},
    "nothing_to_take": {"objective": "none", "take": {"second": "only_first"}},
}


def test_a_trained_component_beside_the_others_as_they_were(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """The swap test: each row has the adapters it takes and no others."""
    described = copy.deepcopy(CONFIG)
    described["systems"]["coins"] |= {"methods": SWAP, "baselines": []}
    steps = Steps(tmp_path, described)
    steps.prepare()
    for method in ("direct", "only_first"):
        assert steps("train", method=method) == 0
    direct, only_first = (steps.run / name / "training" for name in ("direct", "only_first"))
    logits = {
        (folder.parent.name, path.parent.name): load_file(path)["logit"].item()
        for folder in (direct, only_first)
        for path in folder.glob("adapters/*/coin.safetensors")
    }
    assert len(set(logits.values())) == 3
    loaded: list[tuple[str, float]] = []

    def note(coin: Coin, folder: Path) -> None:
        loaded.append((folder.name, load_file(folder / "coin.safetensors")["logit"].item()))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Coin, "load", note)
        assert steps("evaluate", method="first_of_direct", training=[direct]) == 0
        assert steps("evaluate", method="mixed", training=[only_first, direct]) == 0
    assert loaded == [
        ("first", logits["direct", "first"]),
        ("first", logits["only_first", "first"]),
        ("second", logits["direct", "second"]),
    ]
    capsys.readouterr()
    assert steps("evaluate", method="mixed", training=[direct, only_first]) == 2
    assert "should have the method 'only_first'" in capsys.readouterr().err
    assert steps("evaluate", method="mixed", training=[direct]) == 2
    assert "--training: it should hold the folders of ['only_first', 'direct']" in capsys.readouterr().err
    assert steps("evaluate", method="nothing_to_take", training=[only_first]) == 2
    assert "the component taken of 'only_first': 'second' should be one of ['first']" in capsys.readouterr().err

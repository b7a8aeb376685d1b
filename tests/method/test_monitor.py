"""What a training looks at beside what it learns from."""

import json
from pathlib import Path

import pytest
import torch
from coin_system import coins
from tiny_models import perturb, weights
from tiny_system import preference_data

from sysdpo.method.checkpoints import memories_of
from sysdpo.method.component import LogProbs
from sysdpo.method.intermediates import BatchLogProbs, KnownIntermediates
from sysdpo.method.monitor import PROMPTS, drift_of_draws, gradient_cosines
from sysdpo.method.objectives import make_link
from sysdpo.method.preferences import as_frame
from sysdpo.method.settings import MethodSettings
from sysdpo.method.training import align

COINS = ("first", "second")


def made_of(margins: dict[str, list[float]], slopes: dict[str, list[list[float]]]) -> tuple[BatchLogProbs, dict]:
    """BatchLogProbs whose margin of a component is `margin + slope · weight` for a weight of two numbers, now zero."""
    weights = {name: [torch.nn.Parameter(torch.zeros(2))] for name in margins}
    parts = {}
    for name, values in margins.items():
        chosen = torch.tensor(values) + torch.tensor(slopes[name]) @ weights[name][0]
        rejected = torch.zeros(len(values))
        parts[name] = LogProbs(torch.cat([chosen, rejected]), torch.zeros(2 * len(values)))
    return BatchLogProbs(parts), weights


def test_cosines_by_hand() -> None:
    slopes = {"a": [[1.0, 0.0], [0.0, 1.0]], "b": [[1.0, 1.0], [1.0, 1.0]]}
    batch, weights = made_of({"a": [0.0, 2.0], "b": [0.0, -2.0]}, slopes)
    found = gradient_cosines(batch, weights, make_link("sigmoid", beta=1.0))
    # The pairs weigh σ(−Σ Δ) = ½, ½ under direct; under separate `a` weighs them σ(0) = ½ and σ(−2) = 0.1192029:
    # cos = (½·½ + ½·0.1192029) / (√½ · √(0.25 + 0.0142093)) = 0.3096015 / (0.7071068 · 0.5140130)
    assert found["gradient_cosine_a"] == pytest.approx(0.8518123, abs=1e-6)
    assert found["gradient_cosine_b"] == pytest.approx(1.0, abs=1e-6)  # both pairs pull it one way
    assert all(weight.grad is None for each in weights.values() for weight in each)


def test_before_the_first_update_the_two_objectives_pull_alike() -> None:
    batch, weights = made_of({"a": [0.0, 0.0], "b": [0.0, 0.0]}, {name: [[1.0, 2.0], [3.0, -1.0]] for name in "ab"})
    found = gradient_cosines(batch, weights, make_link("sigmoid", beta=0.5))
    assert list(found.values()) == pytest.approx([1.0, 1.0])


def test_there_is_nothing_to_compare_for_one_model_or_hidden_intermediates() -> None:
    link = make_link("sigmoid", beta=1.0)
    batch, weights = made_of({"a": [0.0]}, {"a": [[1.0, 0.0]]})
    assert gradient_cosines(batch, weights, link) == {}
    batch, weights = made_of({"a": [0.0], "b": [0.0]}, {"a": [[1.0, 0.0]], "b": [[1.0, 0.0]]})
    hidden = BatchLogProbs(batch.components, marginal=batch.components["a"])
    assert gradient_cosines(hidden, weights, link) == {}


def test_the_drift_of_coins_is_their_divergence_and_entropy() -> None:
    """Over all prompts, of a coin that lands on heads with probability σ(2), its reference with ½."""
    system = coins()
    for name in COINS:
        system.components[name].logit.data.fill_(2.0)
    prompts = [f"p{row}" for row in range(400)]
    frame = as_frame(prompts, [0] * 400, {"text": ["toss"] * 400})
    drawn = system.sample({"text": ["toss"] * 400}, seeds=range(400))
    heads = torch.sigmoid(torch.tensor(2.0)).item()
    measured = system.drift(drawn, draw=range(400), components=COINS)
    for kl, entropy in measured.values():
        # KL = h log 2h + (1−h) log 2(1−h) = 0.327862, entropy 0.365285; four standard errors of 400 draws are 0.13.
        assert kl.mean().item() == pytest.approx(0.3279, abs=0.13)
        assert (kl + entropy).mean().item() == pytest.approx(0.693147, abs=1e-5)  # log 2 for every draw
    assert heads == pytest.approx(0.8807971, abs=1e-6)
    few = drift_of_draws(system, frame, COINS, 1, 0)
    assert set(few) == {f"{what}_{name}" for what in ("kl", "entropy") for name in COINS}
    assert few == drift_of_draws(system, frame.head(PROMPTS), COINS, 1, 0)
    assert few != drift_of_draws(system, frame, COINS, 2, 0)


def test_an_untrained_system_has_not_drifted_and_a_picture_has_no_entropy(make_system) -> None:
    system = make_system()
    frame, _ = preference_data(system)
    start = drift_of_draws(system, frame, ["writer", "painter"], 0)
    assert set(start) == {"kl_writer", "entropy_writer", "kl_painter"}
    assert start["kl_writer"] == start["kl_painter"] == 0.0
    for component in system.components.values():
        perturb(component)
    moved = drift_of_draws(system, frame, ["writer", "painter"], 0)
    assert moved["kl_painter"] > 0


def test_looking_changes_nothing_of_a_training(make_system, tmp_path: Path) -> None:
    logs, adapters = {}, {}
    for every in (0, 2):
        system = make_system()
        frame, pairs = preference_data(system)
        common = {name: dict.fromkeys(("writer", "painter"), 0.01) for name in ("learning_rate", "chosen_weight")}
        method = MethodSettings(
            objective="direct", **common, steps=3, batch_size=2, warmup_steps=1, monitor_every=every
        )
        output = tmp_path / str(every)
        align(system, lambda number, known=(frame, pairs): known, method, seed=0, output=output)
        logs[every] = [json.loads(line) for line in (output / "training.jsonl").read_text().splitlines()]
        adapters[every] = {name: weights(component) for name, component in system.components.items()}
    for name, plain in adapters[0].items():
        assert all(torch.equal(one, other) for one, other in zip(plain, adapters[2][name], strict=True))
    for plain, watched in zip(logs[0], logs[2], strict=True):
        assert {name: value for name, value in watched.items() if name in plain and name != "seconds"} == {
            name: value for name, value in plain.items() if name != "seconds"
        }
    looked = [set(row) - set(logs[0][0]) for row in logs[2]]
    seen = {*(f"gradient_cosine_{name}" for name in ("writer", "painter")), "kl_writer", "kl_painter", "entropy_writer"}
    assert looked == [seen, set(), seen]


def test_what_a_look_computes_is_forgotten(make_system) -> None:
    """What an encoder makes of a caption depends, in its last bits, on the captions beside it."""
    system = make_system()
    frame, _ = preference_data(system)
    rows = {str(name): frame[name].tolist()[:2] for name in frame.columns}
    KnownIntermediates(system).log_probs(rows, [], draw=[0, 0], components=["writer", "painter"])
    known = {name: {kind: dict(memory) for kind, memory in kept.items()} for name, kept in memories_of(system).items()}
    assert all(known["painter"].values()), "it remembers references, latents and prompts"
    assert drift_of_draws(system, frame, ["writer", "painter"], 0)
    for name, kept in memories_of(system).items():
        for kind, memory in kept.items():
            assert list(memory) == list(known[name][kind])
            assert all(memory[key] is known[name][kind][key] for key in memory)


def test_the_log_probs_of_known_intermediates_has_what_the_cosines_need(make_system) -> None:
    system = make_system()
    frame, pairs = preference_data(system)
    rows = frame.set_index("trajectory_id").loc[[*pairs["chosen_id"], *pairs["rejected_id"]]]
    columns = {str(name): rows[name].tolist() for name in rows.columns}
    batch = KnownIntermediates(system).log_probs(columns, [], draw=[1, 2, 3] * 2, components=["writer", "painter"])
    trained = {name: system.components[name].trainable_parameters() for name in ("writer", "painter")}
    assert gradient_cosines(batch, trained, make_link("sigmoid", beta=1.0)) == pytest.approx(
        {"gradient_cosine_writer": 1.0, "gradient_cosine_painter": 1.0}
    )

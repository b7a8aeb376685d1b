"""The training loop, on tiny real models where their insides matter and on coins elsewhere."""

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from coin_system import Coin, coins
from tiny_models import weights
from tiny_system import preference_data

from sysdpo.base.errors import UserError
from sysdpo.method.component import LogProbs
from sysdpo.method.preferences import as_frame
from sysdpo.method.settings import MethodSettings
from sysdpo.method.system import System
from sysdpo.method.training import align, train_round


def settings(objective: str = "direct", components: tuple[str, str] = ("writer", "painter"), **more) -> MethodSettings:
    rates = dict.fromkeys(components, 0.01)
    common = {"steps": 3, "batch_size": 2, "warmup_steps": 1, "chosen_weight": dict.fromkeys(components, 0.01)}
    return MethodSettings(objective=objective, learning_rate=rates, **(common | more))


def trained(system: System, method: MethodSettings, output: Path, seed: int = 0) -> list[dict]:
    frame, pairs = preference_data(system)
    align(system, lambda number: (frame, pairs), method, seed=seed, output=output)
    return [json.loads(line) for line in (output / "training.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("objective", "first_loss"),
    [("direct", 0.693147), ("separate", 1.386294), ("only_writer", 0.693147), ("only_painter", 0.693147)],
)
def test_the_first_step_finds_margins_of_exactly_zero_and_ln_2(
    make_system, tmp_path: Path, objective: str, first_loss: float
) -> None:
    first, *_, last = trained(make_system(), settings(objective), tmp_path)
    components = [objective.removeprefix("only_")] if objective.startswith("only_") else ["writer", "painter"]
    for name in components:
        assert first[f"margin_{name}"] == first[f"chosen_{name}"] == first[f"rejected_{name}"] == 0.0
    assert first["loss"] == pytest.approx(first_loss, abs=1e-6)
    assert last["loss"] != first["loss"]


@pytest.mark.parametrize("only", ["writer", "painter"])
def test_training_one_component_changes_its_adapter_and_nothing_else(make_system, tmp_path: Path, only: str) -> None:
    system = make_system()
    modules = {"writer": system.components["writer"].model}
    parts = system.components["painter"].pipeline.components
    modules |= {name: part for name, part in parts.items() if isinstance(part, torch.nn.Module)}
    before = {
        (name, key): value.clone() for name, module in modules.items() for key, value in module.state_dict().items()
    }
    trained(system, settings(f"only_{only}"), tmp_path)
    changed = {
        (name, key)
        for name, module in modules.items()
        for key, value in module.state_dict().items()
        if not torch.equal(value, before[name, key])
    }
    denoiser = "writer" if only == "writer" else "transformer"
    assert changed
    assert all(name == denoiser and "lora" in key for name, key in changed)
    assert [folder.name for folder in (tmp_path / "adapters").iterdir()] == [only]


@pytest.mark.parametrize("objective", ["direct", "separate", "sampling"])
def test_a_row_may_train_some_of_the_components(make_system, tmp_path: Path, objective: str) -> None:
    """Of a margin of one component all objectives but `sampling`, whose sum is over what the others say, make one."""
    candidates = {"count": 2, "generator": "beam"}
    logs, changed = {}, {}
    for name, row in {
        "some": settings(objective, components=("writer", "painter"), candidates=candidates).changed(
            components=("painter",)
        ),
        "only": settings("only_painter"),
    }.items():
        system = make_system()
        began = weights(system.components["writer"])
        logs[name] = trained(system, row, tmp_path / name)
        assert all(map(torch.equal, began, weights(system.components["writer"])))
        changed[name] = weights(system.components["painter"])
        assert [folder.name for folder in (tmp_path / name / "adapters").iterdir()] == ["painter"]
    alike = all(map(torch.equal, changed["some"], changed["only"]))
    assert alike == (objective != "sampling")


def test_separate_is_both_components_trained_alone_and_plugged_together(make_system, tmp_path: Path) -> None:
    results = {}
    for objective in ("separate", "only_writer", "only_painter", "direct"):
        system = make_system()
        trained(system, settings(objective), tmp_path / objective)
        results[objective] = {name: weights(system.components[name]) for name in ("writer", "painter")}
    for name in ("writer", "painter"):
        for ours, theirs in zip(results["separate"][name], results[f"only_{name}"][name], strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-7)
    pairs = zip(results["separate"]["writer"], results["direct"]["writer"], strict=True)
    assert any(not torch.equal(ours, theirs) for ours, theirs in pairs)


def test_equal_settings_give_equal_logs_and_weights(make_system, tmp_path: Path) -> None:
    runs = []
    for name in ("once", "again", "other"):
        system = make_system()
        log = trained(system, settings(), tmp_path / name, seed=1 if name == "other" else 0)
        runs.append(
            ([{k: v for k, v in row.items() if k != "seconds"} for row in log], weights(system.components["writer"]))
        )
    assert runs[0][0] == runs[1][0]
    assert all(torch.equal(a, b) for a, b in zip(runs[0][1], runs[1][1], strict=True))
    assert runs[2][0] != runs[0][0]


def test_the_log_has_a_complete_row_for_every_step(make_system, tmp_path: Path) -> None:
    log = trained(make_system(), settings(rounds=2), tmp_path)
    assert [(row["step"], row["round"]) for row in log] == [(0, 0), (1, 0), (2, 0), (3, 1), (4, 1), (5, 1)]
    for row in log:
        assert set(row) >= {"loss", "accuracy", "gradient_norm", "seconds", "margin_writer", "margin_painter"}
        assert all(np.isfinite(value) for value in row.values())


def test_every_round_starts_from_fresh_data_with_the_system_it_finds_as_its_reference(
    make_system, tmp_path: Path
) -> None:
    system = make_system()
    frame, pairs = preference_data(system)
    asked, found = [], []

    def collect(number: int):
        asked.append(number)
        found.append(weights(system.components["writer"]))
        return frame, pairs

    align(system, collect, settings(rounds=2), seed=0, output=tmp_path)
    log = [json.loads(line) for line in (tmp_path / "training.jsonl").read_text().splitlines()]
    assert asked == [0, 1]
    assert any(not torch.equal(a, b) for a, b in zip(*found, strict=True))  # the second round finds what the first left
    assert log[3]["loss"] == pytest.approx(0.693147, abs=1e-6)
    assert log[3]["margin_writer"] == log[3]["margin_painter"] == 0.0
    assert log[2]["loss"] != pytest.approx(0.693147, abs=1e-6)
    assert any(not torch.equal(a, b) for a, b in zip(found[1], weights(system.components["writer"]), strict=True))


def coin_data() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Heads are preferred on either coin."""
    sides = [("heads", "heads"), ("tails", "tails"), ("heads", "tails"), ("tails", "heads")]
    variables = {"text": ["x"] * 4, "left": [a for a, _ in sides], "right": [b for _, b in sides]}
    pairs = [("p/0", "p/1"), ("p/0", "p/2"), ("p/0", "p/3"), ("p/2", "p/1"), ("p/3", "p/1")]
    table = pd.DataFrame(pairs, columns=["chosen_id", "rejected_id"])
    return as_frame(["p"] * 4, range(4), variables), table.assign(pair_id=table.index, prompt_id="p", margin=1.0)


COIN = {"components": ("first", "second"), "batch_size": 5, "chosen_weight": {"first": 0.0, "second": 0.0}}


def test_one_step_of_one_coin_by_hand() -> None:
    """Heads against tails: r = log σ(θ) − log σ(0), Δ = θ, so dℓ/dθ = −β σ(0) = −0.25 at beta 0.5."""
    system = coins()
    frame, pairs = coin_data()
    method = settings("only_first", **COIN | {"batch_size": 1}, beta=0.5, steps=1, warmup_steps=0)
    log = io.StringIO()
    train_round(system, frame, pairs.iloc[[3]].assign(), method, seed=0, number=0, log=log)
    assert json.loads(log.getvalue())["gradient_norm"] == pytest.approx(0.25)
    # Adam's first step is the learning rate, whatever the gradient.
    assert system.components["first"].logit.item() == pytest.approx(0.01, rel=1e-5)
    assert system.components["second"].logit.item() == 0.0


def test_gradients_are_clipped_for_each_component_by_itself(tmp_path: Path) -> None:
    frame, pairs = coin_data()
    alone, together = coins(), coins()
    method = {**COIN, "max_grad_norm": 1e-3, "steps": 5}
    align(alone, lambda number: (frame, pairs), settings("only_first", **method), seed=0, output=tmp_path / "alone")
    huge = method | {"chosen_weight": {"first": 0.0, "second": 1000.0}}
    align(together, lambda number: (frame, pairs), settings("separate", **huge), seed=0, output=tmp_path / "together")
    assert together.components["first"].logit.item() == pytest.approx(alone.components["first"].logit.item())


def test_training_follows_the_preferences_and_not_random_labels(tmp_path: Path) -> None:
    frame, pairs = coin_data()
    pairs = pd.concat([pairs] * 400, ignore_index=True)
    rates = {"learning_rate": {"first": 0.1, "second": 0.1}}
    method = COIN | {"steps": 40, "batch_size": 20}
    logits = {}
    for labels in ("deterministic", "random"):
        system = coins()
        chosen = MethodSettings(
            objective="direct", labels=labels, **rates, **{k: v for k, v in method.items() if k != "components"}
        )
        align(system, lambda number: (frame, pairs), chosen, seed=0, output=tmp_path / labels)
        logits[labels] = [system.components[name].logit.item() for name in ("first", "second")]
    assert min(logits["deterministic"]) > 1.0
    assert max(abs(logit) for logit in logits["random"]) < 0.5


def test_likelihood_raises_what_was_chosen_without_a_preference_term(tmp_path: Path) -> None:
    frame, pairs = coin_data()
    system = coins()
    method = settings("likelihood", **COIN | {"chosen_weight": {"first": 1.0, "second": 1.0}}, steps=10)
    align(system, lambda number: (frame, pairs), method, seed=0, output=tmp_path)
    first = json.loads((tmp_path / "training.jsonl").read_text().splitlines()[0])
    assert first["loss"] == 0.0
    assert first["total_loss"] == pytest.approx(2 * 0.693147, abs=1e-5)  # −log ½ for each coin
    assert system.components["first"].logit.item() > 0.01


def test_no_pairs_are_refused(tmp_path: Path) -> None:
    frame, pairs = coin_data()
    with pytest.raises(UserError, match="there are none to train on"):
        align(coins(), lambda number: (frame, pairs.head(0)), settings(**COIN), seed=0, output=tmp_path)


@pytest.mark.parametrize(("named", "wrong"), [(["first"], "second"), (["first", "second", "third"], "third")])
def test_rates_are_given_for_the_components_there_are(tmp_path: Path, named: list[str], wrong: str) -> None:
    frame, pairs = coin_data()
    rates = {"learning_rate": dict.fromkeys(named, 0.1), "chosen_weight": dict.fromkeys(named, 0.0)}
    with pytest.raises(UserError, match=f"learning_rate: .* should name .*; '{wrong}' is wrong"):
        align(
            coins(), lambda number: (frame, pairs), MethodSettings(objective="direct", **rates), seed=0, output=tmp_path
        )
    if len(named) == 1:
        few = MethodSettings(objective="only_first", steps=1, **rates)
        align(coins(), lambda number: (frame, pairs), few, seed=0, output=tmp_path)


class Faulty(Coin):
    """A coin that goes wrong: its log-probabilities, its gradient or its weight, from some update on."""

    def __init__(self, what: str, update: int, value: float):
        super().__init__(0.0)
        self.what, self.left, self.value = what, update, value

    def log_probs(self, conditions, values, *, draw):
        policy, reference = super().log_probs(conditions, values, draw=draw)
        self.left -= 1
        if self.left < 0 and self.what == "gradient":
            policy.register_hook(lambda gradient: gradient * self.value)
        if self.left < 0 and self.what == "weight":
            self.logit.register_post_accumulate_grad_hook(self.spoil)
        if self.left < 0 and self.what == "log_probs":
            policy = policy + self.value
        return LogProbs(policy, reference)

    def spoil(self, weight: torch.Tensor) -> None:
        weight.data.fill_(self.value)


@pytest.mark.parametrize("objective", ["direct", "separate", "only_second", "likelihood"])
@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
@pytest.mark.parametrize("update", [0, 2])
@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("log_probs", "the log-probabilities of 'second' are "),
        ("gradient", "the gradient of 'second' is "),
        ("weight", "weights of 'second' are no longer finite"),
    ],
)
def test_what_is_not_finite_is_refused_and_neither_stepped_with_nor_saved(
    tmp_path: Path, what: str, said: str, update: int, value: float, objective: str
) -> None:
    frame, pairs = coin_data()
    system = coins()
    system.components["second"] = Faulty(what, update, value)
    method = settings(objective, **COIN | {"chosen_weight": {"first": 0.1, "second": 0.1}})
    with pytest.raises(UserError, match=r"learning_rate.second: 0.01 should be lower") as error:
        align(system, lambda number: (frame, pairs), method, seed=0, output=tmp_path)
    assert said in str(error.value)
    assert str(error.value).endswith(f"at update {update + 1} of 3")
    assert not (tmp_path / "adapters").exists()
    log = (tmp_path / "training.jsonl").read_text().splitlines()
    assert len(log) == update
    if what != "weight":
        assert system.components["second"].logit.isfinite()


def test_a_beta_that_makes_the_loss_overflow_is_named(tmp_path: Path) -> None:
    frame, pairs = coin_data()
    method = settings("direct", **COIN | {"beta": 1e-30, "link": "ipo"})
    with pytest.raises(UserError, match=r"beta: .* and chosen_weight: .* made the total loss inf at update 1 of 3"):
        align(coins(), lambda number: (frame, pairs), method, seed=0, output=tmp_path)


def drawn_noise(tmp_path: Path, steps: int, **more) -> list[list[tuple[str, str, int]]]:
    """Of every step the pairs that were met and the draws they were met with: (chosen, rejected, draw)."""
    frame, pairs = coin_data()
    system, met = coins(), []
    original = system.log_probs

    def spy(variables, *, draw, components=None):
        half = len(draw) // 2
        assert draw[:half] == draw[half:]  # a pair's two rows share their noise
        names = variables["left"], variables["right"]
        sides = ["".join(side) for side in zip(*names, strict=True)]
        met.append(list(zip(sides[:half], sides[half:], draw[:half], strict=True)))
        return original(variables, draw=draw, components=components)

    system.log_probs = spy
    method = settings(**COIN | {"batch_size": 2}, steps=steps, **more)
    align(system, lambda number: (frame, pairs), method, seed=0, output=tmp_path)
    return met


def test_every_pair_is_met_once_a_pass(tmp_path: Path) -> None:
    met = [pair for step in drawn_noise(tmp_path, steps=10) for pair in step]
    passes = [[pair[:2] for pair in met[start : start + 5]] for start in range(0, 20, 5)]
    assert all(len(set(each)) == 5 for each in passes)
    assert any(each != passes[0] for each in passes)


def test_a_pair_meets_its_own_few_noises_in_turn(tmp_path: Path) -> None:
    met = [pair for step in drawn_noise(tmp_path, steps=20, noise_bank=3) for pair in step]
    by_pair: dict[tuple, list[int]] = {}
    for chosen, rejected, draw in met:
        by_pair.setdefault((chosen, rejected), []).append(draw)
    assert len(by_pair) == 5
    for draws in by_pair.values():
        assert len(draws) == 8
        assert len(set(draws[:3])) == 3
        assert draws[3:6] == draws[:3]
    assert len({draw for draws in by_pair.values() for draw in draws}) == 15

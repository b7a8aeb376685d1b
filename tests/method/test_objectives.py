"""Every link and objective against numbers worked out by hand."""

import pytest
import torch

from sysdpo.method.objectives import (
    MARGINALS,
    effective_sample_size,
    importance,
    make_link,
    make_objective,
    margins,
    posterior,
    truncated,
)


@pytest.mark.parametrize(
    ("link", "margin", "loss"),
    [
        # beta 0.5 throughout; ln(1 + e^-1) = ln 1.3678794 = 0.3132617, and ln(1 + e) = 1 + 0.3132617.
        ("sigmoid", 2.0, 0.3132617),
        ("sigmoid", 0.0, 0.6931472),
        ("sigmoid", -2.0, 1.3132617),
        # (m − 1/(2·0.5))² = (m − 1)²
        ("ipo", 2.0, 1.0),
        ("ipo", 0.0, 1.0),
        ("ipo", 1.0, 0.0),
        ("ipo", -2.0, 9.0),
        # max(0, 1 − m/2)
        ("hinge", 4.0, 0.0),
        ("hinge", 1.0, 0.5),
        ("hinge", -2.0, 2.0),
        # epsilon 0.1: 0.9 · 0.3132617 + 0.1 · 1.3132617 = 0.2819355 + 0.1313262
        ("conservative", 2.0, 0.4132617),
        # 0.9 · 1.3132617 + 0.1 · 0.3132617 = 1.1819355 + 0.0313262
        ("conservative", -2.0, 1.2132617),
        # (0.2819355 − 0.1313262) / 0.8 = 0.1506093 / 0.8
        ("robust", 2.0, 0.1882617),
        # (1.1819355 − 0.0313262) / 0.8 = 1.1506093 / 0.8
        ("robust", -2.0, 1.4382617),
        ("robust", 0.0, 0.6931472),
    ],
)
def test_link_has_its_hand_worked_value(link: str, margin: float, loss: float) -> None:
    computed = make_link(link, beta=0.5, label_smoothing=0.1)(torch.tensor([margin], dtype=torch.float64))
    assert computed.item() == pytest.approx(loss, abs=1e-6)


@pytest.mark.parametrize(
    ("link", "slope"),
    [
        ("sigmoid", -0.25),  # −β σ(0) = −0.5 · 0.5
        ("ipo", -2.0),  # 2 (0 − 1)
        ("hinge", -0.5),  # −β
        ("conservative", -0.2),  # −0.9 · 0.25 + 0.1 · 0.25
        ("robust", -0.3125),  # robust is steeper: (−0.9 · 0.25 − 0.1 · 0.25) / 0.8
    ],
)
def test_link_has_its_hand_worked_slope_at_zero(link: str, slope: float) -> None:
    margin = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    make_link(link, beta=0.5, label_smoothing=0.1)(margin).sum().backward()
    assert margin.grad.item() == pytest.approx(slope, abs=1e-9)


def test_ipo_moves_its_target_with_beta() -> None:
    # 1/(2 · 0.25) = 2, so (3 − 2)² = 1.
    assert make_link("ipo", beta=0.25)(torch.tensor([3.0])).item() == pytest.approx(1.0)


def test_a_very_wrong_margin_stays_finite() -> None:
    # ℓ(−2000) at beta 0.5 is 1000 + ln(1 + e^−1000) = 1000.
    assert make_link("sigmoid", beta=0.5)(torch.tensor([-2000.0])).item() == pytest.approx(1000.0)


A, B = torch.tensor([1.0, -1.0], dtype=torch.float64), torch.tensor([1.0, 3.0], dtype=torch.float64)


@pytest.mark.parametrize(
    ("objective", "losses"),
    [
        # Both margins sum to 2: ln(1 + e^−2) = ln 1.1353353.
        ("direct", [0.1269280, 0.1269280]),
        # 2 · 0.3132617; ℓ(−1) + ℓ(3) = 1.3132617 + ln 1.0497871 = 1.3132617 + 0.0485874
        ("separate", [0.6265234, 1.3618491]),
        ("likelihood", [0.0, 0.0]),
    ],
)
def test_objective_has_its_hand_worked_values(objective: str, losses: list[float]) -> None:
    computed = make_objective(objective)({"a": A, "b": B}, make_link("sigmoid", beta=1.0))
    assert computed.tolist() == pytest.approx(losses, abs=1e-6)


def test_single_component_objective_is_dpo_on_its_margin() -> None:
    # ℓ(1) = 0.3132617 and ℓ(−1) = 1.3132617
    computed = make_objective("only_a")({"a": A}, make_link("sigmoid", beta=1.0))
    assert computed.tolist() == pytest.approx([0.3132617, 1.3132617], abs=1e-6)


@pytest.mark.parametrize("objective", ["direct", "separate"])
def test_objective_is_twice_or_once_ln_2_where_nothing_was_learnt(objective: str) -> None:
    zero = torch.zeros(3)
    computed = make_objective(objective)({"a": zero, "b": zero}, make_link("sigmoid", beta=0.3))
    share = 2 if objective == "separate" else 1
    assert computed.tolist() == pytest.approx([share * 0.6931472] * 3)


def test_margins_are_chosen_minus_rejected_for_each_component() -> None:
    chosen = {"a": torch.tensor([3.0, 1.0]), "b": torch.tensor([0.0, 2.0])}
    rejected = {"a": torch.tensor([1.0, 4.0]), "b": torch.tensor([5.0, 2.0])}
    computed = margins(chosen, rejected)
    assert {name: margin.tolist() for name, margin in computed.items()} == {"a": [2.0, -3.0], "b": [-5.0, 0.0]}


def test_marginals_by_hand() -> None:
    # Three candidates with p(y|x) p(z|x,y) = 0.1, 0.2 and 0.3, drawn with probabilities 0.5, 0.25 and 0.75.
    joint = torch.tensor([[0.1, 0.2, 0.3]], dtype=torch.float64).log()
    proposal = torch.tensor([[0.5, 0.25, 0.75]], dtype=torch.float64).log()
    assert truncated(joint, proposal).exp().item() == pytest.approx(0.6)
    # (0.1/0.5 + 0.2/0.25 + 0.3/0.75) / 3 = (0.2 + 0.8 + 0.4) / 3
    assert importance(joint, proposal).exp().item() == pytest.approx(1.4 / 3)
    assert posterior(joint).tolist()[0] == pytest.approx([1 / 6, 1 / 3, 1 / 2])
    # 1 / (1/36 + 1/9 + 1/4) = 36/14
    assert effective_sample_size(posterior(joint)).item() == pytest.approx(36 / 14)


def test_a_missing_candidate_adds_nothing_to_the_sum_and_gets_no_gradient() -> None:
    joint = torch.tensor([[-1.0, -2.0, -torch.inf], [-1.0, -torch.inf, -torch.inf]], requires_grad=True)
    marginal = truncated(joint, torch.zeros(2, 3))
    assert marginal.tolist() == pytest.approx([-0.6867383, -1.0])  # ln(e^-1 + e^-2) = -1 + ln(1 + e^-1)
    (gradient,) = torch.autograd.grad(marginal.sum(), joint)
    assert gradient[0].tolist() == pytest.approx([0.7310586, 0.2689414, 0.0])
    assert gradient[1].tolist() == [1.0, 0.0, 0.0]
    assert effective_sample_size(posterior(joint.detach())).tolist() == pytest.approx(
        [1 / (0.7310586**2 + 0.2689414**2), 1]
    )


def test_one_draw_of_the_component_itself_is_the_likelihood_given_it() -> None:
    prior, likelihood = torch.tensor([[0.25]]).log(), torch.tensor([[0.5]]).log()
    assert MARGINALS["single"](prior + likelihood, prior).exp().item() == pytest.approx(0.5)


def test_sampling_is_the_link_on_the_marginal_s_margin() -> None:
    loss = make_objective("sampling")({"marginal": torch.tensor([2.0])}, make_link("sigmoid", beta=0.5))
    assert loss.item() == pytest.approx(0.3132617, abs=1e-6)

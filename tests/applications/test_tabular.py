"""Enumerable systems: exact marginals, the optimum that theory predicts, and the estimators against exact numbers."""

import math
from itertools import product

import pytest
import torch
from torch import Tensor

from sysdpo.applications.tabular import SYSTEMS, Tabular, build
from sysdpo.base.errors import UserError
from sysdpo.method.objectives import effective_sample_size, importance, posterior, truncated
from sysdpo.studies.theory import make_loss

BETA = 0.5
ALL = list(product(SYSTEMS, (False, True)))
REALISABLE = [(name, shared) for name, shared in ALL if name != "entangled"]


def perturb(system: Tabular) -> None:
    """A policy that differs from its reference."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for table in system.tables.values():
            table.logits += torch.randn(table.logits.shape, generator=generator, dtype=torch.float64)


def tilt(system: Tabular) -> float:
    """Sets every factor to its conditional under `p*(s|x) ∝ p_ref(s|x) exp(q/β)`; returns how far the product is off.

    A factor `p*(v|pa)` is read off the joint by summing it over the trajectories that agree on `v` and `pa`, at all
    nodes of the component together.
    """
    reference = system.log_joints().reference
    wanted = (reference + system.rewards[:, None, :] / BETA).flatten(1).log_softmax(-1).view(system.shape)
    with torch.no_grad():
        for name, table in system.tables.items():
            mass = torch.zeros_like(table.logits)
            for node in (node for node in system.system.nodes if node.component == name):
                conditions = list(zip(*(system.trajectories[parent] for parent in node.parents), strict=True))
                indices = table.locate(conditions, system.trajectories[node.name])
                mass.view(-1).index_add_(0, indices, wanted.exp().flatten())
            table.logits.copy_(mass.log())
    return (system.log_joints().policy - wanted).abs().max().item()


def everything(system: Tabular) -> Tensor:
    return torch.ones(system.shape[:2], dtype=torch.bool)


@pytest.mark.parametrize(("name", "shared"), ALL)
def test_the_enumeration_agrees_with_the_system_and_sums_to_one(name: str, shared: bool) -> None:
    system = build(name, shared=shared)
    perturb(system)
    count = len(system.trajectories["x"])
    for component, slow in system.system.log_probs(system.trajectories, draw=[0] * count).items():
        fast = system.log_probs()[component]
        assert torch.equal(fast.policy.flatten(), slow.policy)
        assert torch.equal(fast.reference.flatten(), slow.reference)
    for log_marginals in system.log_marginals():
        assert log_marginals.exp().sum(-1).tolist() == pytest.approx([1, 1], abs=1e-12)
    assert len(set(zip(*system.trajectories.values(), strict=True))) == count == math.prod(system.shape)


def test_a_shared_component_owns_two_nodes() -> None:
    owners = {name: [node.component for node in build(name, shared=True).system.nodes] for name in SYSTEMS}
    assert owners == {
        "chain": ["both", "both"],
        "fan_out": ["source", "branch", "branch"],
        "fan_in": ["branch", "branch", "merge"],
        "diamond": ["source", "branch", "branch", "merge"],
        "entangled": ["branch", "branch", "merge"],
    }
    for name in SYSTEMS:
        nodes = build(name, shared=False).system.nodes
        assert len({node.component for node in nodes}) == len(nodes)


def test_sampled_outputs_have_their_exact_frequencies() -> None:
    system = build("diamond", shared=True)
    perturb(system)
    count = 3000
    drawn = system.system.sample({"x": ["x1"] * count}, seeds=range(count))
    outputs = system.trajectories["z"][: system.shape[2]]
    exact = system.log_marginals().policy[1].exp().tolist()
    for output, probability in zip(outputs, exact, strict=True):
        error = math.sqrt(probability * (1 - probability) / count)
        assert drawn["z"].count(output) / count == pytest.approx(probability, abs=4 * error)


def test_preferences_are_bradley_terry() -> None:
    system = build("fan_out")
    preferred = system.preferences()
    assert preferred.shape == (2, 4, 4)
    assert torch.allclose(preferred + preferred.transpose(1, 2), torch.ones_like(preferred))
    difference = system.rewards[0, 1] - system.rewards[0, 2]
    assert preferred[0, 1, 2].item() == pytest.approx(1 / (1 + math.exp(-difference)))


@pytest.mark.parametrize(("name", "shared"), ALL)
def test_the_gap_of_the_reference_is_the_largest_preference(name: str, shared: bool) -> None:
    system = build(name, shared=shared)
    expected = system.preferences().logit().abs().max().item()
    assert system.alignment_gaps(BETA).max().item() == pytest.approx(expected, abs=1e-9)
    assert expected > 0.5


@pytest.mark.parametrize(("name", "shared"), REALISABLE)
def test_the_tilted_system_is_perfectly_aligned_and_where_direct_comes_to_rest(name: str, shared: bool) -> None:
    system = build(name, shared=shared)
    assert tilt(system) < 1e-9
    assert system.alignment_gaps(BETA).max().item() < 1e-9
    for method in ("direct", "sampling"):
        assert slope(system, method) < 1e-12
    # With one component in all there is nothing to separate.
    assert (slope(system, "separate") > 1e-4) == (len(system.tables) > 1)


def slope(system: Tabular, method: str) -> float:
    """Largest entry of the gradient of the expected loss."""
    weights = [weight for table in system.tables.values() for weight in table.trainable_parameters()]
    loss = make_loss(system, method, everything(system), BETA)()
    return max(gradient.abs().max().item() for gradient in torch.autograd.grad(loss, weights))


@pytest.mark.parametrize("shared", [False, True])
def test_independent_parents_cannot_form_an_entangled_tilt(shared: bool) -> None:
    system = build("entangled", shared=shared)
    assert tilt(system) > 0.01


def test_truncated_is_the_exact_marginal_and_has_its_gradient_where_all_is_enumerated() -> None:
    system = build("fan_in")
    perturb(system)
    weights = [weight for table in system.tables.values() for weight in table.trainable_parameters()]
    joints = system.log_joints().policy.transpose(1, 2)
    sums, exact = truncated(joints, joints), system.log_marginals().policy
    assert torch.allclose(sums, exact, atol=1e-12, rtol=0)
    direction = torch.arange(exact.numel(), dtype=torch.float64).view_as(exact)
    for ours, theirs in zip(
        torch.autograd.grad((sums * direction).sum(), weights),
        torch.autograd.grad((exact.exp().log() * direction).sum(), weights),
        strict=True,
    ):
        assert torch.allclose(ours, theirs, atol=1e-6, rtol=0)
        assert ours.abs().max() > 0.1


def test_the_marginal_s_gradient_is_the_posterior_s_mean_of_the_joint_gradients() -> None:
    # ∇ log Σ_y p(y,z) = Σ_y p(y|x,z) ∇ log p(y,z), against a difference quotient.
    system = build("chain")
    perturb(system)
    table = system.tables["first"]
    joints = system.log_joints().policy
    weights = posterior(joints.detach()[0, :, 2])
    assert 1 < effective_sample_size(weights[None]).item() < len(weights)
    expected = torch.autograd.grad((weights * joints[0, :, 2]).sum(), table.logits)[0][0, 3].item()
    values = []
    for step in (1e-5, -1e-5):
        with torch.no_grad():
            table.logits[0, 3] += step
            values.append(system.log_marginals().policy[0, 2].item())
            table.logits[0, 3] -= step
    assert (values[0] - values[1]) / 2e-5 == pytest.approx(expected, abs=1e-8)


def test_truncated_is_a_lower_bound_that_rises_with_its_candidates() -> None:
    system = build("diamond")
    joints = system.log_joints().policy.detach().transpose(1, 2)
    bounds = torch.stack([truncated(joints[..., :count], joints) for count in range(1, system.shape[1] + 1)])
    assert (bounds.diff(dim=0) > 0).all()
    assert (bounds[:-1] < system.log_marginals().policy).all()
    assert torch.allclose(bounds[-1], system.log_marginals().policy)


def test_importance_is_unbiased_for_the_marginal_and_its_logarithm_too_low_the_less_the_more_draws() -> None:
    system = build("chain")
    perturb(system)
    joint = system.log_joints().policy.detach()[0, :, 1]
    exact = system.log_marginals().policy[0, 1].item()
    proposal = torch.full_like(joint, -math.log(len(joint)))  # uniform: not the policy itself
    repeats, biases = 20_000, []
    for count in (1, 4, 16):
        draws = torch.randint(len(joint), (repeats, count), generator=torch.Generator().manual_seed(count))
        logs = importance(joint[draws], proposal[draws])
        error = logs.exp().std() / math.sqrt(repeats)
        assert abs(logs.exp().mean() - math.exp(exact)) < 3 * error
        biases.append((logs.mean() - exact).item())
        assert biases[-1] < -3 * logs.std().item() / math.sqrt(repeats)
    assert biases[0] < biases[1] < biases[2] < 0


def test_systems_follow_from_their_seed_and_unknown_ones_are_the_user_s_error() -> None:
    assert torch.equal(build("fan_in", seed=3).rewards, build("fan_in", seed=3).rewards)
    assert not torch.equal(build("fan_in", seed=3).rewards, build("fan_in", seed=4).rewards)
    with pytest.raises(UserError, match="'ring'"):
        build("ring")

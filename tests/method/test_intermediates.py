"""Marginals over hidden intermediates, against exact enumeration on systems of tables and on tiny real models."""

from dataclasses import replace
from itertools import product

import pytest
import torch
from coin_system import coins
from tiny_models import completion, perturb, picture
from tiny_system import preference_data

from sysdpo.applications import tabular
from sysdpo.base.errors import UserError
from sysdpo.components.table import Table
from sysdpo.method.candidates import CandidateSettings
from sysdpo.method.fixed import Fixed
from sysdpo.method.function import Function
from sysdpo.method.intermediates import HiddenIntermediates, KnownAndHidden, KnownIntermediates, intermediates_of
from sysdpo.method.settings import MethodSettings
from sysdpo.method.system import Node, System
from sysdpo.method.training import pair_loss

NAMES = ("chain", "fan_out", "fan_in", "diamond", "entangled")


def moved(name: str, *, shared: bool = False) -> tabular.Tabular:
    """A system of tables away from its reference."""
    found = tabular.build(name, shared=shared)
    for component in found.system.components.values():
        perturb(component, size=0.5)
    return found


def outputs_of(found: tabular.Tabular) -> tuple[dict[str, list[str]], list[str]]:
    """Every output of every prompt, hidden variables left out, and the prompts as keys."""
    _, hidden, outputs = found.shape
    rows = [prompt * hidden * outputs + output for prompt, output in product(range(found.shape[0]), range(outputs))]
    names = ("x", *found.system.outputs)
    columns = {name: [found.trajectories[name][row] for row in rows] for name in names}
    return columns, columns["x"]


def log_probs_of(found: tabular.Tabular, settings: CandidateSettings, seed: int = 0):
    columns, keys = outputs_of(found)
    hidden = HiddenIntermediates(found.system, settings)
    hidden.prepare(columns, keys, seeds=[seed] * len(keys))
    names = list(found.system.components)
    return hidden, hidden.log_probs(columns, keys, draw=[0] * len(keys), components=names)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("generator", ["beam", "diverse_beam"])
def test_over_all_candidates_the_marginal_is_exact_and_so_is_its_gradient(
    name: str, shared: bool, generator: str
) -> None:
    found = moved(name, shared=shared)
    count = found.shape[1]
    hidden, batch = log_probs_of(found, CandidateSettings(count=count, generator=generator, diversity=0.3))
    assert all(len(assignments) == count for assignments in hidden.sets.values())
    exact = found.log_marginals()
    for estimate, truth in zip(batch.marginal, exact, strict=True):
        torch.testing.assert_close(estimate, truth.flatten(), rtol=0, atol=1e-6)
    weights = torch.linspace(-1, 1, batch.marginal.policy.numel(), dtype=torch.float64)
    parameters = [weight for part in found.system.components.values() for weight in part.trainable_parameters()]
    ours = torch.autograd.grad((weights * batch.marginal.policy).sum(), parameters)
    theirs = torch.autograd.grad((weights * exact.policy.flatten()).sum(), parameters)
    for estimate, truth in zip(ours, theirs, strict=True):
        torch.testing.assert_close(estimate, truth, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_what_a_function_makes_of_the_outputs_adds_nothing(name: str) -> None:
    found, settings = moved(name), CandidateSettings(count=3, generator="beam")
    plain, shipped = log_probs_of(found, settings)[1], found.system
    vote = Node("vote", "count", shipped.outputs)
    components = dict(shipped.components)
    followed_by = System(
        shipped.inputs,
        [*shipped.nodes, vote, Node("parsed", "count", ("vote",))],
        {**components, "count": Function(lambda *votes: max(set(votes), key=votes.count))},
        outputs=shipped.outputs,
    )
    found = replace(found, system=followed_by)
    columns, keys = outputs_of(found)
    hidden = HiddenIntermediates(found.system, settings)
    hidden.prepare(columns, keys, seeds=[0] * len(keys))
    followed = hidden.log_probs(columns, keys, draw=[0] * len(keys), components=list(components))
    for ours, theirs in zip(followed.marginal, plain.marginal, strict=True):
        assert torch.equal(ours, theirs)
    drawn = found.system.sample({"x": ["x0"]}, seeds=[1])
    assert drawn["vote"] == drawn["parsed"]
    assert "vote" not in hidden.variables(drawn)


def test_outputs_that_cannot_be_summed_up_to_are_refused() -> None:
    found = moved("chain")  # x → y → z
    shipped, settings = found.system, CandidateSettings(count=2)
    early = System(shipped.inputs, shipped.nodes, shipped.components, outputs=("y",))
    with pytest.raises(UserError, match="this system has none; use 'direct'"):
        HiddenIntermediates(early, settings)
    fan = moved("fan_out").system  # one hidden variable, several outputs
    with pytest.raises(UserError, match=f"'{fan.outputs[1]}' is not; make it an output or leave it out"):
        HiddenIntermediates(System(fan.inputs, fan.nodes, fan.components, outputs=fan.outputs[:1]), settings)
    for wrong in ((), ("x",), ("loud",)):
        with pytest.raises(UserError, match="should be some of the generated variables"):
            System(shipped.inputs, shipped.nodes, shipped.components, outputs=wrong)


def test_nothing_hidden_may_be_generated_from_an_output() -> None:
    found = moved("entangled").system
    assert found.ancestors(found.outputs) == {node.name for node in found.nodes} - set(found.outputs)
    nodes = [Node("a", "f", ("x",)), Node("b", "f", ("a",)), Node("c", "f", ("b",))]
    table = found.components[found.nodes[0].component]
    system = System(("x",), nodes, {"f": table}, outputs=("a", "c"))
    with pytest.raises(UserError, match="draws 'b' before any output, but it is generated from the output 'a'"):
        HiddenIntermediates(system, CandidateSettings(count=2))


@pytest.mark.parametrize("name", NAMES)
def test_fewer_candidates_give_a_lower_bound_that_rises_with_them(name: str) -> None:
    found = moved(name)
    exact = found.log_marginals().policy.flatten()
    bounds = [
        log_probs_of(found, CandidateSettings(count=count, generator="beam"))[1].marginal.policy
        for count in range(1, found.shape[1] + 1)
    ]
    for fewer, more in zip(bounds, [*bounds[1:], exact], strict=True):
        assert (fewer <= more + 1e-6).all()
    assert (bounds[0] < exact - 1e-3).all()


def test_beams_are_the_likeliest_assignments_of_several_hidden_nodes() -> None:
    found = moved("chain")
    hidden, _ = log_probs_of(found, CandidateSettings(count=3, generator="beam"))
    for assignments in hidden.sets.values():
        assert [each.log_prob for each in assignments] == sorted((each.log_prob for each in assignments), reverse=True)
    table = found.system.components["first"]
    best = table.log_probs([("x0",)] * 6, [f"y{n}" for n in range(6)], draw=[0] * 6).policy.topk(3)
    assert [each.values["y"] for each in hidden.sets["x0"]] == [f"y{n}" for n in best.indices.tolist()]
    assert [each.log_prob for each in hidden.sets["x0"]] == pytest.approx(best.values.tolist(), abs=1e-5)


def test_importance_is_unbiased_for_the_marginal_and_its_logarithm_below_the_less_so_the_more_draws() -> None:
    found = moved("diamond")
    exact = found.log_marginals().policy.detach().flatten()
    below = {}
    for count in (1, 4, 16):
        settings = CandidateSettings(count=count, generator="ancestral", estimator="importance", temperature=2.0)
        draws = torch.stack([log_probs_of(found, settings, seed)[1].marginal.policy.detach() for seed in range(150)])
        error = draws.exp().std(0) / len(draws) ** 0.5
        assert ((draws.exp().mean(0) - exact.exp()).abs() < 4 * error).all()
        below[count] = (exact - draws.mean(0)).mean().item()
    assert below[1] > below[4] > below[16] > 0


class Oracle(Fixed):
    """A table that can be sampled, and nothing else."""

    is_sample_only = True

    def __init__(self, table: Table):
        super().__init__()
        self.sample = table.sample


def with_oracle(found: tabular.Tabular) -> System:
    """The chain `x → y → z` whose first model nobody can score."""
    oracle = {"first": Oracle(found.system.components["first"])}
    return System(found.system.inputs, found.system.nodes, {**found.system.components, **oracle})


def test_a_hidden_model_that_can_only_be_sampled_is_summed_over_by_its_own_draws() -> None:
    found = moved("chain")
    found.system.components["first"].rebase_reference()  # it is its own reference
    exact = [marginal.detach().flatten() for marginal in found.log_marginals()]
    found = replace(found, system=with_oracle(found))
    settings = CandidateSettings(count=50, generator="ancestral", estimator="importance")
    runs = [log_probs_of(found, settings, seed)[1].marginal for seed in range(100)]
    for estimates, truth in zip(zip(*runs, strict=True), exact, strict=True):
        means = torch.stack([estimate.detach() for estimate in estimates]).exp()
        error = means.std(0) / len(means) ** 0.5
        assert ((means.mean(0) - truth.exp()).abs() < 4 * error).all()


def test_what_can_only_be_sampled_is_refused_where_its_probability_is_needed() -> None:
    system = with_oracle(moved("chain"))
    with pytest.raises(UserError, match="'truncated' needs the probability of 'y', and the component 'first' can only"):
        HiddenIntermediates(system, CandidateSettings(count=4))
    last = System(system.inputs, system.nodes, {**system.components, "second": system.components["first"]})
    with pytest.raises(UserError, match="needs a likelihood of the output 'z', and the component 'second' can only be"):
        HiddenIntermediates(last, CandidateSettings(count=4, generator="ancestral", estimator="importance"))


def test_with_one_draw_the_first_model_gets_no_preference_signal() -> None:
    found = moved("chain")
    settings = CandidateSettings(count=1, generator="ancestral", estimator="single")
    _, batch = log_probs_of(found, settings)
    outputs = found.shape[2]
    chosen, rejected = batch.marginal.policy[:outputs], batch.marginal.policy[:outputs].flip(0)
    (signal,) = torch.autograd.grad(
        (chosen - rejected).square().sum(), found.system.components["first"].trainable_parameters()
    )
    torch.testing.assert_close(signal, torch.zeros_like(signal), rtol=0, atol=1e-12)


def test_the_marginal_splits_into_posterior_means_less_the_posteriors_divergence() -> None:
    """`R(z) = Σ_k E_q[r_k] − KL(q_θ(y|z) ‖ q_ref(y|z))` over the candidates."""
    found = moved("fan_in")
    _, batch = log_probs_of(found, CandidateSettings(count=found.shape[1], generator="beam"))
    policy, reference = found.log_joints()
    log_q, log_q_ref = policy.log_softmax(1), reference.log_softmax(1)
    divergence = (log_q.exp() * (log_q - log_q_ref)).sum(1).flatten()
    means = sum(each.policy - each.reference for each in batch.components.values())
    surplus = batch.marginal.policy - batch.marginal.reference
    torch.testing.assert_close(surplus, means - divergence, rtol=0, atol=1e-6)


def test_draws_repeat_for_importance_and_are_distinct_for_the_sum() -> None:
    found = moved("chain")
    many = {"count": 200, "generator": "ancestral"}
    hidden, batch = log_probs_of(found, CandidateSettings(estimator="importance", **many))
    assert {len(assignments) for assignments in hidden.sets.values()} == {200}
    assert "candidate_mass" not in batch.measures
    hidden, batch = log_probs_of(found, CandidateSettings(**many))
    for assignments in hidden.sets.values():
        values = [each.values["y"] for each in assignments]
        assert len(values) == len(set(values)) <= 6
    exact = found.log_marginals().policy.flatten()
    torch.testing.assert_close(batch.marginal.policy, exact, rtol=0, atol=1e-6)  # 200 draws of 6 find them all
    torch.testing.assert_close(batch.measures["candidate_mass"], torch.ones(8, dtype=torch.float64))


def test_a_prompt_s_candidates_depend_on_its_own_seed_alone() -> None:
    found = moved("diamond")
    settings = CandidateSettings(count=3, generator="ancestral")
    hidden = HiddenIntermediates(found.system, settings)
    alone = hidden.propose({"x": ["x1"]}, seeds=[7])
    beside = hidden.propose({"x": ["x0", "x1"]}, seeds=[3, 7])
    assert alone[0] == beside[1]


def writer_system(make_system) -> System:
    """A tiny writer and a tiny painter, three of whose captions are computed from the answer."""
    parts = make_system().components
    nodes = [
        Node("answer", "writer", ("text",)),
        Node("caption", "parser", ("answer",)),
        Node("image", "painter", ("caption",)),
    ]
    return System(("text",), nodes, {**parts, "parser": Function(lambda answer: str(answer).upper())})


@pytest.mark.parametrize("estimator", ["truncated", "importance", "single"])
def test_real_models_start_at_a_margin_of_zero_and_ln_2(make_system, estimator: str) -> None:
    system = writer_system(make_system)
    count = 1 if estimator == "single" else 3
    generator = "diverse_beam" if estimator == "truncated" else "ancestral"
    candidates = {"estimator": estimator, "count": count, "generator": generator}
    rates = dict.fromkeys(("writer", "painter"), 0.01)
    method = MethodSettings(
        objective="sampling", learning_rate=rates, chosen_weight=dict.fromkeys(rates, 0.0), candidates=candidates
    )
    intermediates = intermediates_of(system, method)
    rows = {"text": ["cat", "dog"] * 2, "image": [picture(row) for row in range(4)]}
    keys = rows["text"]
    intermediates.prepare(rows, keys, seeds=[1, 2, 1, 2])
    loss, record = pair_loss(intermediates.log_probs(rows, keys, draw=[5, 6] * 2, components=list(rates)), method)
    assert record["margin"] == record["margin_writer"] == record["margin_painter"] == 0.0
    assert loss.item() == pytest.approx(0.693147, abs=1e-6)
    loss.backward()
    moves = [float(weight.grad.abs().sum()) for weight in system.components["painter"].trainable_parameters()]
    assert max(moves) > 0


def test_the_sum_over_real_candidates_by_hand(make_system) -> None:
    system = writer_system(make_system)
    for name in ("writer", "painter"):
        perturb(system.components[name], size=0.1)
    hidden = HiddenIntermediates(system, CandidateSettings(count=3, generator="beam"))
    image = picture(0)
    hidden.prepare({"text": ["cat"]}, ["cat"], seeds=[0])
    asked = {"text": ["cat"], "image": [image]}
    batch = hidden.log_probs(asked, ["cat"], draw=[9], components=["writer", "painter"])
    joints = []
    for assignment in hidden.sets["cat"]:
        assert assignment.values["caption"] == str(assignment.values["answer"]).upper()
        alone = {name: [value] for name, value in assignment.values.items()} | asked
        joints.append(sum(part.policy for part in system.log_probs(alone, draw=[9]).values()))
    assert len(joints) == 3
    torch.testing.assert_close(batch.marginal.policy, torch.stack(joints).logsumexp(0), rtol=1e-4, atol=1e-4)


def test_what_is_hidden_stays_hidden(make_system) -> None:
    system = writer_system(make_system)
    columns = ["trajectory_id", "prompt_id", "sample", "text", "answer", "caption", "image"]
    assert HiddenIntermediates(system, CandidateSettings()).variables(columns) == ["text", "image"]
    assert KnownIntermediates(system).variables(columns) == columns


def test_systems_that_cannot_be_summed_over_are_refused(make_system, language) -> None:
    with pytest.raises(UserError, match="'left', which the component 'first' cannot decode"):
        HiddenIntermediates(coins(), CandidateSettings())
    alone = System(("text",), [Node("answer", "writer", ("text",))], {"writer": language})
    with pytest.raises(UserError, match="has none; use 'direct'"):
        HiddenIntermediates(alone, CandidateSettings())
    nodes = [Node("answer", "writer", ("text",)), Node("shown", "parser", ("answer",))]
    computed = System(("text",), nodes, {"writer": language, "parser": Function(str)})
    with pytest.raises(UserError, match="likelihood of the output 'shown'"):
        HiddenIntermediates(computed, CandidateSettings())


def test_equal_factors_are_computed_once(language) -> None:
    system = System(("text",), [Node("answer", "writer", ("text",))], {"writer": language})
    asked: list[int] = []
    inner = language.log_probs
    language.log_probs = lambda conditions, values, *, draw: (
        asked.append(len(values)) or inner(conditions, values, draw=draw)
    )
    rows = {"text": ["cat", "cat", "dog"], "answer": [completion(language, "red")] * 3}
    shared = system.log_probs(rows, draw=[1, 1, 1])["writer"].policy
    assert asked == [2]
    assert shared[0] == shared[1] != shared[2]


@pytest.mark.parametrize("generator", ["diverse_beam", "ancestral"])
def test_no_more_candidates_are_generated_at_once_than_values(make_system, generator: str) -> None:
    system = writer_system(make_system)
    texts = ["cat", "big dog", "red cat", "dog", "small blue dog"]
    settings = CandidateSettings(count=2, generator=generator)
    writer, found, asked = system.components["writer"], [], []
    make_decoder = writer.decoder
    writer.decoder = lambda conditions: asked.append(len(conditions)) or make_decoder(conditions)
    for most in (100, 4):
        writer.batch_size = most
        asked.clear()
        hidden = HiddenIntermediates(system, settings)
        hidden.prepare({"text": texts}, texts, seeds=range(5))
        found.append([[each.values["answer"].tokens for each in hidden.sets[text]] for text in texts])
    assert asked == ([2, 2, 1] if generator == "diverse_beam" else [4, 4, 2])
    assert found[0] == found[1]


def test_known_values_have_their_lengths_in_tokens(make_system) -> None:
    system = make_system()
    frame, _ = preference_data(system)
    columns = {name: frame[name].tolist() for name in frame}
    batch = KnownIntermediates(system).log_probs(
        columns, frame["prompt_id"], draw=range(6), components=["writer", "painter"]
    )
    assert batch.lengths["writer"].tolist() == [2, 3, 4, 2, 3, 2]
    assert batch.lengths["painter"].tolist() == [1] * 6


def likelihood_settings(objective: str, weight: float, **over) -> MethodSettings:
    names = ("first", "second")
    rates, weights = dict.fromkeys(names, 0.01), dict.fromkeys(names, weight)
    return MethodSettings(objective=objective, learning_rate=rates, chosen_weight=weights, **over)


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        (likelihood_settings("direct", 0.0), KnownIntermediates),
        (likelihood_settings("direct", 0.1), KnownIntermediates),
        (
            likelihood_settings("direct", 0.0, chosen_intermediates="hidden"),
            KnownIntermediates,
        ),  # there is nothing to sum over
        (likelihood_settings("direct", 0.1, chosen_intermediates="hidden"), KnownAndHidden),
        (likelihood_settings("sampling", 0.0), HiddenIntermediates),
        (likelihood_settings("sampling", 0.1), HiddenIntermediates),
        (likelihood_settings("likelihood", 0.1), KnownIntermediates),
        (likelihood_settings("likelihood", 0.1, chosen_intermediates="hidden"), HiddenIntermediates),
    ],
)
def test_how_a_method_sees_the_intermediates(settings: MethodSettings, kind: type) -> None:
    assert type(intermediates_of(tabular.build("chain").system, settings)) is kind


def test_margins_from_known_intermediates_beside_a_likelihood_from_hidden_ones() -> None:
    found = moved("chain")
    names = list(found.system.components)
    candidates = CandidateSettings(count=found.shape[1], generator="beam")
    half = len(found.trajectories["x"]) // 2
    rows = {name: values[: 2 * half] for name, values in found.trajectories.items()}
    keys = rows["x"]
    both, known, hidden = (
        KnownAndHidden(found.system, candidates),
        KnownIntermediates(found.system),
        HiddenIntermediates(found.system, candidates),
    )
    batches = {}
    for name, each in {"both": both, "known": known, "hidden": hidden}.items():
        each.prepare(rows, keys, seeds=[0] * len(keys))
        batches[name] = each.log_probs(rows, keys, draw=[0] * len(keys), components=names)
    assert both.variables(rows) == list(rows)
    for name in names:
        for mine, theirs in zip(batches["both"].components[name], batches["known"].components[name], strict=True):
            torch.testing.assert_close(mine, theirs)
        torch.testing.assert_close(batches["both"].chosen[name], batches["hidden"].components[name].policy[:half])
    assert batches["both"].marginal is None
    # The loss is direct's, with the hidden likelihood of the chosen.
    settings = likelihood_settings("direct", 0.5, chosen_intermediates="hidden")
    loss, record = pair_loss(batches["both"], settings)
    plain, _ = pair_loss(batches["known"], likelihood_settings("direct", 0.0))
    anchors = sum(0.5 * -batches["hidden"].components[name].policy[:half].mean() for name in names)
    assert loss.item() == pytest.approx((plain + anchors).item(), rel=1e-6)
    assert record["loss"] == pytest.approx(plain.item(), rel=1e-6)

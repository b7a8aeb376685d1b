"""The loss of a batch of pairs."""

import pytest
import torch
from tiny_models import perturb
from tiny_system import preference_data

from sysdpo.base.errors import UserError
from sysdpo.method.component import LogProbs
from sysdpo.method.intermediates import BatchLogProbs, KnownIntermediates
from sysdpo.method.objectives import OBJECTIVES, Objective
from sysdpo.method.settings import MethodSettings
from sysdpo.method.system import System
from sysdpo.method.training import pair_loss


def settings(objective: str, components: tuple[str, ...] = ("writer", "painter"), **more) -> MethodSettings:
    common = {name: dict.fromkeys(components, 0.01) for name in ("learning_rate", "chosen_weight")}
    return MethodSettings(objective=objective, **(common | more))


def batch_log_probs(system: System, rows: list[int], draws: list[int]) -> dict[str, LogProbs]:
    frame, pairs = preference_data(system)
    chosen = frame.set_index("trajectory_id").loc[[*pairs["chosen_id"].iloc[rows], *pairs["rejected_id"].iloc[rows]]]
    columns = {str(name): chosen[name].tolist() for name in chosen.columns}
    return system.log_probs(columns, draw=draws * 2, components=["writer", "painter"])


@pytest.mark.parametrize("objective", ["direct", "separate"])
def test_the_loss_of_two_pairs_is_the_mean_of_the_two_single_losses(make_system, objective: str) -> None:
    system, method = make_system(), settings(objective, beta=0.7)
    for component in system.components.values():
        perturb(component)
    both, _ = pair_loss(BatchLogProbs(batch_log_probs(system, [0, 1], [101, 102])), method)
    first, _ = pair_loss(BatchLogProbs(batch_log_probs(system, [0], [101])), method)
    second, _ = pair_loss(BatchLogProbs(batch_log_probs(system, [1], [102])), method)
    assert abs((first - second).item()) > 0.05
    assert both.item() == pytest.approx(((first + second) / 2).item(), rel=1e-5)


def test_permuting_a_batch_permutes_the_results_of_its_pairs(make_system) -> None:
    system = make_system()
    for component in system.components.values():
        perturb(component)
    ordered = batch_log_probs(system, [0, 1, 2], [101, 102, 103])
    permuted = batch_log_probs(system, [2, 0, 1], [103, 101, 102])
    for name, (policy, reference) in ordered.items():
        order = [2, 0, 1, 5, 3, 4]
        torch.testing.assert_close(permuted[name].policy, policy[order], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(permuted[name].reference, reference[order], rtol=1e-4, atol=1e-4)


def test_the_loss_and_its_record_by_hand() -> None:
    log_probs = {
        # r(w) = −1 − (−2) = 1 and −3 − (−3) = 0; r(l) = −4 − (−2) = −2 and −1 − (−2) = 1.
        "a": LogProbs(torch.tensor([-1.0, -3.0, -4.0, -1.0]), torch.tensor([-2.0, -3.0, -2.0, -2.0])),
        # r(w) = 1 and −1; r(l) = 0 and 0.
        "b": LogProbs(torch.tensor([1.0, -1.0, 0.0, 0.0]), torch.zeros(4)),
    }
    method = settings("direct", ("a", "b"), beta=1.0, chosen_weight={"a": 0.1, "b": 0.5})
    loss, record = pair_loss(BatchLogProbs(log_probs), method)
    # Margins: a 3 and −1, b 1 and −1; sums 4 and −2. ln(1 + e^−4) = 0.0181499, ln(1 + e^2) = 2.1269280.
    assert record["loss"] == pytest.approx((0.0181499 + 2.1269280) / 2, abs=1e-6)
    # Anchors: 0.1 · 1 − 0.5 · 1 = −0.4 and 0.1 · 3 + 0.5 · 1 = 0.8; their mean is 0.2.
    assert loss.item() == pytest.approx(1.0725390 + 0.2, abs=1e-6)
    assert record["total_loss"] == pytest.approx(loss.item())
    assert record["accuracy"] == 0.5
    assert (record["margin"], record["margin_a"], record["margin_b"]) == (1.0, 1.0, 0.0)
    assert (record["chosen_a"], record["rejected_a"]) == (0.5, -0.5)
    assert (record["chosen_b"], record["rejected_b"]) == (0.0, 0.0)
    assert (record["chosen_log_prob_a"], record["chosen_log_prob_b"]) == (-2.0, 0.0)


def test_log_ratios_may_count_by_the_token() -> None:
    ratios = {"a": torch.tensor([6.0, 2.0]), "b": torch.tensor([0.5, -0.5])}
    log_probs = {name: LogProbs(ratio, torch.zeros(2)) for name, ratio in ratios.items()}
    batch = BatchLogProbs(log_probs, lengths={"a": torch.tensor([3.0, 4.0]), "b": torch.ones(2)})
    common = {"components": ("a", "b"), "beta": 1.0, "link": "ipo", "chosen_weight": {"a": 0.0, "b": 0.0}}
    whole, record = pair_loss(batch, settings("direct", **common))
    # Sums: 6 − 2 + 0.5 + 0.5 = 5, less 1/2, squared. By the token: 6/3 − 2/4 + 1 = 2.5, less 1/2, squared.
    assert (whole.item(), record["margin"]) == (20.25, 5.0)
    by_token, record = pair_loss(batch, settings("direct", length_normalized=True, **common))
    assert by_token.item() == 4.0
    assert (record["margin"], record["margin_a"], record["chosen_a"]) == (5.0, 4.0, 6.0)  # what is logged are sums
    apart, _ = pair_loss(batch, settings("separate", length_normalized=True, **common))
    assert apart.item() == (1.5 - 0.5) ** 2 + (1.0 - 0.5) ** 2
    with pytest.raises(UserError, match="length_normalized: true should be false for the objective 'sampling'"):
        settings("sampling", length_normalized=True, **common)


def test_lengths_are_the_tokens_that_a_component_generated(make_system) -> None:
    system = make_system()
    frame, _ = preference_data(system)
    columns = {str(name): frame[name].tolist() for name in frame}
    names = ["writer", "painter"]
    batch = KnownIntermediates(system).log_probs(
        columns, frame["prompt_id"].tolist(), draw=range(len(frame)), components=names
    )
    assert batch.lengths["writer"].tolist() == [len(caption.tokens) for caption in frame["caption"]]
    assert batch.lengths["painter"].tolist() == [1.0] * len(frame)


def test_with_hidden_intermediates_the_preference_is_of_the_marginal_and_the_anchors_of_posterior_means() -> None:
    means = {"a": LogProbs(torch.tensor([-1.0, -3.0]), torch.tensor([-2.0, -3.0]))}
    marginal = LogProbs(torch.tensor([-1.0, -4.0]), torch.tensor([-2.0, -3.0]))
    method = settings("sampling", ("a",), beta=1.0, chosen_weight={"a": 0.1})
    measures = {"effective_sample_size": torch.tensor([1.0, 2.0])}
    loss, record = pair_loss(BatchLogProbs(means, marginal, measures), method)
    # R(w) = 1 and R(l) = −1: ln(1 + e^−2) = 0.1269280; the anchor is 0.1 · 1.
    assert record["loss"] == pytest.approx(0.1269280, abs=1e-6)
    assert loss.item() == pytest.approx(0.2269280, abs=1e-6)
    assert (record["margin"], record["margin_a"], record["effective_sample_size"]) == (2.0, 1.0, 1.5)


def test_an_objective_that_gives_no_loss_a_pair_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    mean = Objective(lambda margins, link: sum(margins.values()).mean(), "Mean")
    monkeypatch.setitem(OBJECTIVES._entries, "mean", mean)
    log_probs = {"a": LogProbs(torch.zeros(4), torch.zeros(4))}
    with pytest.raises(UserError, match=r"objective: 'mean' should give a loss for each of 2 pairs; it gave the shape"):
        pair_loss(BatchLogProbs(log_probs), settings("mean", ("a",)))

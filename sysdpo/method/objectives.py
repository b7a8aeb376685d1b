"""The objectives: pure functions from margins to losses, to be read beside the papers.

For a chosen trajectory `w` and a rejected one `l`, component `k` has the margin `Δ_k = r_k(w) − r_k(l)`, where `r_k`
is its log-ratio to the reference. A *link* turns a margin into a loss; an *objective* says which margins it is applied
to. All tensors have the shape `[batch]`; no function here averages over the batch.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

Margins = Mapping[str, Tensor]
Marginal = Callable[[Tensor, Tensor], Tensor]
Link = Callable[[Tensor], Tensor]
Objective = Callable[[Margins, Link], Tensor]


def sigmoid(margin: Tensor, *, beta: float) -> Tensor:
    """`−log σ(β m)`: DPO (Rafailov et al., arXiv 2305.18290, equation 7)."""
    return -logsigmoid(beta * margin)


def ipo(margin: Tensor, *, beta: float) -> Tensor:
    """`(m − 1/(2β))²`: IPO (Azar et al., arXiv 2310.12036, equation 17)."""
    return (margin - 1 / (2 * beta)) ** 2


def hinge(margin: Tensor, *, beta: float) -> Tensor:
    """`max(0, 1 − β m)`: SLiC (Zhao et al., arXiv 2305.10425) with the reference-normalised margin."""
    return torch.relu(1 - beta * margin)


def conservative(margin: Tensor, *, beta: float, label_smoothing: float) -> Tensor:
    """`(1−ε) ℓ(m) + ε ℓ(−m)`: conservative DPO, for labels that are wrong with probability ε."""
    flipped = sigmoid(-margin, beta=beta)
    return (1 - label_smoothing) * sigmoid(margin, beta=beta) + label_smoothing * flipped


def robust(margin: Tensor, *, beta: float, label_smoothing: float) -> Tensor:
    """`[(1−ε) ℓ(m) − ε ℓ(−m)] / (1−2ε)`: robust DPO (Chowdhury et al., arXiv 2403.00409, equation 5)."""
    flipped = sigmoid(-margin, beta=beta)
    unscaled = (1 - label_smoothing) * sigmoid(margin, beta=beta) - label_smoothing * flipped
    return unscaled / (1 - 2 * label_smoothing)


LINKS: dict[str, Callable[..., Tensor]] = {
    "sigmoid": sigmoid,
    "ipo": ipo,
    "hinge": hinge,
    "conservative": conservative,
    "robust": robust,
}


def make_link(name: str, *, beta: float, label_smoothing: float = 0.0) -> Link:
    """The link `name` of `LINKS` with its parameters bound."""
    smoothed = {"label_smoothing": label_smoothing} if name in ("conservative", "robust") else {}
    return partial(LINKS[name], beta=beta, **smoothed)


def margins(chosen: Mapping[str, Tensor], rejected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`Δ_k = r_k(w) − r_k(l)` for every component, from the log-ratios of the chosen and the rejected rows."""
    return {name: chosen[name] - rejected[name] for name in chosen}


def direct(margins: Margins, link: Link) -> Tensor:
    """`ℓ(Σ_k Δ_k)`: SysDPO-Direct (Wang et al., arXiv 2502.17721)."""
    return link(_stack(margins).sum(0))


def separate(margins: Margins, link: Link) -> Tensor:
    """`Σ_k ℓ(Δ_k)`: every component explains the preference as if alone (per-component DPO)."""
    return _stack({name: link(margin) for name, margin in margins.items()}).sum(0)


def sampling(margins: Margins, link: Link) -> Tensor:
    """`ℓ(R(w) − R(l))` of the one margin `marginal`, from estimates of `log p(z|x)`: SysDPO-Sampling."""
    return link(margins["marginal"])


def likelihood(margins: Margins, link: Link) -> Tensor:
    """`0`: no preference term, which leaves the likelihood of the chosen alone (a null row, our choice)."""
    return torch.zeros_like(_stack(margins)[0])


def truncated(joint: Tensor, proposal: Tensor) -> Tensor:
    """`log Σ_{y∈Y} p(y|x) p(z|x,y)` over distinct candidates: a lower bound of `log p(z|x)` (SysDPO-Sampling).

    joint: `log p(y|x) p(z|x,y)`, float32 `[batch, K]`, −inf where there are fewer than `K` candidates. `proposal`, of
    the same shape, is not used. Returns `[batch]`.
    """
    return joint.logsumexp(-1)


def importance(joint: Tensor, proposal: Tensor) -> Tensor:
    """`log (1/K) Σ_k p(y_k|x) p(z|x,y_k) / g(y_k|x)` for draws `y_k ~ g`, repeats included (Burda et al., 1509.00519).

    The mean is unbiased for `p(z|x)`; its logarithm, by Jensen's inequality, lies below `log p(z|x)` on average, the
    less so the larger `K`. joint: `[batch, K]`; proposal: `log g(y_k|x)`, `[batch, K]`. Returns `[batch]`.
    """
    return (joint - proposal).logsumexp(-1) - math.log(joint.shape[-1])


MARGINALS: dict[str, Marginal] = {"truncated": truncated, "importance": importance, "single": importance}
"""The estimators of `log p(z|x)`; one ancestral draw, `single`, is importance sampling with `K = 1` and `g = p`."""


def posterior(joint: Tensor) -> Tensor:
    """`p(y|x,z)` over the candidates, `[batch, K]`, from `log p(y|x) p(z|x,y)`."""
    return joint.softmax(-1)


def effective_sample_size(weights: Tensor) -> Tensor:
    """`1 / Σ_k w_k²` of normalised weights `[batch, K]`: 1 where one candidate explains all, `K` where all do alike."""
    return 1 / weights.square().sum(-1)


OBJECTIVES: dict[str, Objective] = {
    "direct": direct,
    "separate": separate,
    "sampling": sampling,
    "likelihood": likelihood,
}


def trained_components(objective: str, components: list[str]) -> list[str]:
    """Which of the system's trainable components an objective trains: `only_<component>` one, the others all."""
    return [objective.removeprefix("only_")] if objective.startswith("only_") else components


def make_objective(name: str) -> Objective:
    """The objective `name`. `only_<component>` is DPO on the one margin it is given, where all objectives agree."""
    return direct if name.startswith("only_") else OBJECTIVES[name]


def _stack(margins: Margins) -> Tensor:
    return torch.stack(list(margins.values()))

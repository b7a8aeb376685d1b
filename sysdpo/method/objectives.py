"""The objectives: pure functions from margins to losses, to be read beside the papers.

For a chosen trajectory `w` and a rejected one `l`, component `k` has the margin `Δ_k = r_k(w) − r_k(l)`, where `r_k`
is its log-ratio to the reference. A *link* turns a margin into a loss; an *objective* says which margins it is applied
to. All tensors have the shape `[batch]`, a value for each pair; no function here averages over the batch.

Each function registers itself under the name that configurations use. Torch is imported where it is needed: checking a
configuration needs the names alone.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from sysdpo.base.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

Margins = Mapping[str, "Tensor"]
Marginal = Callable[["Tensor", "Tensor"], "Tensor"]
Link = Callable[["Tensor"], "Tensor"]

ONLY = "only_"
"""Before a component's name: the objective that trains that component alone."""

LINKS: Registry[Callable[..., Tensor]] = Registry("link")
"""Links by name: functions `(margin, *, beta) -> loss`, both `[batch]`; a link may also take `label_smoothing`."""

MARGINALS: Registry[Marginal] = Registry("estimator of the marginal")
"""Estimators of a marginal by name: functions `(joint, proposal) -> log p(z|x)`, with the shapes of `truncated`."""

OBJECTIVES: Registry[Objective] = Registry("objective")
"""Objectives by name; `objective` registers one."""


@dataclass(frozen=True)
class Objective:
    """How margins become a loss, what a training needs for that, and how the report describes it.

    loss: a function of the margins, `[batch]` each, and a link; it returns a loss for each pair, `[batch]`. The margins
    are those of the trained components by name, or a single one, `marginal`, if intermediates are hidden.
    label: its name for people.
    meaning: what it does, a sentence.
    intermediates: `known`, or `hidden` and summed over.
    has_preference: False for a null row, which learns from the likelihood of the chosen alone.
    role: the default of a method's setting `role`.
    heading: of the report's section on it, if it has one.
    intro: the first paragraph of that section.
    opening: how the section's first result begins.
    """

    loss: Callable[[Margins, Link], Tensor]
    label: str
    meaning: str = ""
    intermediates: Literal["known", "hidden"] = "known"
    has_preference: bool = True
    role: Literal["subject", "rival", "control"] | None = None
    heading: str = ""
    intro: str = ""
    opening: str = ""


def objective(name: str, *, label: str, **more: Any) -> Callable[[Callable[[Margins, Link], Tensor]], Any]:
    """A decorator that registers a loss as an `Objective`.

    name: what a method's setting `objective` says. label: its name for people. more: the other fields of `Objective`.

    Raises `UserError` if another objective has the name.
    """

    def put(loss: Callable[[Margins, Link], Tensor]) -> Callable[[Margins, Link], Tensor]:
        OBJECTIVES.register(name)(Objective(loss, label, **more))
        return loss

    return put


@LINKS.register("sigmoid")
def sigmoid(margin: Tensor, *, beta: float) -> Tensor:
    """`−log σ(β m)`: DPO (Rafailov et al., arXiv 2305.18290, equation 7)."""
    from torch.nn.functional import logsigmoid

    return -logsigmoid(beta * margin)


@LINKS.register("ipo")
def ipo(margin: Tensor, *, beta: float) -> Tensor:
    """`(m − 1/(2β))²`: IPO (Azar et al., arXiv 2310.12036, equation 17)."""
    return (margin - 1 / (2 * beta)) ** 2


@LINKS.register("hinge")
def hinge(margin: Tensor, *, beta: float) -> Tensor:
    """`max(0, 1 − β m)`: SLiC (Zhao et al., arXiv 2305.10425) with the reference-normalised margin."""
    return (1 - beta * margin).relu()


@LINKS.register("conservative")
def conservative(margin: Tensor, *, beta: float, label_smoothing: float) -> Tensor:
    """`(1−ε) ℓ(m) + ε ℓ(−m)`: conservative DPO, for labels that are wrong with probability ε."""
    flipped = sigmoid(-margin, beta=beta)
    return (1 - label_smoothing) * sigmoid(margin, beta=beta) + label_smoothing * flipped


@LINKS.register("robust")
def robust(margin: Tensor, *, beta: float, label_smoothing: float) -> Tensor:
    """`[(1−ε) ℓ(m) − ε ℓ(−m)] / (1−2ε)`: robust DPO (Chowdhury et al., arXiv 2403.00409, equation 5)."""
    flipped = sigmoid(-margin, beta=beta)
    unscaled = (1 - label_smoothing) * sigmoid(margin, beta=beta) - label_smoothing * flipped
    return unscaled / (1 - 2 * label_smoothing)


def make_link(name: str, *, beta: float, label_smoothing: float = 0.0) -> Link:
    """The link of this name as a function of the margin alone, `[batch]` to `[batch]`.

    label_smoothing: passed to the links that take it.

    Raises `KeyError` for an unknown name, which the settings have refused before.
    """
    link = LINKS[name]
    smoothed = {"label_smoothing": label_smoothing} if "label_smoothing" in inspect.signature(link).parameters else {}
    return partial(link, beta=beta, **smoothed)


def margins(chosen: Mapping[str, Tensor], rejected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`Δ_k = r_k(w) − r_k(l)` for every component `k`, from log-ratios of chosen and rejected rows; all `[batch]`."""
    return {name: chosen[name] - rejected[name] for name in chosen}


@objective(
    "direct",
    label="SysDPO-Direct",
    meaning="One loss on the sum of all components' log-ratios.",
    role="subject",
)
def direct(margins: Margins, link: Link) -> Tensor:
    """`ℓ(Σ_k Δ_k)`: SysDPO-Direct (Wang et al., arXiv 2502.17721). Margins and loss are `[batch]`."""
    return link(_stack(margins).sum(0))


@objective(
    "separate",
    label="Separate DPO",
    meaning="DPO on every component, each as if it alone explained the preference.",
    role="rival",
    heading="All at once, or each by itself?",
    intro="Separate DPO trains every model on the same pairs, each as if it alone explained the preference. It is the "
    "baseline that matters most.",
)
def separate(margins: Margins, link: Link) -> Tensor:
    """`Σ_k ℓ(Δ_k)`: DPO (Rafailov et al., arXiv 2305.18290) for each component by itself.

    Each explains the preference as if it were alone. Margins and loss are `[batch]`.
    """
    return _stack({name: link(margin) for name, margin in margins.items()}).sum(0)


@objective(
    "sampling",
    label="SysDPO-Sampling",
    meaning="One loss on the final output: what lies between input and output is hidden, and summed over candidates.",
    intermediates="hidden",
    role="subject",
    heading="When what passes between the models is hidden",
    intro="SysDPO-Sampling knows the input and the final outputs alone, and sums over what may have led from one "
    "to the other.",
    opening="Without seeing anything between input and output, ",
)
def sampling(margins: Margins, link: Link) -> Tensor:
    """`ℓ(R(w) − R(l))`: SysDPO-Sampling (Wang et al., arXiv 2502.17721).

    margins: the single entry `marginal`, `[batch]`, from estimates of `log p(z|x)`.
    """
    return link(margins["marginal"])


@objective(
    "likelihood",
    label="Likelihood alone",
    meaning="Likelihood of the preferred outputs with their own intermediates, and no preference: a null row.",
    has_preference=False,
)
def likelihood(margins: Margins, link: Link) -> Tensor:
    """`0`, `[batch]`: without a preference term only the likelihood of the chosen is left (a null row, our choice)."""
    first = _stack(margins)[0]
    return first.new_zeros(first.shape)


@MARGINALS.register("truncated")
def truncated(joint: Tensor, proposal: Tensor) -> Tensor:
    """`log Σ_{y∈Y} p(y|x) p(z|x,y)` over distinct candidates: a lower bound of `log p(z|x)` (SysDPO-Sampling).

    joint: `log p(y|x) p(z|x,y)`, float32 `[batch, K]`, −inf where there are fewer than `K` candidates.
    proposal: the same shape; not used.

    Returns `[batch]`.
    """
    return joint.logsumexp(-1)


@MARGINALS.register("single")  # of one ancestral draw: `K = 1` and `g = p`
@MARGINALS.register("importance")
def importance(joint: Tensor, proposal: Tensor) -> Tensor:
    """`log (1/K) Σ_k p(y_k|x) p(z|x,y_k) / g(y_k|x)` for draws `y_k ~ g`, repeats included (Burda et al., 1509.00519).

    The mean is unbiased for `p(z|x)`; its logarithm is below `log p(z|x)` on average (Jensen's inequality), by less the
    larger `K` is.

    joint: `log p(y_k|x) p(z|x,y_k)`, `[batch, K]`. proposal: `log g(y_k|x)`, `[batch, K]`.

    Returns `[batch]`.
    """
    return (joint - proposal).logsumexp(-1) - math.log(joint.shape[-1])


def posterior(joint: Tensor) -> Tensor:
    """`p(y|x,z)` over the candidates, `[batch, K]`, from `joint`, `log p(y|x) p(z|x,y)` of the same shape."""
    return joint.softmax(-1)


def effective_sample_size(weights: Tensor) -> Tensor:
    """`1 / Σ_k w_k²` of normalised weights `[batch, K]` (Kong 1992); returns `[batch]`.

    It is 1 where one candidate explains everything, and `K` where all explain the same.
    """
    return 1 / weights.square().sum(-1)


def make_objective(name: str) -> Callable[[Margins, Link], Tensor]:
    """The loss of an objective by name; `only_<component>` is DPO on the one margin that it gets."""
    return direct if name.startswith(ONLY) else OBJECTIVES[name].loss


def _stack(margins: Margins) -> Tensor:
    import torch

    return torch.stack(list(margins.values()))

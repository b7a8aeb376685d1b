"""What the report says and shows of each system, and what methods are called. The only place that knows
names.

A system or method that is not here is shown all the same, under its own name and with the general figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from sysdpo.base.errors import UserError
from sysdpo.report.statistics import METRICS, Metric, describe_metric


@dataclass(frozen=True)
class MethodView:
    """A method's name for people and what it does. `control`: there to be beaten, not to win."""

    label: str
    meaning: str
    trained: bool = True
    control: bool = False

    @property
    def phrase(self) -> str:
        """The name as it stands inside a sentence."""
        if self.label == METHODS["before"].label:
            return "the system before alignment"
        if self.label.startswith("Only "):
            return f"{self.label.removeprefix('Only ')} trained alone"
        return self.label if self.label.startswith("Sys") else self.label[0].lower() + self.label[1:]


METHODS: dict[str, MethodView] = {
    "before": MethodView("Before alignment", "The system as it is; nothing is trained.", trained=False),
    "best_of_n": MethodView(
        "Best of n",
        "Nothing is trained; several outputs are sampled and the scorer keeps the best.",
        trained=False,
    ),
    "shuffled": MethodView("Shuffled labels", "SysDPO-Direct on random labels: the null control.", control=True),
    "likelihood": MethodView(
        "Likelihood alone",
        "Likelihood of the preferred outputs with their own intermediates, and no preference: a null row.",
        control=True,
    ),
    "likelihood_hidden": MethodView(
        "Likelihood alone, hidden",
        "Likelihood of the preferred outputs, intermediates summed over the policy's own candidates, and no "
        "preference: the null row of SysDPO-Sampling.",
        control=True,
    ),
    "only_writer": MethodView("Only the writer", "DPO on the writer; the painter stays as it is."),
    "only_painter": MethodView("Only the painter", "DPO on the painter; the writer stays as it is."),
    "only_first": MethodView("Only the first model", "DPO on the model that drafts; the one that answers stays."),
    "only_second": MethodView("Only the second model", "DPO on the model that answers; the one that drafts stays."),
    "only_drafter": MethodView("Only the drafter", "DPO on the model that drafts; the one that refines stays."),
    "only_refiner": MethodView("Only the refiner", "DPO on the model that refines; the one that drafts stays."),
    "single_sample": MethodView(
        "Single sample",
        "SysDPO-Sampling with one ancestral draw for the sum. Its factor p(y|x) cancels between chosen and rejected, "
        "so no preference reaches the model that drew it.",
    ),
    "separate": MethodView("Separate DPO", "DPO on every component, each as if it alone explained the preference."),
    "separate_longer": MethodView(
        "Separate DPO, longer", "Separate DPO with twice the updates: about the compute that SysDPO-Sampling takes."
    ),
    "direct": MethodView("SysDPO-Direct", "One loss on the sum of all components' log-ratios."),
    "sampling": MethodView(
        "SysDPO-Sampling",
        "One loss on the final output: what lies between input and output is hidden, and summed over candidates.",
    ),
    "sampling_scored": MethodView(
        "SysDPO-Sampling, scored",
        "SysDPO-Sampling on the sampled and scored outputs that the other methods learn from, instead of the "
        "preferences that come with the data.",
    ),
}

SUBJECTS = ("direct", "sampling")
"""The paper's two methods, which every table and figure sets off from the others."""

SINGLE_MODELS = "only_"


ADDED = {
    "likelihood": ("likelihood", "With the likelihood of the chosen added."),
    "likelihood_hidden": ("hidden likelihood", "With the likelihood of the chosen added, summed over own candidates."),
}
"""What a row may add to another, after a plus."""


def method_view(name: str) -> MethodView:
    """The view of a method; `only_<component>`, `<component>_of_<method>`, sums and unknown names get one made from the
    name.
    """
    if name in METHODS:
        return METHODS[name]
    base, plus, added = name.partition("+")
    if plus:
        view, (label, meaning) = method_view(base), ADDED.get(added, (added.replace("_", " "), ""))
        return replace(view, label=f"{view.label} + {label}", meaning=f"{view.meaning} {meaning}")
    if name.startswith(SINGLE_MODELS):
        component = name.removeprefix("only_").replace("_", " ")
        return MethodView(f"Only the {component}", f"DPO on the {component}; the others stay as they are.")
    component, of, trainer = name.partition("_of_")
    if of and trainer in METHODS:
        taken, by = component.replace("_", " ").capitalize(), METHODS[trainer].label
        return MethodView(f"{taken} of {by}", f"{by} trained it; the others stay as they are.", control=True)
    return MethodView(name.replace("_", " "), "")


def order_methods(names: Iterable[str]) -> list[str]:
    """Methods in the order of every table and figure: untrained, controls, single components, joint ones."""
    places = {name: place for place, name in enumerate(METHODS)}
    single = places["only_writer"]

    def place(name: str) -> tuple[int, str]:
        base = name.partition("+")[0]
        return places.get(base, single if base.startswith(SINGLE_MODELS) else len(places)), name

    return sorted(set(names), key=place)


def metric_view(name: str) -> Metric:
    """`describe_metric`, but a metric it does not know is shown under its own name."""
    try:
        return describe_metric(name)
    except UserError:
        return Metric(name.replace("_", " "), True, "", 3)


def order_metrics(names: Iterable[str]) -> list[str]:
    """Metrics in the order of `METRICS`, then the others by name."""
    places = {name: place for place, name in enumerate(METRICS)}
    return sorted(set(names), key=lambda name: (places.get(name, len(places)), name))


@dataclass(frozen=True)
class SystemView:
    """What is particular to one system: its name and story, its headline metrics, the columns of its table, and what
    its components are called, the first to act first.
    """

    title: str
    story: str = ""
    headline: Sequence[str] = ()
    table: Sequence[str] = ()
    components: dict[str, str] = field(default_factory=dict)


SYSTEMS: dict[str, SystemView] = {
    "progressive_images": SystemView(
        title="Progressive images",
        story=(
            "Asked for a cat that gets progressively angrier, a language model (the writer) writes three "
            "captions and a diffusion model (the painter) draws one image for each. Neither is perfect: the "
            "writer often gives its captions in the wrong order or all alike, and the painter misreads some "
            "of the words. Nobody says which of the two is to blame. All they learn from is which of two "
            "finished picture series is the better one."
        ),
        headline=("order_consistency", "order_consistency_greedy", "preference_score"),
        table=(
            *("order_consistency", "order_consistency_greedy", "preference_score", "readout_order_consistency"),
            *("well_formed", "well_formed_greedy", "image_distance", "kl_writer", "kl_painter"),
        ),
        components={"writer": "the writer", "painter": "the painter"},
    ),
    "picture_series": SystemView(
        title="Picture series",
        story=(
            "Asked for a series in which something gets steadily more (a cat angrier, a street more crowded) or less, "
            "a pretrained language model (the writer) writes three captions, and a pretrained diffusion model (the "
            "painter), which sees a caption alone, draws one image for each. Nobody says which of the two is to blame "
            "where a series does not rise: all they learn from is which of two finished series is the better one, by "
            "a frozen model that scores how much of what was asked for an image shows."
        ),
        headline=("order_consistency", "preference_score"),
        table=(
            *("order_consistency", "preference_score", "readout_order_consistency"),
            *("well_formed", "caption_fidelity", "kl_writer", "kl_painter"),
        ),
        components={"writer": "the writer", "painter": "the painter"},
    ),
    "two_stage_qa": SystemView(
        title="Two-stage question answering",
        story=(
            "A first language model drafts an answer to a question; a second one reads question and draft and gives "
            "the final answer. Neither is perfect: a draft may leave out what the answer hangs on, or say it in a way "
            "that the second model misreads. Only final answers are judged, right or wrong, and SysDPO-Sampling does "
            "not even see the drafts that led to them."
        ),
        headline=("accuracy", "accuracy_greedy"),
        table=(
            *("accuracy", "accuracy_greedy", "win_rate_vs_before", "win_rate_vs_separate"),
            *("length", "kl_first", "kl_second"),
        ),
        components={"first": "the first model", "second": "the second model"},
    ),
    "chat_refinement": SystemView(
        title="Chat refinement",
        story=(
            "A pretrained chat model (the drafter) drafts an answer to a question; a second one (the refiner) reads "
            "question and draft and gives the final answer. A reward model judges final answers alone, and nobody says "
            "which of the two models is to blame for a poor one. SysDPO-Sampling learns from answers that the data set "
            "comes with, to which no draft belongs."
        ),
        headline=("reward", "judge_score"),
        table=(
            *("reward", "judge_score", "win_rate_vs_before", "win_rate_vs_separate"),
            *("draft_reward", "length", "draft_length", "kl_drafter", "kl_refiner"),
        ),
        components={"drafter": "the drafter", "refiner": "the refiner"},
    ),
}


def system_view(system: str, metrics: Iterable[str]) -> SystemView:
    """The view of a system, its headline and table metrics limited to those that were measured."""
    there = order_metrics(metrics)
    view = SYSTEMS.get(system, SystemView(title=system.replace("_", " ").capitalize()))
    headline = [name for name in view.headline if name in there]
    headline = headline or [name for name in there if metric_view(name).higher_is_better][:2] or there[:1]
    table = [name for name in view.table if name in there] or [
        *headline,
        *(n for n in there if n not in headline),
    ]
    return SystemView(view.title, view.story, headline, table, view.components)


def order_components(names: Iterable[str], components: dict[str, str]) -> list[str]:
    """Components in the order of a view's `components`, then the others by name."""
    places = {name: place for place, name in enumerate(components)}
    return sorted(set(names), key=lambda name: (places.get(name, len(places)), name))


def component_name(name: str, components: dict[str, str]) -> str:
    """What a component is called within a sentence: its name in `components`, or `the {name}`."""
    return components.get(name, f"the {name.replace('_', ' ')}")


def best_trained(rows: pd.DataFrame, higher_is_better: bool) -> str | None:
    """The trained method, controls aside, with the best mean of `rows`, one a method; None without any."""
    views = rows["method"].map(method_view)
    rows = rows[[view.trained and not view.control for view in views]]
    if rows.empty:
        return None
    best = rows["mean"].argmax() if higher_is_better else rows["mean"].argmin()
    return str(rows["method"].iloc[best])


def show(metric: Metric, value: float, *, signed: bool = False) -> str:
    """A value as a reader sees it, without its unit: `64.2`, `+0.031`, with a true minus sign."""
    number = f"{value * metric.scale:{'+' if signed else ''}.{metric.digits}f}"
    if float(number) == 0:
        number = number.lstrip("+-")
    return number.replace("-", "−")

"""What a benchmark says of itself for people: its name, its metrics, its components, what to show of what it makes.

Nothing else knows these names. No library is imported here: what is shown is made where no model library is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from sysdpo.base.errors import UserError

SCORE = "preference_score"
"""The metric of every benchmark with a score: that score, which preferences are made from."""
ACCURACY = "preference_accuracy"
"""The metric of every benchmark with preferences of its own, on held-out pairs."""
GREEDY, DRIFT, WON = "_greedy", "kl_", "win_rate_vs_"
"""How the metrics of all systems are named: `{metric}_greedy`, `kl_{component}`, `win_rate_vs_{method}`."""
PICKING = "selection"
"""The component that stands for keeping the best of several trajectories, where drift is told by component."""


@dataclass(frozen=True)
class Metric:
    """How a metric is called, shown and judged. Values are stored as fractions; those in `%` are shown times 100.

    meaning: within a sentence, what it measures. is_goal: False where the direction is right but the least is no prize,
        as of a length: a system that says nothing has the least.
    """

    label: str
    higher_is_better: bool
    unit: str = ""
    digits: int = 2
    meaning: str = ""
    is_goal: bool = True

    @property
    def scale(self) -> float:
        """What a stored value is multiplied by when shown."""
        return 100.0 if self.is_proportion else 1.0

    @property
    def is_proportion(self) -> bool:
        """Whether every value lies between 0 and 1, shares that are shown as `%`."""
        return self.unit == "%"

    @property
    def heading(self) -> str:
        """Over a column, on an axis or above a panel: `Accuracy (%)`, or the label alone of what has no unit."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    @property
    def unit_of_difference(self) -> str:
        """A difference of shares is in points."""
        return "points" if self.is_proportion else self.unit

    def show(self, value: float, *, signed: bool = False) -> str:
        """A value as a reader sees it, without its unit: `64.2`, `+0.031`, with a true minus sign."""
        number = f"{value * self.scale:{'+' if signed else ''}.{self.digits}f}"
        if float(number) == 0:
            number = number.lstrip("+-")
        return number.replace("-", "−")

    def say(self, value: float, *, difference: bool = False) -> str:
        """As `show`, with its unit; a difference with its sign."""
        unit = self.unit_of_difference if difference else self.unit
        return self.show(value, signed=difference) + (f" {unit}" if unit else "")


@dataclass(frozen=True)
class Pictures:
    """A trajectory's pictures in their order, each with a caption and a level in [0, 1].

    images, captions, levels: columns of the samples. kind: the prompts' column of whose values one prompt each is
    shown. right: the samples' column that is 1 where the pictures are as asked for; without it, where the level rises
    throughout. direction: the prompts' column, if any, that is below 0 where the level should fall.
    """

    images: tuple[str, ...]
    captions: tuple[str, ...]
    levels: tuple[str, ...]
    kind: str
    direction: str = ""
    right: str = ""


@dataclass(frozen=True)
class Texts:
    """A trajectory's texts.

    parts: columns of the samples, by their headings. expected: the prompts' column with the right answer, where a score
    of 1 is right and 0 is wrong; empty where scores are of any height. metric: the one that such a score is shown as.
    """

    parts: Mapping[str, str]
    expected: str = ""
    metric: str = SCORE


@dataclass(frozen=True)
class SecondJudge:
    """Two metrics that should rank methods alike, and why there are two, as a sentence without its end."""

    metric: str
    judge: str
    reason: str


@dataclass(frozen=True)
class Quality:
    """A table of what `inspect` measures: its title, what its rows are, and for each column a mapping `{row: number}`
    of `quality.json`, whose mean over seeds is shown.
    """

    title: str
    rows: str
    columns: Mapping[str, str]


@dataclass(frozen=True)
class Description:
    """What a benchmark declares as its attribute `description`.

    metrics: all that its `metrics` returns, in the order that they are shown in, and if it likes `SCORE` or `ACCURACY`.
    title, story: a heading, and a paragraph on what the system does and why it is hard.
    components: what its components are called within a sentence, `the writer` say, the first to act first.
    headline: the metrics that figures and sentences are about. table: those of the table's columns. checks: those that
    would give a false success away. All three may name metrics of `all_metrics`.
    """

    metrics: Mapping[str, Metric]
    title: str = ""
    story: str = ""
    components: Mapping[str, str] = field(default_factory=dict)
    headline: tuple[str, ...] = ()
    table: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()
    second_judge: SecondJudge | None = None
    pictures: Pictures | None = None
    texts: Texts | None = None
    quality: Quality | None = None

    def check_measured(self, names: object, where: str) -> None:
        """Raises `UserError` unless these metrics, which the benchmark returns, are those that it declares."""
        measured, declared = set(map(str, names)), set(self.metrics) - {SCORE, ACCURACY}  # type: ignore[call-overload]
        if unknown := sorted(measured - declared):
            raise UserError(
                f"{where}: {unknown} should be declared in the benchmark's description, each with its direction; "
                f"declared are {sorted(declared)}"
            )
        if missing := sorted(declared - measured):
            raise UserError(f"{where}: the benchmark's description declares {missing}, which are not measured")

    def all_metrics(
        self,
        components: Mapping[str, str],
        greedy: tuple[str, ...] = (),
        rivals: tuple[str, ...] = (),
        *,
        scored: bool = True,
        preferences: bool = False,
    ) -> dict[str, Metric]:
        """Every metric of an evaluation in display order: the declared ones, then those that all systems have by name.

        greedy: metrics that are measured under greedy decoding, too. rivals: methods that others' outputs are compared
        with. scored, preferences: whether the benchmark has a score, and preferences of its own. Raises `UserError`
        where `greedy` is no metric.
        """
        known = dict(self.metrics)
        if scored and SCORE not in known:
            known = {SCORE: Metric("Preference score", True, "", 3, "what preferences are made from")} | known
        if preferences and ACCURACY not in known:
            meaning = "share of held-out pairs of which the chosen has become likelier, against the rejected"
            known = {ACCURACY: Metric("Preference accuracy", True, "%", 1, meaning)} | known
        if unknown := sorted(set(greedy) - set(self.metrics)):
            raise UserError(f"evaluation.greedy: {unknown} should be among the system's metrics {sorted(self.metrics)}")
        families = {f"{name}{GREEDY}": _greedy(known[name]) for name in greedy}
        for name in (*components, PICKING):
            meaning = f"drift of the {name} from its reference"
            families[f"{DRIFT}{name}"] = Metric(f"KL, {name}", False, "nats", 2, meaning, is_goal=False)
        for name in rivals:
            meaning = f"share of outputs judged better than those of {name}"
            families[f"{WON}{name}"] = Metric(f"Win rate vs {name}", True, "%", 1, meaning)
        return known | {name: families[name] for name in sorted(families) if name not in known}


def _greedy(metric: Metric) -> Metric:
    label = f"Greedy {metric.label[0].lower()}{metric.label[1:]}"
    return replace(metric, label=label, meaning=f"{metric.meaning}, greedy decoding")

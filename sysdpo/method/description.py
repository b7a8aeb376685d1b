"""How reports name and show a benchmark: its title, metrics, components and samples.

Nothing else knows these names. No library is imported here: reports are made in an environment without model libraries.
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
"""In the place of a component: the drift that comes from keeping the best of several trajectories."""


@dataclass(frozen=True)
class Metric:
    """How a metric is named, shown and judged.

    label: its name. higher_is_better: its direction. unit: `%` for shares, which are stored as fractions and shown
    times 100; any other text, or none. digits: shown after the point. meaning: what it measures, within a sentence.
    is_goal: False if the best value is not worth aiming at, as for a length: a system that says nothing has the least.
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
        """Whether it is a share: every value lies between 0 and 1 and is shown in `%`."""
        return self.unit == "%"

    @property
    def heading(self) -> str:
        """The label for a column or an axis: `Accuracy (%)`, or the label alone if there is no unit."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    @property
    def unit_of_difference(self) -> str:
        """The unit of a difference: points for shares, else the metric's own."""
        return "points" if self.is_proportion else self.unit

    def show(self, value: float, *, signed: bool = False) -> str:
        """A value as text without its unit, `64.2` or `+0.031`, with a typographic minus sign."""
        number = f"{value * self.scale:{'+' if signed else ''}.{self.digits}f}"
        if float(number) == 0:
            number = number.lstrip("+-")
        return number.replace("-", "−")

    def say(self, value: float, *, difference: bool = False) -> str:
        """As `show`, with the unit; a difference also has its sign."""
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

    parts: columns of the samples, by their headings. expected: the column of the prompts with the right answer, if a
    score of 1 is right and 0 is wrong; empty if scores have any other range. metric: the metric that such a score is.
    """

    parts: Mapping[str, str]
    expected: str = ""
    metric: str = SCORE


@dataclass(frozen=True)
class SecondJudge:
    """Two metrics that should rank methods alike.

    metric: the first one. judge: the second one. reason: why there are two, a sentence without its full stop.
    """

    metric: str
    judge: str
    reason: str


@dataclass(frozen=True)
class Quality:
    """A table of what `inspect` measures, as means over seeds.

    title: of the table. rows: what its rows are. columns: for each heading the entry of `quality.json`, a mapping
    `{row: number}`.
    """

    title: str
    rows: str
    columns: Mapping[str, str]


@dataclass(frozen=True)
class Description:
    """The attribute `description` of a benchmark.

    metrics: all that its method `metrics` returns, in the order in which they are shown; `SCORE` and `ACCURACY` may be
    described too.
    title: a heading.
    story: a paragraph on what the system does and why it is hard.
    components: the names of its components within a sentence, `the writer` for example, in the order in which they act.
    headline: the metrics that figures and sentences are about, of `all_metrics`.
    table: the metrics in the table, of `all_metrics`.
    checks: the metrics that would reveal a false success, of `all_metrics`.
    second_judge, pictures, texts, quality: what else the report shows, if anything.
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
        """Raises `UserError` unless the metrics that a benchmark returned are those that it declares.

        names: of the metrics returned. where: what the error begins with.
        """
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
        """Every metric of an evaluation in display order: the declared ones, then those that all systems have.

        components: the names of the models within a sentence. greedy: the metrics that are also measured under greedy
        decoding. rivals: the methods that outputs are compared with. scored: whether the benchmark has a score.
        preferences: whether it has preferences of its own.

        Raises `UserError` if `greedy` names no metric.
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

"""Names and descriptions of methods, derived from the settings of their rows.

A row's own `label`, `meaning` and `role` come first; they change nothing in the training.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sysdpo.method.objectives import OBJECTIVES
from sysdpo.method.settings import ROLES

SUBJECT, RIVAL, CONTROL = ROLES
"""What a row may say that it is: to be set off from all others, the subjects' main baseline, or there to be beaten."""
REFERENCE, UNTRAINED, RANDOM, NULL, SINGLE, OTHER, TAKEN = (
    *("reference", "untrained", "random labels", "no preference", "one component", "other", "taken"),
)
"""The other kinds: the system as it is, more samples of it, what is trained on random labels, or without a preference,
one component trained, anything else trained, and components put together from other trainings."""
GROUPS = ((REFERENCE,), (UNTRAINED,), (RANDOM, CONTROL), (NULL,), (SINGLE,), (RIVAL, SUBJECT, OTHER), (TAKEN,))
"""The order in which kinds are shown."""


@dataclass(frozen=True)
class Method:
    """How reports name and describe a method.

    label, short, phrase: its name, the same shortened, and within a sentence. meaning: what it does. kind: its group.
    component: the one that is trained, if it is only one. remark: why it is shown apart from the others, a sentence.
    heading, intro, opening: as in `Objective`.
    """

    label: str
    meaning: str = ""
    kind: str = OTHER
    phrase: str = ""
    short: str = ""
    component: str = ""
    remark: str = ""
    heading: str = ""
    intro: str = ""
    opening: str = ""

    @property
    def is_candidate(self) -> bool:
        """Whether it competes for the best: it is trained and not a control."""
        return self.kind in (SINGLE, RIVAL, SUBJECT, OTHER)


HIDDEN_LIKELIHOOD = Method(
    "Likelihood alone, hidden",
    "Likelihood of the preferred outputs, intermediates summed over the policy's own candidates, and no preference: "
    "the null row of SysDPO-Sampling.",
    NULL,
)
SINGLE_SAMPLE = Method(
    "Single sample",
    "SysDPO-Sampling with one ancestral draw for the sum. Its factor p(y|x) cancels between chosen and rejected, so no "
    "preference reaches the model that drew it.",
    remark="Single sample puts one ancestral draw for the sum: its factor p(y|x) cancels between chosen and rejected, "
    "and no preference reaches the model that drew it.",
)
BEST_OF = Method(
    "Best of n", "Nothing is trained; several outputs are sampled and the scorer keeps the best.", UNTRAINED
)
BEFORE = Method(
    "Before alignment", "The system as it is; nothing is trained.", REFERENCE, phrase="the system before alignment"
)


def traits(row: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a row, laid over `training`, that its name and its position depend on."""
    named = {name: row.get(name) for name in ("objective", "labels", "chosen_intermediates", *OWN_WORDS)}
    return named | {
        "best_of": row.get("best_of", 1) > 1,
        "take": dict(row.get("take") or {}),
        "components": tuple(row.get("components") or ()),
        "estimator": (row.get("candidates") or {}).get("estimator"),
        "chosen": any((row.get("chosen_weight") or {}).values()),
    }


OWN_WORDS = ("label", "meaning", "role")
"""Settings of a row that are for people alone."""


def name_methods(rows: Mapping[str, Mapping[str, Any]], components: Mapping[str, str]) -> dict[str, Method]:
    """The methods of these rows in display order: by `GROUPS`, then by objective, then in the order of the rows.

    rows: each laid over `training`. components: their names within a sentence.
    """
    facts = {name: traits(row) for name, row in rows.items()}
    families: dict[tuple[Any, ...], int] = {}
    methods: dict[str, Method] = {}
    order: dict[str, tuple[int, int, int]] = {}
    for index, (name, row) in enumerate(facts.items()):
        family = (
            *(row["objective"], row["labels"] == "random", row["estimator"] == "single", row["best_of"]),
            *(["part"] if row["components"] else []),
        )
        is_first = family not in families and "+" not in name
        families.setdefault(family, index)
        method = _named(name, row, facts, components)
        if not is_first and method.kind in (SUBJECT, RIVAL):
            method = replace(method, kind=OTHER, heading="", intro="", opening="")
        if any(method.label == other.label for other in methods.values()):
            method = replace(method, label=f"{method.label} ({_words(name)})")
        methods[name] = _finished(replace(method, kind=row["role"] or method.kind))
        group = next(number for number, kinds in enumerate(GROUPS) if methods[name].kind in kinds)
        order[name] = (group, families[family], index)
    return {name: methods[name] for name in sorted(methods, key=order.__getitem__)}


def _named(name: str, row: Mapping[str, Any], rows: Mapping[str, Any], components: Mapping[str, str]) -> Method:
    """The row's own label, meaning and role where it has them, else those derived from its other settings."""
    own = {key: row[key] for key in ("label", "meaning") if row[key]}
    return replace(_derived(name, row, rows, components), **own)


def _derived(name: str, row: Mapping[str, Any], rows: Mapping[str, Any], components: Mapping[str, str]) -> Method:
    objective, take = str(row["objective"]), row["take"]
    base, plus, added = name.partition("+")
    if plus and base in rows:
        method, hidden = _named(base, rows[base], rows, components), row["chosen_intermediates"] == "hidden"
        label = ("hidden likelihood" if hidden else "likelihood") if row["chosen"] else _words(added)
        more = f" With the likelihood of the chosen added{', summed over own candidates' if hidden else ''}."
        return replace(
            method, label=f"{method.label} + {label}", meaning=method.meaning + (more if row["chosen"] else "")
        )
    if take:
        parts = [
            f"{_words(component)} of {_finished(_named(source, rows[source], rows, components)).label}"
            for component, source in take.items()
        ]
        label = ", ".join(parts)
        trainer = label.partition(" of ")[2] if len(take) == 1 else "Other rows"
        meaning = f"{trainer} trained {'it' if len(take) == 1 else 'them'}; the others stay as they are."
        return Method(label[0].upper() + label[1:], meaning, TAKEN)
    if objective == "none":
        return BEST_OF if row["best_of"] else BEFORE
    if objective.startswith("only_"):
        component = objective.removeprefix("only_")
        said = components.get(component, f"the {_words(component)}")
        others = [words for other, words in components.items() if other != component]
        rest = f"{others[0]} stays as it is" if len(others) == 1 else "the others stay as they are"
        return Method(f"Only {said}", f"DPO on {said}; {rest}.", SINGLE, component=component)
    method = _of_objective(objective)
    if row["components"]:
        said = " and ".join(components.get(part, f"the {_words(part)}") for part in row["components"])
        return Method(f"{method.label}, {said}", f"{method.meaning} Only {said} are trained.", OTHER)
    if row["labels"] == "random":
        return Method("Shuffled labels", f"{method.label} on random labels: the null control.", RANDOM)
    if row["estimator"] == "single":
        return SINGLE_SAMPLE
    return HIDDEN_LIKELIHOOD if method.kind == NULL and row["chosen_intermediates"] == "hidden" else method


def _of_objective(name: str) -> Method:
    """The description that an objective was registered with."""
    if name not in OBJECTIVES:
        return Method(_words(name).capitalize())
    found = OBJECTIVES[name]
    kind = found.role or (OTHER if found.has_preference else NULL)
    words = {"heading": found.heading, "intro": found.intro, "opening": found.opening}
    return Method(found.label, found.meaning, kind, **words)


def _finished(method: Method) -> Method:
    """The method with its short name and its name within a sentence filled in."""
    short = method.label.removeprefix("SysDPO-").removesuffix(" DPO")
    return replace(method, short=short, phrase=method.phrase or _phrase(method))


def _phrase(method: Method) -> str:
    first = method.label.partition(" ")[0]
    if method.kind == SINGLE and first == "Only":
        return f"{method.label.removeprefix('Only ')} trained alone"
    # What has capitals inside, an acronym or a name, keeps its first one.
    return method.label[0].lower() + method.label[1:] if first[1:] == first[1:].lower() else method.label


def _words(name: str) -> str:
    return name.replace("_", " ")

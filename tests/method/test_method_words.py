"""What rows are called follows from the rows, unless they say otherwise."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from sysdpo.method.config import method_rows, method_settings
from sysdpo.method.method_words import CONTROL, OTHER, RIVAL, SUBJECT, Method, name_methods
from sysdpo.run.fingerprint import method_checksum

REPOSITORY = Path(__file__).parents[2]
CONFIG = yaml.safe_load((REPOSITORY / "config.yaml").read_text())
COMPONENTS = {"scout": "the scout", "driver": "the driver", "cook": "the cook"}


def named(**rows: dict) -> dict[str, Method]:
    return name_methods(rows, COMPONENTS)


def test_untrained_rows_come_first_then_controls_then_components_then_the_others_beside_their_kin() -> None:
    rows = method_rows(CONFIG, "two_stage_qa")
    shown = name_methods({name: row for name, row in rows.items() if "-" not in name}, {"first": "A", "second": "B"})
    assert list(shown) == [
        *("before", "best_of_n", "shuffled", "likelihood", "likelihood_hidden"),
        *("only_first", "only_first+likelihood", "only_second", "only_second+likelihood"),
        *("single_sample", "separate", "separate+likelihood", "separate_longer"),
        *("direct", "direct+likelihood", "direct+likelihood_hidden", "sampling", "sampling+likelihood"),
        *("first_of_direct", "first_of_sampling", "second_of_direct", "second_of_sampling"),
    ]


def test_one_component_is_named_with_what_the_others_do() -> None:
    shown = named(only_cook={"objective": "only_cook"})["only_cook"]
    assert (shown.label, shown.phrase, shown.component) == ("Only the cook", "the cook trained alone", "cook")
    assert shown.meaning == "DPO on the cook; the others stay as they are."


def test_some_of_the_components_are_named() -> None:
    shown = named(a={"objective": "direct"}, b={"objective": "direct", "components": ["cook", "scout"]})
    assert (shown["b"].label, shown["b"].kind) == ("SysDPO-Direct, the cook and the scout", OTHER)
    assert shown["b"].meaning.endswith(" Only the cook and the scout are trained.")
    # Wherever it stands, a row of some of the components takes nothing from the one that trains them all.
    shown = named(b={"objective": "direct", "components": ["cook", "scout"]}, a={"objective": "direct"})
    assert (shown["a"].label, shown["a"].kind, shown["b"].kind) == ("SysDPO-Direct", SUBJECT, OTHER)


def test_a_row_may_have_words_and_a_role_of_its_own_which_others_inherit() -> None:
    own = {"objective": "direct", "label": "GRPO for all", "meaning": "All learn.", "role": "control"}
    shown = named(a=own, b={"objective": "none", "take": {"cook": "a"}}, **{"a+x": {"objective": "direct"}})
    assert (shown["a"].label, shown["a"].phrase, shown["a"].meaning, shown["a"].kind) == (
        *("GRPO for all", "GRPO for all", "All learn.", CONTROL),
    )
    assert not shown["a"].is_candidate
    assert shown["a+x"].label == "GRPO for all + x"
    assert (shown["b"].label, shown["b"].meaning) == (
        *("Cook of GRPO for all", "GRPO for all trained it; the others stay as they are."),
    )


def test_the_first_of_an_objective_is_set_off_and_no_two_are_called_alike() -> None:
    shown = named(one={"objective": "direct"}, two={"objective": "direct"}, three={"objective": "separate"})
    assert [(name, each.label, each.kind) for name, each in shown.items()] == [
        ("one", "SysDPO-Direct", SUBJECT),
        ("two", "SysDPO-Direct (two)", OTHER),
        ("three", "Separate DPO", RIVAL),
    ]
    assert shown["one"].short == "Direct"


def test_an_objective_that_has_no_words_is_called_by_its_name() -> None:
    assert named(mine={"objective": "rank_all"})["mine"].label == "Rank all"


@pytest.mark.parametrize("words", [{"label": "Ours"}, {"meaning": "It learns."}, {"role": "control"}])
def test_words_leave_a_training_what_it_was(words: dict[str, str]) -> None:
    rows = CONFIG["systems"]["two_stage_qa"]["methods"]
    plain = method_settings(CONFIG, "two_stage_qa", "direct")
    changed = {**CONFIG["systems"]["two_stage_qa"], "methods": rows | {"direct": rows["direct"] | words}}
    given = method_settings(
        {**CONFIG, "systems": {"two_stage_qa": changed}, "experiments": {}}, "two_stage_qa", "direct"
    )
    assert method_checksum(given) == method_checksum(plain)


def test_what_is_shown_is_drawn_without_torch() -> None:
    absent = ["torch", "transformers", "diffusers", "peft", "accelerate"]
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({absent}))\n"
        "from sysdpo.report.figure import FIGURES, load_figure\n"
        "from sysdpo.report.study import STUDIES\n"
        "import sysdpo.report.page\n"
        "assert len(FIGURES) > 5 and len(STUDIES) > 2\n"
        "load_figure('sysdpo.applications.images.figures:words', 'figures')\n"
        "load_figure('sysdpo.applications.images.gallery:gallery', 'figures')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

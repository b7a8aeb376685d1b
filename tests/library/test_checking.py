"""`sysdpo check`: each kind of mistake is one sentence that names the node, the component or the function."""

from pathlib import Path

import pandas as pd
import pytest
import tiny_models
import torch

from sysdpo.components.language import LanguageModel
from sysdpo.components.table import Table
from sysdpo.library.checking import check_system, context_notes
from sysdpo.library.drawing import draw
from sysdpo.method.component import LogProbs
from sysdpo.method.system import Node, System
from sysdpo.method.values import Completion
from sysdpo.run.cli import main
from sysdpo.run.steps.starting import starter


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What `sysdpo new mine` writes."""
    monkeypatch.chdir(tmp_path)
    for path, text in starter("mine", Path()).items():
        path.write_text(text)
    return tmp_path


@pytest.fixture
def check(folder: Path, capsys: pytest.CaptureFixture):
    """A function that checks the system with some of its text replaced; returns what is wrong with it."""

    def checked(*replaced: tuple[str, str], words: tuple[str, ...] = ("mine.py",)) -> list[str]:
        for old, new in replaced:
            file = next(path for path in (Path("mine.py"), Path("mine.yaml")) if old in path.read_text())
            file.write_text(file.read_text().replace(old, new))
        code = main(["check", *words])
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        lines = printed.err.splitlines()
        assert code == (2 if lines else 0)
        assert all(line.startswith("sysdpo check: ") for line in lines)
        return [line.removeprefix("sysdpo check: ") for line in lines] or printed.out.splitlines()

    return checked


def test_a_system_that_is_well_is_drawn_and_summed_up(check) -> None:
    drawn = [
        "question          input",
        "└▶ note           function retrieve",
        "   ├▶ fact        trainable Table (16 weights)",
        "   └──┴▶ answer   trainable Table (64 weights), output",
        "",
        "All is well: 20 prompts, 3 nodes sampled on 3 of them, gradients reach 'fact' and 'answer', scores from 0 to "
        "1.",
    ]
    assert check() == drawn
    assert check(words=("--config", "mine.yaml", "--system", "mine")) == drawn


RETRIEVE, SCORE = "    return max(NOTES", "    return float("

MISTAKES = {
    "a node that raises": (
        (RETRIEVE, f"    raise LookupError('no index')\n{RETRIEVE}"),
        "node 'note', function retrieve: it raised LookupError (no index), in line 34 of mine.py",
    ),
    "a node without a value": (
        (RETRIEVE, f"    return None\n{RETRIEVE}"),
        "node 'note': it should have a value for each of 6 rows; got None",
    ),
    "a node whose model cannot read its parents": (
        (RETRIEVE, f"    return 'other'\n{RETRIEVE}"),
        "node 'fact': condition: ('Note: other How long does it take?',) should be one of the table's",
    ),
    "a score that is no number": (
        (SCORE, f"    return float('nan')\n{SCORE}"),
        "score: the function of 'score' gave nan, which should be a finite number",
    ),
    "a score that raises": (
        (SCORE, f"    return [][0]\n{SCORE}"),
        "score: it raised IndexError (list index out of range), in line",
    ),
    "a score that asks for what is not there": (
        ("def score(answer: str", "def score(reply: str"),
        "score: the function of 'score' asks for ['reply'], which should be among",
    ),
    "a parent that is not there": (
        ('["note", "fact"]', '["note", "fcat"]'),
        "system: node 'answer': its template 'Note: {note} A colleague says: {fact}. How long does",
    ),
    "a template that names no parent": (
        ("template=READ", 'template="{nte}"'),
        "system: node 'fact': its template '{nte}' should have each of ['note'] by name",
    ),
    "a file that cannot be imported": (
        ("import itertools\n", "import nothing_there\n"),
        "'mine.py': it raised ModuleNotFoundError (No module named 'nothing_there'), in line 6 of mine.py",
    ),
    "a file that is no Python": (("NOTES = (", "NOTES = (("), "'mine.py': it raised SyntaxError"),
    "a system alone, and nothing to sample it on": (("benchmark = ", "b = "), "--preferences should be given"),
    "prompts without an input": (
        ("json.loads(line)", '{"split": "train"}'),
        "prompts: it raised KeyError ('question')",
    ),
    "prompts that are all for training": (
        ("json.loads(line)", 'json.loads(line) | {"split": "train"}'),
        "prompts: some should be of the split 'test'; there are ['train']",
    ),
    "nothing to train": (
        ("    return System(", "    reader = answerer = lambda *read: FACTS[0]\n    return System("),
        "system: none of its components ['note', 'fact'] can be trained; give one an adapter",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence(check, mistake: str) -> None:
    replaced, said = MISTAKES[mistake]
    found = check(replaced)
    assert [line[: len(said)] for line in found] == [said]


def test_equal_scores_are_pointed_out(check) -> None:
    assert "Note: all 6 scores are 1; nothing can be learnt from ties." in check((SCORE, f"    return 1.0\n{SCORE}"))


def test_independent_mistakes_are_a_sentence_each(check) -> None:
    rates = ("learning_rate: {fact: 0.3, answer: 0.3}", "learning_rate: {fact: 0.3}")
    found = check(rates, (SCORE, f"    return [][0]\n{SCORE}"), words=("--config", "mine.yaml"))
    methods = [f"methods.{name}: learning_rate: ['fact'] should name" for name in ("separate", "direct", "sampling")]
    assert [line[: len(said)] for line, said in zip(found, [*methods, "score: it raised"], strict=True)] == [
        *methods,
        "score: it raised",
    ]


def test_preferences_take_the_place_of_a_score(check) -> None:
    rows = [{"question": f"refund {number}", "chosen": "five days", "rejected": "two days"} for number in range(10)]
    made = f"\npreferring = sysdpo.Benchmark(make, preferences={rows!r})\n"
    said = check(("benchmark = ", f"{made}benchmark = "), words=("mine.py:preferring",))
    assert said[-1].startswith("All is well: 10 prompts, 7 pairs for training, 3 nodes sampled on 3 of them")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "FILE, or --config with a configuration, should be given, and not both"),
        (("mine.py", "--config", "mine.yaml"), "FILE, or --config with a configuration, should be given, and not both"),
        (
            ("mine.py:nothing",),
            "'mine.py' should have a benchmark or a system, named as 'mine.py:name'; there is 'noth",
        ),
        (("mine.py:NOTES",), "'mine.py:NOTES' should be a benchmark, a system, or a function that makes one; it is ("),
        (("mine.py:words",), "'mine.py:words': it raised TypeError (words() missing 1 required positional argument"),
        (("absent.py",), "'absent.py': it raised ImportError (there is no file 'absent.py')"),
        (("--config", "mine.yaml", "--system", "other"), "system: 'other' should be one of ['mine']"),
        (("--config", "absent.yaml"), "config: 'absent.yaml' should be a YAML file"),
    ],
)
def test_what_cannot_be_found_is_one_sentence(check, words: tuple[str, ...], said: str) -> None:
    assert [line[: len(said)] for line in check(words=words)] == [said]


def test_graphs_of_several_inputs_and_branches_are_drawn() -> None:
    nodes = [Node("a", str, ["x"]), Node("b", str, ["x", "y"]), Node("c", str, ["a"]), Node("d", str, ["y", "c"])]
    lines = draw(System(["x", "y"], nodes)).splitlines()
    assert [line.split("  function")[0].split("  input")[0].rstrip() for line in lines] == [
        "x",
        "│  y",
        "├──│▶ a",
        "└──┼──│▶ b",
        "   │  └───▶ c",
        "   └────────┴▶ d",
    ]


LORA = tiny_models.LANGUAGE_LORA


def language_system(folder: Path, *, template: str | None = "{question} {draft}", **settings) -> System:
    """Two language models; the second one reads what the first has written."""
    first, second = (
        LanguageModel.from_pretrained(folder, lora=LORA, **({"max_new_tokens": 6} | more)) for more in ({}, settings)
    )
    return System(
        ["question"],
        [Node("draft", first, ["question"]), Node("answer", second, ["question", "draft"], template=template)],
    )


ROWS = pd.DataFrame({"question": ["red cat", "blue dog", "big red dog runs", "small cat"]})


def test_language_models_are_well(language_folder: Path) -> None:
    found = check_system(lambda: language_system(language_folder), ROWS)
    assert (found.problems, found.notes) == ([], [])
    assert found.seen[-1] == "gradients reach 'draft' and 'answer'"


def test_a_template_too_long_for_the_context_is_named(language_folder: Path) -> None:
    long = "red cat " * 50 + "{question} {draft}"
    found = check_system(lambda: language_system(language_folder, template=long), ROWS)
    (said,) = found.problems
    assert said.startswith("node 'answer': max_new_tokens: 6 should leave room for the prompt; a prompt of 1")
    assert "are more than the 96 that the model" in said


def test_a_prompt_that_may_become_too_long_is_pointed_out(language_folder: Path) -> None:
    made = language_system(language_folder, max_new_tokens=6)
    drawn = made.sample({"question": ["red cat"]}, seeds=[0])
    drawn["draft"] = [Completion("red", made.components["draft"].value_of("red").tokens)]
    node = Node("answer", "answer", ["question", "draft"], template="red " * 83 + "{question} {draft}")
    (said,) = context_notes(node, made, drawn)
    assert said.startswith("node 'answer': with texts as long as max_new_tokens allows, its prompt may have")


def test_a_model_that_reads_one_parent_of_two_is_named(language_folder: Path) -> None:
    found = check_system(lambda: language_system(language_folder, template=None), ROWS)
    assert found.problems == [
        "node 'answer': its model reads '{0}' and nothing of 'draft'; give the node a template with {question} and "
        "{draft}"
    ]


class Detached(Table):
    """A table whose likelihood is cut off from its weights."""

    def log_probs(self, conditions, values, *, draw):
        return LogProbs(*(part.detach() for part in super().log_probs(conditions, values, draw=draw)))


class BothTrained(Table):
    """A table that takes its policy for its reference, too."""

    def log_probs(self, conditions, values, *, draw):
        policy = super().log_probs(conditions, values, draw=draw).policy
        return LogProbs(policy, policy)


class NotANumber(Table):
    def log_probs(self, conditions, values, *, draw):
        policy, reference = super().log_probs(conditions, values, draw=draw)
        return LogProbs(policy * float("nan"), reference)


class Misshapen(Table):
    def log_probs(self, conditions, values, *, draw):
        return LogProbs(*(part[:, None] for part in super().log_probs(conditions, values, draw=draw)))


class Forgetful(Table):
    def load(self, folder):
        self.logits.data.zero_()


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Detached, "component 'second': the loss gives it no gradient; its log_probs should be computed from its"),
        (BothTrained, "component 'second': its reference should be constant; it is computed from what is trained"),
        (NotANumber, "component 'second': the policy's log-probabilities of 6 of 6 values are not finite"),
        (Misshapen, "component 'second': its log-probabilities should have the shape ("),
        (Forgetful, "component 'second': its load should give back the weights that its save has written"),
    ],
)
def test_a_component_that_would_not_learn_is_named(kind: type[Table], said: str) -> None:
    words = ["red", "blue", "green"]
    logits = torch.arange(9.0).reshape(3, 3)
    nodes = [
        Node("first", Table([(word,) for word in words], words, torch.zeros(3, 3)), ["word"]),
        Node("second", kind([(word,) for word in words], words, logits), ["first"]),
    ]
    found = check_system(lambda: System(["word"], nodes), pd.DataFrame({"word": words}))
    assert [line[: len(said)] for line in found.problems] == [said]


def test_a_component_that_always_says_the_same_is_named() -> None:
    only = Table([("a",)], ["x", "y"], torch.tensor([[100.0, 0.0]]))
    system = System(["word"], [Node("name", only, ["word"])])
    found = check_system(lambda: system, pd.DataFrame({"word": ["a"]}))
    assert found.problems == [
        "component 'name': it made the same value of the same inputs each time, and a preference between equal values "
        "teaches nothing; raise its temperature, or give it inputs that differ"
    ]

"""What a file of one's own registers can be named in a configuration, and nothing else need know of it."""

import copy
import json
from pathlib import Path

import pytest
from coin_system import CONFIG
from steps import Steps

from sysdpo.base.errors import UserError
from sysdpo.method.candidates import GENERATORS
from sysdpo.method.config import check, load_config
from sysdpo.method.objectives import LINKS, MARGINALS, OBJECTIVES

OWN = '''
"""An objective that listens to the more doubtful of two models, a loss, an estimator and a generator."""

from sysdpo.method.candidates import GENERATORS, Generator, draw
from sysdpo.method.objectives import LINKS, MARGINALS, objective


@objective("most_doubtful", label="Most doubtful", meaning="The loss of the smallest margin alone.")
def most_doubtful(margins, link):
    import torch

    return link(torch.stack(list(margins.values())).min(0).values)


@LINKS.register("exponential")
def exponential(margin, *, beta):
    return (-beta * margin).exp()


@MARGINALS.register("best")
def best(joint, proposal):
    return joint.max(-1).values


GENERATORS.register("own_draws")(Generator(draw, draws=True))
'''


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    path = tmp_path / "elsewhere" / "my_objectives.py"
    path.parent.mkdir()
    path.write_text(OWN)
    return path


def test_an_objective_and_a_loss_of_ones_own_train_a_system(tmp_path: Path, plugin: Path) -> None:
    described = copy.deepcopy(CONFIG)
    described["plugins"] = [str(plugin)]
    described["systems"]["coins"]["methods"]["mine"] = {"objective": "most_doubtful", "link": "exponential"}
    steps = Steps(tmp_path, described)
    steps.prepare()
    assert steps("train", method="mine") == 0
    log = [json.loads(line) for line in (steps.run / "mine/training/training.jsonl").read_text().splitlines()]
    assert log[0]["loss"] == pytest.approx(1.0)  # exp(0), before the first update
    assert log[-1]["loss"] < log[0]["loss"]
    found = load_config(steps.config)
    check(found)
    assert {"most_doubtful"} <= set(OBJECTIVES)
    assert "exponential" in LINKS
    described["systems"]["coins"]["methods"]["mine"] = {
        "objective": "sampling",
        "candidates": {"generator": "own_draws"},
    }
    check(described)
    described["systems"]["coins"]["methods"]["mine"]["candidates"]["generator"] = "own_drwas"
    with pytest.raises(
        UserError, match=r"methods.mine.candidates.generator: 'own_drwas' should be one of .*'own_draws'"
    ):
        check(described)
    assert "best" in MARGINALS
    assert GENERATORS["own_draws"].draws


@pytest.mark.parametrize(
    ("plugins", "said"),
    [
        (["nowhere.py"], r"plugins: 'nowhere.py' cannot be imported \(there is no file 'nowhere.py'\)"),
        (["no_such_module"], r"plugins: there is no module 'no_such_module'"),
        (["a b"], r"plugins.0: 'a b' should be a module, as package.module"),
    ],
)
def test_plugins_that_are_none_are_refused(plugins: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        check(CONFIG | {"plugins": plugins})


def test_a_plugin_whose_library_is_not_here_is_left_to_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "needs_more.py"
    path.write_text("import a_library_that_is_not_installed\n")
    check(CONFIG | {"plugins": [str(path)]})

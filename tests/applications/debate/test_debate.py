"""The debate: its language by enumeration, what the debaters are taught, who is right, and training with a vote."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from sysdpo import align
from sysdpo.applications.debate import language
from sysdpo.applications.debate.debate import SIDES, DebateBenchmark
from sysdpo.applications.debate.debaters import taught, taught_reading
from sysdpo.applications.debate.language import NO_VERDICT, Case, cases, opening, questions, reply, tells_sign, vote
from sysdpo.applications.debate.settings import Debate, DebaterSettings
from sysdpo.base.errors import UserError
from sysdpo.library.preferences import Preferences
from sysdpo.method.evaluation import sample_trajectories, score_trajectories
from sysdpo.method.preferences import as_frame, make_pairs

SHIPPED = yaml.safe_load(Path("workflow/scales/debate.yaml").read_text())["systems"]["debate"]


def settings(**over) -> Debate:
    return Debate(**SHIPPED | over)


def test_every_reading_of_every_case_stays_in_the_numbers() -> None:
    found = cases()
    assert len(found) == len(set(found)) == 1320
    for case in found:
        for first in (abs(case.first), -abs(case.first)):
            totals = [case.start + first, *(case.start + first + sign * abs(case.second) for sign in (1, -1))]
            assert all(0 <= total <= language.LARGEST for total in totals)


def test_the_two_halves_tell_a_case_and_neither_tells_it_alone() -> None:
    told = questions([Case(7, 2, -3)])
    assert len(told) == 4 * 4 * 4 * 4
    assert (told[0].left, told[0].right) == ("ann has 7 pears , finds 2", "ann then loses 3")
    for half in (lambda case: (case.start, case.first), lambda case: case.second):
        results: dict[object, set[int]] = {}
        for case in cases():
            results.setdefault(half(case), set()).add(case.result)
        assert min(map(len, results.values())) > 1


@pytest.mark.parametrize(
    ("side", "tells", "said", "replies"),
    [
        ("left", True, "7 up 2", {1: "9 , 12", -1: "9 , 6"}),
        ("left", False, "7 by 2", {1: "9 , 12", -1: "9 , 6"}),
        ("right", True, "down 3", {1: "9 , 6", -1: "5 , 2"}),
        ("right", False, "by 3", {1: "9 , 6", -1: "5 , 2"}),
    ],
)
def test_openings_and_replies_by_hand(side: str, tells: bool, said: str, replies: dict[int, str]) -> None:
    case = Case(7, 2, -3)
    assert opening(case, side, tells=tells) == said
    assert tells_sign(said) is tells
    assert {sign: reply(case, side, sign) for sign in (1, -1)} == replies


def test_the_debate_that_the_page_prints_is_one_of_right_readings() -> None:
    (shown,) = re.findall(r"^    left_1 .*\n(?:    .*\n)+", Path("docs/debate.md").read_text(), re.MULTILINE)
    said = dict(re.findall(r"(left_\d|right_\d|verdict) +(\S+(?: \S+)*)", shown))
    case = Case(7, 2, -3)
    expected = {f"{side}_1": opening(case, side, tells=True) for side in SIDES}
    expected |= {
        f"{side}_{number}": reply(case, side, sign) for side, sign in (("left", -1), ("right", 1)) for number in (2, 3)
    }
    assert said == expected | {"verdict": vote(expected["left_3"], expected["right_3"])}
    assert said["verdict"] == str(case.result)


def test_a_verdict_needs_both() -> None:
    assert vote("9 , 6", "5 , 6") == "6"
    assert vote("9 , 12", "9 , 6") == NO_VERDICT
    assert vote("", "") == ""  # which is no right answer


def test_what_debaters_are_taught_has_the_shares_that_their_settings_say() -> None:
    rng, made = np.random.default_rng(0), DebaterSettings(tells=0.3, misread=0.7, trust=0.5)
    question = questions([Case(7, 2, -3)])[0]
    told = [taught(question, "left", made, rng) for _ in range(4000)]
    openings = Counter(completion for ((_, completion), *_) in told)
    assert openings["7 up 2"] / 4000 == pytest.approx(0.3, abs=0.03)
    # "down" is misread in seven of ten replies; an open sign by chance.
    signs = Counter(
        (heard, taught_reading(heard, made, rng)) for heard in ("down 3", "up 3", "by 3") for _ in range(2000)
    )
    assert signs["down 3", 1] / 2000 == pytest.approx(0.7, abs=0.04)
    assert signs["up 3", 1] == 2000
    assert signs["by 3", 1] / 2000 == pytest.approx(0.5, abs=0.04)
    assert all(
        closing in (prompt.partition(" & ")[0], prompt.partition(" & ")[2][:-2]) for *_, (prompt, closing) in told
    )


def test_splits_share_no_case_and_the_test_split_has_two_hundred() -> None:
    table = DebateBenchmark(settings(), "systems.debate").prompts()
    contents = {split: set(part["content"]) for split, part in table.groupby("split")}
    assert len(contents["test"]) == 220
    assert not contents["train"] & contents["test"]
    assert not contents["train"] & contents["validation"]
    assert not contents["validation"] & contents["test"]


@pytest.mark.parametrize(("rounds", "hidden"), [(2, 2), (3, 4), (4, 6)])
def test_each_debater_owns_a_node_in_every_round(rounds: int, hidden: int) -> None:
    benchmark = DebateBenchmark(settings(rounds=rounds), "systems.debate")
    owners = Counter(node.component for node in benchmark.nodes)
    assert owners == {"left": rounds, "right": rounds, "vote": 1}
    assert benchmark.outputs == (f"left_{rounds}", f"right_{rounds}")
    assert len(benchmark.nodes) - 1 - len(benchmark.outputs) == hidden
    with pytest.raises(UserError, match="rounds: 1 should be at least 2"):
        settings(rounds=1)


def test_scores_and_metrics_by_hand() -> None:
    benchmark = DebateBenchmark(settings(), "systems.debate")
    prompts = pd.DataFrame({"prompt_id": ["a", "b", "c"], "answer": ["6", "6", "6"]})
    ends = {"left_3": ["9 , 6", "9 , 12", "9 , 6"], "right_3": ["9 , 6", "9 , 12", "9 , 12"]}
    ends["verdict"] = [vote(*pair) for pair in zip(*ends.values(), strict=True)]
    rows = as_frame(["a", "b", "c"], [0] * 3, ends)
    scores = benchmark.score(prompts, rows, Path())
    assert scores["score"].tolist() == [1.0, 0.0, 0.0]
    found = benchmark.metrics(prompts, rows, scores, Path())
    assert found["agreement"].tolist() == [1.0, 1.0, 0.0]
    assert (found["left_right"].tolist(), found["right_right"].tolist()) == ([1.0, 0.0, 1.0], [1.0, 0.0, 0.0])


@pytest.mark.parametrize("method", ["direct", "sampling", "separate"])
def test_a_debate_is_trained_with_hidden_rounds_and_a_vote_at_the_end(method: str, tmp_path: Path) -> None:
    small = {"examples": 300, "steps": 60, "batch_size": 16, "width": 32, "layers": 1}
    made = settings(foundation=dict.fromkeys(SIDES, small), prompts={"train": 12, "validation": 2, "test": 2})
    benchmark = DebateBenchmark(made, "systems.debate")
    for side, make in benchmark.foundations.items():
        make(0, tmp_path / side)
    system = benchmark.system(tmp_path)
    prompts = benchmark.prompts().query("split == 'train'").reset_index(drop=True)
    drawn = sample_trajectories(benchmark, system, prompts, 4, seed=0, purpose="train")
    assert score_trajectories(benchmark, prompts, drawn, tmp_path)["score"].between(0, 1).all()
    scores = drawn[["trajectory_id", "prompt_id"]].assign(score=drawn["sample"])
    result = align(
        system, Preferences(drawn, make_pairs(scores)), method=method, steps=3, batch_size=4, learning_rate=1e-2
    )
    assert result.log["margin"].iloc[0] == 0
    assert result.log["margin"].iloc[-1] != 0
    if method == "sampling":
        assert result.log["candidate_mass"].between(0, 1).all()
        assert result.log["candidates"].max() > 1

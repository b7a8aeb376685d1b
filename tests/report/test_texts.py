import shutil
from pathlib import Path

import pandas as pd
import pytest
from described import METRICS, committed, made_up

from sysdpo.base.errors import UserError
from sysdpo.method.description import Metric, Texts
from sysdpo.report.descriptions import Descriptions
from sysdpo.report.page import write_report
from sysdpo.report.samples import Transcript, pick_texts

COLUMNS = {"Draft": "draft", "Answer": "answer"}
REWARD = Metric("Reward", True, "", 3)


def chats(judged: bool) -> Descriptions:
    """A system whose answers are right or wrong, or have a reward."""
    texts = Texts(COLUMNS, expected="answer") if judged else Texts(COLUMNS, metric="reward")
    return made_up(
        "chat", texts=texts, metrics=committed().system("two_stage_qa").metrics | METRICS | {"reward": REWARD}
    )


def pick(runs: Path, judged: bool = True) -> list[Transcript]:
    shown = chats(judged).system("chat")
    return pick_texts(shown, shown.texts, runs, ["direct", "before"])


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Of eight questions, question i is answered rightly by i // 3 methods; a second sample is always right."""
    names = [f"q{i}" for i in range(8)]
    prompts = pd.DataFrame({"prompt_id": names, "split": "test", "text": [f"ask {n}" for n in names], "answer": names})
    prompts.to_parquet(tmp_path / "prompts.parquet")
    for index, method in enumerate(("direct", "before")):
        folder = tmp_path / "3" / method / "evaluation"
        folder.mkdir(parents=True)
        rows = [
            {"prompt_id": name, "sample": sample, "draft": f"{method} drafts", "answer": f"says {name}"}
            | {"score": float(sample == 1 or number // 3 > index)}
            for number, name in enumerate(names)
            for sample in (1, 0)
        ]
        pd.DataFrame(rows).to_parquet(folder / "samples.parquet")
    return tmp_path


def test_questions_a_quarter_half_and_three_quarters_up_the_ranking(runs: Path) -> None:
    picked = pick(runs)
    assert [(transcript.kind, transcript.question, transcript.expected) for transcript in picked] == [
        ("hard", "ask q2", "q2"),
        ("typical", "ask q4", "q4"),
        ("easy", "ask q6", "q6"),
    ]
    assert [transcript.right for transcript in picked] == [0, 1, 2]
    assert list(picked[1].turns) == ["before", "direct"]
    assert [turn.right for turn in picked[1].turns.values()] == [False, True]
    assert picked[1].turns["direct"].texts == {"Draft": "direct drafts", "Answer": "says q4"}


def test_only_questions_that_every_method_answered(runs: Path) -> None:
    path = runs / "3" / "before" / "evaluation" / "samples.parquet"
    pd.read_parquet(path).query("prompt_id in ['q5', 'q7']").to_parquet(path)
    assert [transcript.question for transcript in pick(runs)] == ["ask q5", "ask q7", "ask q7"][:2]
    pd.read_parquet(path).assign(prompt_id="other").head(1).to_parquet(path)
    with pytest.raises(UserError, match="evaluated for every method at seed 3"):
        pick(runs)


def without_right_and_wrong(runs: Path) -> None:
    """The prompts lose their expected answers; question i is worth i under `direct`, 10 − 3 i under `before`."""
    pd.read_parquet(runs / "prompts.parquet").drop(columns="answer").to_parquet(runs / "prompts.parquet")
    for method, worth in {"direct": lambda i: i, "before": lambda i: 10 - 3 * i}.items():
        path = runs / "3" / method / "evaluation" / "samples.parquet"
        samples = pd.read_parquet(path)
        numbers = samples["prompt_id"].str.removeprefix("q").astype(int)
        samples.assign(score=worth(numbers) + 100.0 * samples["sample"]).to_parquet(path)


def test_where_nothing_is_right_or_wrong_the_mean_reward_ranks_the_questions(runs: Path) -> None:
    without_right_and_wrong(runs)
    picked = pick(runs, judged=False)
    # The mean is 5 − i: the eighth question is the worst.
    assert [(transcript.kind, transcript.question, transcript.expected) for transcript in picked] == [
        ("hard", "ask q5", None),
        ("typical", "ask q3", None),
        ("easy", "ask q1", None),
    ]
    assert [transcript.mean for transcript in picked] == ["0.000", "2.000", "4.000"]
    assert {name: turn.shown for name, turn in picked[0].turns.items()} == {"before": "−5.000", "direct": "5.000"}
    assert picked[0].turns["direct"].texts == {"Draft": "direct drafts", "Answer": "says q5"}


@pytest.mark.parametrize("judged", [True, False])
def test_the_page_shows_rewards_where_nothing_is_right_or_wrong(
    runs: Path, judged: bool, tmp_path: Path, made_up_results: Path
) -> None:
    if not judged:
        without_right_and_wrong(runs)
    results = tmp_path / "results"
    shutil.copytree(runs, results / "runs" / "chat", ignore=shutil.ignore_patterns("results"))
    for name in ("metrics", "comparisons"):
        table = pd.read_csv(made_up_results / f"{name}.csv").query("system == 'two_stage_qa'")
        table.assign(system="chat").to_csv(results / f"{name}.csv", index=False)
    write_report(results, chats(judged), results / "report.html")
    page = (results / "report.html").read_text()
    assert ("✓ right" in page, "Expected: " in page, "right under" in page) == (judged,) * 3
    assert ("reward −5.000" in page, "mean reward 0.000" in page, "ordered by the mean reward" in page) == (
        (not judged,) * 3
    )
    assert "direct drafts" in page


def test_another_kind_of_system_has_no_such_texts(made_up_results: Path) -> None:
    with pytest.raises(UserError, match=r"lacks the columns \['answer', 'draft'\]"):
        pick(made_up_results / "runs" / "progressive_images", judged=False)

from pathlib import Path

import pandas as pd
import pytest

from sysdpo.errors import UserError
from sysdpo.report.transcripts import pick_transcripts


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Of eight questions, question i is answered rightly by i // 3 methods; a second sample is always right."""
    names = [f"q{i}" for i in range(8)]
    prompts = pd.DataFrame({"prompt_id": names, "split": "test", "text": [f"ask {n}" for n in names], "answer": names})
    prompts.to_parquet(tmp_path / "prompts.parquet")
    for place, method in enumerate(("direct", "before")):
        folder = tmp_path / "3" / method / "evaluation"
        folder.mkdir(parents=True)
        rows = [
            {"prompt_id": name, "sample": sample, "draft": f"{method} drafts", "answer": f"says {name}"}
            | {"score": float(sample == 1 or number // 3 > place)}
            for number, name in enumerate(names)
            for sample in (1, 0)
        ]
        pd.DataFrame(rows).to_parquet(folder / "samples.parquet")
    return tmp_path


def test_questions_a_quarter_half_and_three_quarters_up_the_ranking(runs: Path) -> None:
    picked = pick_transcripts(runs, ["direct", "before"])
    assert [(each.kind, each.question, each.expected) for each in picked] == [
        ("hard", "ask q2", "q2"),
        ("typical", "ask q4", "q4"),
        ("easy", "ask q6", "q6"),
    ]
    assert [each.right for each in picked] == [0, 1, 2]
    assert list(picked[1].turns) == ["before", "direct"]
    assert [turn.right for turn in picked[1].turns.values()] == [False, True]
    assert (picked[1].turns["direct"].draft, picked[1].turns["direct"].answer) == ("direct drafts", "says q4")


def test_only_questions_that_every_method_was_asked(runs: Path) -> None:
    path = runs / "3" / "before" / "evaluation" / "samples.parquet"
    pd.read_parquet(path).query("prompt_id in ['q5', 'q7']").to_parquet(path)
    assert [each.question for each in pick_transcripts(runs, ["direct", "before"])] == ["ask q5", "ask q7", "ask q7"][
        :2
    ]
    pd.read_parquet(path).assign(prompt_id="other").to_parquet(path)
    with pytest.raises(UserError, match="evaluated for every method at seed 3"):
        pick_transcripts(runs, ["direct", "before"])


def test_another_kind_of_system_has_no_transcripts(made_up_results: Path) -> None:
    with pytest.raises(UserError, match="no column 'answer'"):
        pick_transcripts(made_up_results / "runs" / "progressive_images", ["direct"])

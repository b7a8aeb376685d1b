"""The README says of the results what the results say: its claims, its intervals, and its words."""

from pathlib import Path

import pandas as pd
import prose
import pytest
import yaml
from described import committed

from sysdpo.report.claim_file import claims_about
from sysdpo.report.claims import evaluate, markdown, read_claim_table
from sysdpo.report.descriptions import Descriptions, read_descriptions
from sysdpo.report.files import read_comparisons, read_metrics
from sysdpo.report.quotes import quoted

REPOSITORY = Path(__file__).parents[2]
RESULTS = REPOSITORY / "results"
DESCRIPTIONS = committed()
README = (REPOSITORY / "README.md").read_text()


SCALES = {"debate": "workflow/scales/debate.yaml", "crew": "workflow/scales/crew.yaml"}
"""The configurations of runs whose results lie in folders of their own."""


def descriptions_of(folder: str) -> Descriptions:
    return read_descriptions(RESULTS / folder / "descriptions.json") if folder in SCALES else DESCRIPTIONS


@pytest.mark.parametrize(
    "folder",
    ["", "ablations", "fresh_seeds", "fresh_seeds/ablations", *SCALES, *(f"{name}/ablations" for name in SCALES)],
)
def test_the_committed_claims_are_those_of_the_committed_tables(folder: str) -> None:
    own = folder.partition("/")[0]
    config = yaml.safe_load((REPOSITORY / SCALES.get(own, "config.yaml")).read_text())
    claims = claims_about(config, REPOSITORY / config["claims"], ablations=folder.endswith("ablations"))
    results = RESULTS / folder
    tables = read_metrics(results / "metrics.csv"), read_comparisons(results / "comparisons.csv")
    committed = read_claim_table(results / "claims.csv")
    assert committed == evaluate(claims, *tables)
    assert (results / "claims.md").read_text() == markdown(committed, descriptions_of(own))


@pytest.mark.parametrize(
    ("page", "folder"),
    [("README.md", ""), ("docs/results.md", ""), *((f"docs/{name}.md", name) for name in SCALES)],
)
def test_the_blocks_are_as_committed(page: str, folder: str) -> None:
    text, results = (REPOSITORY / page).read_text(), RESULTS / folder
    assert quoted(text, results, descriptions_of(folder), page) == text, "run `make readme`"
    kind = "claims" if page == "docs/results.md" else "table"
    for system in {claim.system for claim in read_claim_table(results / "claims.csv")}:
        assert f"<!-- {kind}: {system}" in text


@pytest.mark.parametrize("page", ["docs/debate.md"])
def test_every_interval_of_a_page_is_in_its_tables(page: str) -> None:
    tables = [pd.read_csv(path) for path in sorted(RESULTS.rglob("*.csv"))]
    text = prose.sections((REPOSITORY / page).read_text(), "## Results")
    assert len(prose.INTERVAL.findall(text)) > 50
    assert prose.unknown_intervals(text, [table for table in tables if {"ci_low", "ci_high"} <= set(table)]) == []


def test_every_interval_is_in_a_committed_table() -> None:
    tables = [pd.read_csv(path) for path in sorted(RESULTS.rglob("*.csv"))]
    intervals = [table for table in tables if {"ci_low", "ci_high"} <= set(table)]
    text = prose.sections(README, "## What comes out")
    assert len(prose.INTERVAL.findall(text)) > 50
    assert prose.unknown_intervals(text, intervals) == []


def test_no_sentence_on_the_applications_says_more_than_its_claims() -> None:
    text = prose.sections(README, "## What comes out")
    assert prose.overclaims(text, prose.read_claims_below(RESULTS)) == []


ROWS = [
    # id, system, metric, condition, bound, value, low, high, verdict
    ("won", "two_stage_qa", "accuracy", "above", 0.0, 0.077, 0.044, 0.108, "holds"),
    ("much", "two_stage_qa", "accuracy", "at_least", 0.05, 0.077, 0.052, 0.108, "holds"),
    ("open", "two_stage_qa", "accuracy", "above", 0.0, 0.041, -0.012, 0.083, "undecided"),
    ("lost", "two_stage_qa", "accuracy", "above", 0.0, -0.05, -0.08, -0.02, "does not hold"),
    ("close", "two_stage_qa", "accuracy", "within", 0.02, 0.01, -0.003, 0.018, "holds"),
    ("drift", "two_stage_qa", "kl_first", "below", 0.0, -0.5, -0.6, -0.4, "holds"),
]
COLUMNS = ["id", "system", "metric", "condition", "bound", "value", "ci_low", "ci_high", "verdict"]
CLAIMS = {row["id"]: row for _, row in pd.DataFrame(ROWS, columns=COLUMNS).iterrows()}


@pytest.mark.parametrize(
    "text",
    [
        "A is above B by 7.7 points [4.4, 10.8]. <!-- claim: won -->",
        "A wins <!-- claim: won -->; whether it beats C is undecided (+4.1 points [−1.2, 8.3]). <!-- claim: open -->",
        "B is not above C. <!-- claim: lost --> A is at least 5 points better than B. <!-- claim: much -->",
        "A and D tie: their difference is 1.0 points [−0.3, 1.8]. <!-- claim: close -->",
        "A drifts less than B, by 0.5 nats [0.4, 0.6], and is better for it. <!-- claim: drift -->",
        "Two models\nanswer a question, [as before](better.md), `above` all.\n\n| above |\n\n```\nbetter\n```\n",
        "<!-- claims: toy -->\nA is better than all.\n<!-- end of claims -->\n",
    ],
)
def test_a_text_that_its_claims_bear_out_passes(text: str) -> None:
    assert prose.overclaims(text, CLAIMS) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("A is better than B.", "names no claim"),
        ("A and B tie.", "names no claim"),
        ("A gains 7.7 points [4.4, 10.8].", "names no claim"),
        ("A beats B. <!-- claim: one -->", "names ['one'], which is no claim"),
        ("A beats C. <!-- claim: open -->", "needs a claim that is true; 'open' is 'above' and undecided"),
        ("A beats B and C. <!-- claim: won, open -->", "'open' is 'above' and undecided"),
        ("A beats D. <!-- claim: close -->", "needs a claim that is true; 'close' is 'within' and holds"),
        ("B is above C. <!-- claim: lost -->", "needs a claim that is true; 'lost' is 'above' and does not hold"),
        ("C is not better than A. <!-- claim: open -->", "needs a claim that is denied; 'open'"),
        ("A and B tie. <!-- claim: won -->", "needs a claim that is doubtful; 'won'"),
        ("A beats B and ties with C. <!-- claim: open -->", "both compares and doubts"),
        ("A is worse than B. <!-- claim: won -->", "has a word of the kind 'worse'"),
        ("A is below B. <!-- claim: won -->", "has a word of the kind 'down'"),
        ("A drifts more than B. <!-- claim: drift -->", "has a word of the kind 'up'"),
        ("A doubles B. <!-- claim: won -->", "has a word of the kind 'size'"),
        ("A is above B by 9.7 points [4.4, 10.8]. <!-- claim: won -->", "gives the interval ('9.7', '4.4', '10.8')"),
        ("A beats B. <!-- claim: won --> It beats C, too.", "'It beats C, too.' names no claim"),
        ("A is above B <!-- claim: won --> and ahead of C.", "'and ahead of C.' names no claim"),
        ("- A is fine.\n- A is the best.", "'- A is the best.' names no claim"),
    ],
)
def test_a_text_that_says_more_is_refused(text: str, problem: str) -> None:
    problems = prose.overclaims(text, CLAIMS)
    assert any(problem in line for line in problems), problems


def test_intervals_are_compared_as_the_text_rounds_them() -> None:
    means = pd.DataFrame([{"mean": 0.5167, "ci_low": 0.45775, "ci_high": -0.0001}])
    differences = pd.DataFrame([{"difference": -0.02, "ci_low": -0.041, "ci_high": 0.0}])
    known = "52 % [46, 0], 0.517 in all [0.458, 0.000], 2.0 points [0.0, 4.1], −2.0 points\n[−4.1, 0.0]"
    assert prose.unknown_intervals(known, [means, differences]) == []
    wrong = "53 % [46, 0], 51.7 % [45.7, 0.0], −51.7 % [0.0, −45.8], 2.0 [−4.1, 0.0]"
    assert len(prose.unknown_intervals(wrong, [means, differences])) == 4


def test_sections_end_where_the_next_of_their_level_begins() -> None:
    text = "# T\n## A\na\n### B 1\nb\n### B 2\nc\n## C\nd\n"
    assert prose.sections(text, "## A") == "## A\na\n### B 1\nb\n### B 2\nc\n"
    assert prose.sections(text, "### B") == "### B 1\nb\n\n### B 2\nc\n"
    assert prose.sections(text, "## C") == "## C\nd\n"

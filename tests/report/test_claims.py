"""What is said of a claim follows its interval, ends included, and nothing else."""

import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from described import made_up
from described import save as save_descriptions

from sysdpo.base.errors import UserError
from sysdpo.report.claim_file import Claim, Claims, check_claims, claims_about, claims_path, read_claims
from sysdpo.report.claims import COLUMNS, ClaimResult, evaluate, markdown, read_claim_table, write_claims
from sysdpo.run.cli import main
from sysdpo.run.verdicts import beside

HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "undecided"
METHODS = {"before": {"objective": "none"}, "separate": {}, "direct": {}, "direct+likelihood": {}}
CONFIG: dict[str, Any] = {
    "systems": {
        "toy": {
            **{section: {"any": 1} for section in ("factory", "components")},
            "trajectories": {"samples_per_prompt": 2},
            "evaluation": {"samples_per_prompt": 1},
            "training": {"objective": "direct"},
            "methods": METHODS,
            "baselines": ["before", "separate", "direct"],
        }
    }
}
TOY = made_up("toy", "one", "two")
LINE = {"id": "one", "system": "toy", "metric": "accuracy", "method": "direct", "baseline": "separate"}


@pytest.mark.parametrize(
    ("condition", "bound", "low", "high", "verdict"),
    [
        ("above", 0, 0.001, 0.2, HOLDS),
        ("above", 0, 0.0, 0.2, UNDECIDED),  # 0 itself is not above 0
        ("above", 0, -0.1, 0.1, UNDECIDED),
        ("above", 0, -0.1, 0.0, FAILS),
        ("above", 0, 0.0, 0.0, FAILS),
        ("below", 0, -0.2, -0.001, HOLDS),
        ("below", 0, -0.2, 0.0, UNDECIDED),
        ("below", 0, 0.0, 0.2, FAILS),
        ("at_least", 0.1, 0.1, 0.3, HOLDS),
        ("at_least", 0.1, 0.05, 0.1, UNDECIDED),  # 0.1 is in it, and is at least 0.1
        ("at_least", 0.1, 0.05, 0.0999, FAILS),
        ("at_most", 0.1, 0.0, 0.1, HOLDS),
        ("at_most", 0.1, 0.1, 0.3, UNDECIDED),
        ("at_most", 0.1, 0.1001, 0.3, FAILS),
        ("at_most", -0.1, -0.3, -0.1, HOLDS),
        ("within", 0.02, -0.02, 0.02, HOLDS),
        ("within", 0.02, -0.021, 0.01, UNDECIDED),
        ("within", 0.02, 0.02, 0.3, UNDECIDED),
        ("within", 0.02, 0.021, 0.3, FAILS),
        ("within", 0.02, -0.3, -0.021, FAILS),
        ("within", 0.0, 0.0, 0.0, HOLDS),
    ],
)
def test_verdicts(condition: str, bound: float, low: float, high: float, verdict: str) -> None:
    over = {"sign": condition} if condition in ("above", "below") else {condition: bound}
    assert Claim(**LINE, **over).judge(low, high) == verdict


def result_of(low: float, high: float, **over: Any) -> ClaimResult:
    """One claim, evaluated: `direct` minus `separate` lies from `low` to `high`, the mean of `direct` too."""
    claim = Claim(**(LINE | over))
    shared = {"system": "toy", "metric": claim.metric, "method": "direct", "ci_low": low, "ci_high": high}
    value = (low + high) / 2
    metrics = pd.DataFrame([shared | {"mean": value, "n_contents": 7}])
    comparisons = pd.DataFrame([shared | {"difference": value, "baseline": "separate"}])
    questions = {"key": "Is it so?"}
    (result,) = evaluate(Claims((claim,), questions), metrics, comparisons)
    return result


@pytest.mark.parametrize(
    ("low", "high", "over", "sentence"),
    [
        (0.02, 0.06, {"sign": "above"}, "SysDPO-Direct is above separate DPO, by 4.0 points [2.0, 6.0]"),
        (-0.06, -0.02, {"sign": "below"}, "SysDPO-Direct is below separate DPO, by 4.0 points [2.0, 6.0]"),
        (
            *(-0.02, 0.06, {"sign": "above"}),
            "whether SysDPO-Direct is above separate DPO is undecided; the difference is +2.0 points [−2.0, +6.0]",
        ),
        (
            *(-0.06, -0.02, {"sign": "above"}),
            "SysDPO-Direct is not above separate DPO; the difference is −4.0 points [−6.0, −2.0]",
        ),
        (0.06, 0.08, {"at_least": 0.05}, "is at least 5 points above separate DPO, by 7.0 points [6.0, 8.0]"),
        (-0.08, -0.06, {"at_most": -0.05}, "is at least 5 points below separate DPO, by 7.0 points [6.0, 8.0]"),
        (-0.02, 0.04, {"at_least": -0.05}, "at most 5 points below separate DPO; the difference is +1.0 points [−2.0"),
        (0.0, 0.04, {"at_most": 0.05}, "at most 5 points above separate DPO; the difference is +2.0 points [0.0, +4.0"),
        (0.0, 0.02, {"within": 0.025}, "is within 2.5 points of separate DPO; the difference is +1.0 points [0.0"),
        (0.92, 0.96, {"at_least": 0.9, "baseline": None}, "SysDPO-Direct is at least 90 %; it is 94.0 % [92.0, 96.0]"),
        (0.1, 0.3, {"metric": "preference_score", "baseline": None, "sign": "above"}, "is above 0; it is 0.200 [0.100"),
        (0.1, 0.3, {"metric": "kl_first", "at_most": 0.5}, "0.5 nats above separate DPO; the difference is +0.20 nats"),
    ],
)
def test_sentences_follow_the_verdict(low: float, high: float, over: dict[str, Any], sentence: str) -> None:
    assert sentence in result_of(low, high, **over).sentence(TOY.system("toy"))


def test_the_page_groups_claims_by_system_and_question() -> None:
    lines = [("b", "two", "second"), ("a", "one", "second"), ("c", "two", None), ("d", "two", "first")]
    claims = tuple(
        Claim(id=name, system=system, metric="x|y", method="direct", question=question, sign="above")
        for name, system, question in lines
    )
    shared = {"method": "direct", "metric": "x|y", "mean": 1, "ci_low": 0, "ci_high": 2}
    metrics = pd.DataFrame([shared | {"system": system} for system in ("one", "two")])
    results = evaluate(Claims(claims, {"first": "First?", "second": "Second?"}), metrics, pd.DataFrame())
    assert [result.id for result in results] == ["d", "b", "c", "a"]
    page = markdown(results, TOY)
    assert page.index("## Two") < page.index("| First? |") < page.index("| Second? |") < page.index("| Besides |")
    assert page.index("<!-- end of claims -->") < page.index("## One") < page.index("`a`")
    assert "x\\|y: whether" in page
    assert "None is about a system" in markdown(evaluate(Claims(), metrics, pd.DataFrame()), TOY)


def test_a_claim_about_what_was_not_measured_is_one_sentence() -> None:
    claims = Claims((Claim(**(LINE | {"id": "lost", "metric": "reward", "sign": "above"})),))
    comparisons = pd.DataFrame([{"system": "toy", "metric": "accuracy", "method": "direct", "baseline": "separate"}])
    with pytest.raises(UserError) as error:
        evaluate(claims, pd.DataFrame(), comparisons)
    message = "claims: 'lost' is about 'reward' of 'direct' minus 'separate', which was not measured in 'toy'"
    assert str(error.value) == f"{message}; its metrics are accuracy"


def write(path: Path, *lines: dict[str, Any], **questions: str) -> Path:
    path.write_text(yaml.safe_dump({"claims": [*lines], "questions": questions}))
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "drect"}, "one.method: 'drect' should be one of ['before', 'separate', 'direct', 'direct+likeli"),
        ({"baseline": "seperate"}, "one.baseline: 'seperate' should be one of ['before', 'separate', 'direct']"),
        ({"baseline": "direct"}, "one.baseline: 'direct' should be another method than the claim's own"),
        ({"method": "before"}, "one.method: 'before' is not trained, so it is compared with no baseline"),
        ({"question": "why"}, "one.question: 'why' should be one of ['key']"),
        ({"id": "One"}, "One.id: 'One' should be a name of small letters and digits"),
        ({"sign": "over"}, "one.sign: 'over' should be one of ['above', 'below']"),
        ({"sign": None}, "one: a claim should have exactly one of ['sign', 'at_least', 'at_most', 'within']"),
        ({"at_most": 0.1}, "one: a claim should have exactly one of"),
        ({"sign": None, "within": 0.1, "baseline": None}, "one.within: it should come with a baseline"),
        ({"sign": None, "within": -0.1}, "one.within: -0.1 should be at least 0"),
        ({"sign": None, "at_least": "1e-2"}, "one.at_least: '1e-2' should be a number (YAML wants the point: 1.0e-02)"),
        ({"metrc": "accuracy"}, "one: unknown key 'metrc'"),
    ],
)
def test_a_line_that_is_no_claim_is_one_sentence(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "claims.yaml", LINE | {"sign": "above"} | change, key="Is it so?")
    with pytest.raises(UserError) as error:
        claims_about(CONFIG, path)
    assert message in str(error.value)
    assert str(error.value).startswith(f"claims: '{path}'")


def test_two_claims_of_one_id_are_refused(tmp_path: Path) -> None:
    line = LINE | {"sign": "above"}
    with pytest.raises(UserError, match="has two claims of the id 'one'"):
        read_claims(write(tmp_path / "claims.yaml", line, line))
    (tmp_path / "claims.yaml").write_text("- id: one\n")
    with pytest.raises(UserError, match="should be a mapping with the key 'claims'"):
        read_claims(tmp_path / "claims.yaml")


def test_a_configuration_may_have_no_claims_or_those_of_other_systems(tmp_path: Path) -> None:
    check_claims(CONFIG | {"claims": None})
    check_claims(CONFIG)
    assert claims_path(CONFIG) is None
    path = write(tmp_path / "claims.yaml", LINE | {"sign": "above", "system": "other", "method": "none"})
    assert claims_about(CONFIG, path).claims == ()
    with pytest.raises(UserError, match="should be a YAML file, but cannot be read"):
        check_claims(CONFIG | {"claims": str(tmp_path / "no.yaml")})
    assert claims_path({"claims": "workflow/claims.yaml"}) is not None  # of the project, wherever one stands


def test_claims_about_ablations_are_held_against_the_ablations_alone(tmp_path: Path) -> None:
    toy = CONFIG["systems"]["toy"]
    systems = {
        "toy": toy | {"ablations": {"longer": {"objective": "direct"}}, "baselines": [*toy["baselines"], "longer"]}
    }
    lines = [LINE | {"id": name, "sign": "above"} for name in ("plain", "of", "against")]
    path = write(tmp_path / "claims.yaml", lines[0], lines[1] | {"method": "longer"}, lines[2] | {"baseline": "longer"})
    for ablations, ids in ((False, ["plain"]), (True, ["of", "against"])):
        claims = claims_about({"systems": systems}, path, ablations=ablations).claims
        assert [claim.id for claim in claims] == ids


@pytest.fixture
def run(tmp_path: Path) -> list[str]:
    """The step's options: two methods, one with a plus in its name, measured and compared."""
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    methods = {"direct": "direct", "direct-likelihood": "direct+likelihood"}
    lines = [LINE | {"id": name, "method": method, "sign": "above"} for name, method in methods.items()]
    write(tmp_path / "claims.yaml", *lines)
    shared = {
        "system": "toy",
        "metric": "accuracy",
        "ci_low": 0.1,
        "ci_high": 0.3,
        "n_prompts": 5,
        "n_contents": 5,
        "n_seeds": 1,
    }
    metrics = [shared | {"method": method, "mean": 0.2, "higher_is_better": True} for method in methods.values()]
    pd.DataFrame(metrics).to_csv(tmp_path / "metrics.csv", index=False)
    shared |= {"baseline": "separate", "difference": 0.2}
    comparisons = [shared | {"method": method} for method in methods.values()]
    pd.DataFrame(comparisons).to_csv(tmp_path / "comparisons.csv", index=False)
    save_descriptions(TOY, tmp_path / "descriptions.json")
    tables = [
        ("descriptions", "descriptions.json"),
        ("metrics", "metrics.csv"),
        ("comparisons", "comparisons.csv"),
        ("claims", "claims.yaml"),
    ]
    named = [("config", "config.yaml"), *tables, ("output", "results/claims.csv")]
    return ["claims", *(word for option, name in named for word in (f"--{option}", str(tmp_path / name)))]


def test_the_step_writes_table_and_page(run: list[str], tmp_path: Path) -> None:
    assert main(run) == 0
    results = read_claim_table(tmp_path / "results/claims.csv")
    assert tuple(pd.read_csv(tmp_path / "results/claims.csv").columns) == COLUMNS
    assert [(result.id, result.method, result.verdict) for result in results] == [
        ("direct", "direct", "holds"),
        ("direct-likelihood", "direct+likelihood", "holds"),
    ]
    assert (tmp_path / "results/claims.md").read_text() == markdown(results, TOY)
    first = (tmp_path / "results/claims.csv").read_bytes()
    assert main(run) == 0
    assert (tmp_path / "results/claims.csv").read_bytes() == first


def test_the_step_writes_nothing_where_a_claim_is_wrong(
    run: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "claims.yaml", LINE | {"sign": "above"}, LINE | {"id": "two", "metric": "lenth", "sign": "above"})
    assert main(run) == 2
    assert "claims: 'two' is about 'lenth' of 'direct' minus 'separate'" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_without_a_claim_the_files_are_written_all_the_same(run: list[str], tmp_path: Path) -> None:
    write(tmp_path / "claims.yaml")
    assert main(run) == 0
    assert read_claim_table(tmp_path / "results/claims.csv") == []


def test_a_failing_disk_leaves_what_was_there(run: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(run) == 0
    before = (tmp_path / "results/claims.csv").read_bytes()

    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_csv", full)
    tables = tmp_path / "metrics.csv", tmp_path / "comparisons.csv"
    with pytest.raises(UserError, match="cannot be written"):
        write_claims(Claims(), *tables, TOY, tmp_path / "results/claims.csv")
    assert (tmp_path / "results/claims.csv").read_bytes() == before
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == ["claims.csv", "claims.md"]


def save(path: Path, *results: ClaimResult) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(map(asdict, results)).to_csv(path, index=False)
    return path


def test_a_run_is_printed_beside_the_committed_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    same = result_of(0.1, 0.3, id="same", sign="above")
    there = [same, result_of(0.1, 0.3, sign="above"), result_of(0.1, 0.3, id="moved", sign="above")]
    here = [same, result_of(-0.1, 0.3, sign="above"), result_of(0.1, 0.5, id="moved", sign="above")]
    theirs = save(tmp_path / "theirs.csv", *there, result_of(0, 1, id="lost", sign="above"))
    ours = save(tmp_path / "ours.csv", *here, result_of(0.1, 1, id="new", within=0.01))
    (tmp_path / "config.yaml").write_text("systems: {}")
    options = ["show", "--config", str(tmp_path / "config.yaml"), "--claims", str(ours)]
    options += ["--descriptions", str(save_descriptions(TOY, tmp_path / "descriptions.json"))]
    assert main([*options, "--committed", str(theirs)]) == 0
    won = "holds, +20.0 points [+10.0, +30.0]"
    assert [re.split(" {2,}", line) for line in capsys.readouterr().out.splitlines()] == [
        ["claim", "committed", "this run"],
        ["same", won, won],
        ["one", won, "undecided, +10.0 points [−10.0, +30.0]", "<- another verdict"],
        ["moved", won, "holds, +30.0 points [+10.0, +50.0]", "<- other numbers"],
        ["lost", "undecided, +50.0 points [0.0, +100.0]", "–", "<- another set of claims"],
        ["new", "–", "does not hold, +55.0 points [+10.0, +100.0]", "<- another set of claims"],
        ["2 of 5 claims have the verdict of the committed run."],
    ]
    assert main(options) == 0
    alone = capsys.readouterr().out.splitlines()
    assert alone[:2] == ["claim  this run", "same   holds, +20.0 points [+10.0, +30.0]"]
    assert beside(ours, None, TOY) == "\n".join(alone)


def test_a_table_with_another_verdict_is_none(tmp_path: Path) -> None:
    path = save(tmp_path / "claims.csv", replace(result_of(0.1, 0.3, sign="above"), verdict="won"))
    with pytest.raises(UserError, match=r"'one' has the verdict 'won', which should be one of \['holds'"):
        read_claim_table(path)

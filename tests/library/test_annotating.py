"""People's judgements: which pairs they are asked about, the file that keeps them, and how far people agree."""

import errno
import itertools
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image
from tiny_system import preference_data

import sysdpo
from sysdpo import Node, System, UserError, read_preferences
from sysdpo.library.agreement import agreement
from sysdpo.library.annotation_pairs import Graph, Pair, Side, pairs_between, pairs_within
from sysdpo.library.judgements import Journal, Judgement, read_judgements
from sysdpo.library.preferences import known_variables
from sysdpo.method.preferences import as_frame, read_trajectories, write_trajectories
from sysdpo.method.values import Completion, picture_key

GRAPH = Graph(["question"], ["hint", "answer"], ["answer"])
VARIABLES = ("question", "hint", "answer")


def table(path: Path, rows: list[tuple[str, int, str, str]]) -> Path:
    """Trajectories of `GRAPH` in a file: prompt, sample, hint, answer."""
    prompts, samples, hints, answers = map(list, zip(*rows, strict=True))
    questions = [f"what of {prompt}" for prompt in prompts]
    write_trajectories(as_frame(prompts, samples, {"question": questions, "hint": hints, "answer": answers}), path)
    return path


def shown(pairs: list[Pair]) -> list[tuple[str, ...]]:
    """Each pair as its question and its two answers, sorted."""
    return [(pair.inputs["question"], *sorted(side.stored["answer"] for side in pair.sides.values())) for pair in pairs]


def made(number: int) -> Pair:
    sides = [Side({"trajectory_id": f"{number}/{side}"}, {"hint": "h", "answer": f"a{side}"}) for side in range(2)]
    return Pair(f"pair{number}", {"question": f"q{number}"}, *sides)


PAIRS = [made(number) for number in range(10)]


def test_equal_outputs_are_not_asked_about_and_every_prompt_comes_first(tmp_path: Path) -> None:
    rows = [("p", 0, "x", "red"), ("p", 1, "y", "red"), ("p", 2, "x", "blue"), ("p", 3, "x", "green")]
    rows += [("q", 0, "x", "red"), ("q", 1, "y", "red")]  # two ways to the same answer
    rows += [("r", 0, "x", "red"), ("r", 1, "x", "blue")]
    path = table(tmp_path / "t.parquet", rows)
    pairs = pairs_within(path, GRAPH, 100, {"r": "colours"})
    assert {question for question, *_ in shown(pairs)[:2]} == {"what of p", "what of r"}
    answers = [("blue", "green"), ("blue", "red"), ("green", "red")]
    assert sorted(shown(pairs)) == [*(("what of p", *two) for two in answers), ("what of r", "blue", "red")]
    assert len({pair.id for pair in pairs}) == len(pairs) == 4
    assert [pair.content for pair in pairs if pair.inputs["question"] == "what of r"] == ["colours"]
    for count in range(1, 5):
        assert pairs_within(path, GRAPH, count, {"r": "colours"}) == pairs[:count]


def test_an_id_follows_from_contents_alone(tmp_path: Path) -> None:
    one = table(tmp_path / "1.parquet", [("p", 0, "x", "red"), ("p", 1, "x", "blue")])
    turned = table(tmp_path / "2.parquet", [("p", 0, "x", "blue"), ("p", 1, "x", "red")])
    other = table(tmp_path / "3.parquet", [("p", 0, "x", "red"), ("p", 1, "y", "blue")])
    (first,), (same,), (different,) = (pairs_within(path, GRAPH, 9, {}) for path in (one, turned, other))
    assert first.id == same.id != different.id
    assert first.first.stored == same.first.stored
    assert first.first.origin != same.first.origin


def test_two_methods_are_compared_by_prompt_and_sample(tmp_path: Path) -> None:
    before = table(tmp_path / "b.parquet", [("p", 0, "x", "red"), ("p", 1, "x", "blue"), ("q", 0, "x", "red")])
    after = table(tmp_path / "a.parquet", [("p", 0, "x", "green"), ("p", 1, "y", "blue"), ("q", 0, "x", "blue")])
    pairs = pairs_between({"before": before, "direct": after}, GRAPH, 100, {})
    assert sorted(shown(pairs)) == [("what of p", "green", "red"), ("what of q", "blue", "red")]
    for pair in pairs:
        origins = {side.origin["method"]: side.stored["answer"] for side in pair.sides.values()}
        assert origins["direct"] == {"what of p": "green", "what of q": "blue"}[pair.inputs["question"]]


def test_equal_texts_are_equal_whatever_their_tokens(tmp_path: Path) -> None:
    answers = [Completion("red", (1, 2)), Completion("red", (3,)), Completion("blue", (4,))]
    variables = {"question": ["q"] * 3, "hint": ["h"] * 3, "answer": answers}
    write_trajectories(as_frame(["p"] * 3, range(3), variables), tmp_path / "t.parquet")
    assert shown(pairs_within(tmp_path / "t.parquet", GRAPH, 9, {})) == [("q", "blue", "red")]


@pytest.mark.parametrize(
    ("rows", "graph", "said"),
    [
        ([("p", 0, "x", "red"), ("p", 1, "y", "red")], GRAPH, "should have two different outputs of some prompt"),
        ([("p", 0, "x", "red")], Graph(["question"], ["a"], ["a"]), r"lacks the variables \['a'\] of the system"),
    ],
)
def test_files_that_cannot_be_asked_about(rows: Any, graph: Graph, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        pairs_within(table(tmp_path / "t.parquet", rows), graph, 9, {})


def test_the_file_has_the_trajectories_as_they_were_and_trains(make_system: Any, tmp_path: Path) -> None:
    system = make_system()
    frame, _ = preference_data(system)
    # Tokens that the text alone would not give: one twice, which the decoded text cannot tell.
    odd = frame["caption"][0]
    assert odd == system.components["writer"].value_of(odd.text)
    frame.at[0, "caption"] = cut = Completion(odd.text, odd.tokens[:-1])  # cut short before its end
    write_trajectories(frame, tmp_path / "t.parquet")
    graph = Graph(system.inputs, [node.name for node in system.nodes], system.outputs)
    pairs = pairs_within(tmp_path / "t.parquet", graph, 3, {})
    assert len(pairs) == 3
    path = tmp_path / "judged.jsonl"
    journal = Journal(path, [*graph.inputs, *graph.generated])
    for pair in pairs:
        assert journal.add(pair, "ann", "first", "first")
    journal.add(pairs[0], "bob", "second", "first")
    journal.add(pairs[1], "bob", "tie", "first")
    found = read_preferences(path, system)
    assert len(found) == 4  # the tie is left out, and two people are two pairs
    stored = {row["trajectory_id"]: row for row in read_trajectories(tmp_path / "t.parquet").to_dict("records")}
    rows = found.trajectories.set_index("trajectory_id")
    for judged, pair in zip(found.pairs.to_dict("records"), [*pairs, pairs[0]], strict=True):
        chosen, rejected = (pair.first, pair.second) if judged["pair_id"][-1] != "3" else (pair.second, pair.first)
        for side, name in ((chosen, "chosen_id"), (rejected, "rejected_id")):
            was, row = stored[side.origin["trajectory_id"]], rows.loc[judged[name]]
            assert (row["text"], row["caption"]) == (was["text"], was["caption"])
            assert [picture_key(row[image]) for image in system.outputs] == [
                picture_key(was[image]) for image in system.outputs
            ]
    assert cut in rows["caption"].tolist()
    for method in ("direct", "sampling"):
        settings = {"steps": 2, "batch_size": 2, "candidates": {"count": 2}}
        log = sysdpo.align(make_system(), found, method=method, **settings).log
        assert log["loss"].notna().sum() == 2


def test_another_models_tokens_are_not_taken(make_system: Any) -> None:
    writer = make_system().components["writer"]
    own = writer.value_of("big dog")
    assert writer.recognized(own) is own
    foreign = Completion("big dog", tuple(reversed(own.tokens)))
    assert writer.recognized(foreign) == own
    assert writer.recognized(Completion("big dog", (10**6, *own.tokens))) == own


def test_values_that_json_has_no_word_for(tmp_path: Path) -> None:
    values = [{("a", 1): "x", "t": (1, 2)}, {("a", 1): "y", "t": (1, 2)}]
    lists, flags = [["a", "b"], ["a", "c"]], [True, False]
    variables = {"question": ["q", "q"], "parts": values, "names": lists, "is_new": flags, "drawn": [red(), red(9)]}
    write_trajectories(as_frame(["p", "p"], [0, 1], variables), tmp_path / "t.parquet")
    generated = ("parts", "names", "is_new", "drawn")
    nodes = [Node(name, lambda question: None, ["question"]) for name in generated]
    system = System(["question"], nodes)
    (pair,) = pairs_within(tmp_path / "t.parquet", Graph(["question"], generated, generated), 9, {})
    journal = Journal(tmp_path / "j.jsonl", ["question", *generated])
    journal.add(pair, "ann", "first", "second")
    found = read_preferences(tmp_path / "j.jsonl", system)
    chosen = found.trajectories.set_index("trajectory_id").loc[found.pairs["chosen_id"][0]]
    index = int(pair.first.origin["trajectory_id"].removeprefix("p/"))
    assert (chosen["parts"], chosen["names"], chosen["is_new"]) == (values[index], lists[index], flags[index])
    assert picture_key(chosen["drawn"]) == picture_key(variables["drawn"][index])
    (tmp_path / "j-pictures").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"j-pictures/\w+\.png' should be an image, but cannot be read"):
        read_preferences(tmp_path / "j.jsonl", system)


def test_a_file_that_begins_with_a_tie_tells_its_variables(journal: Journal) -> None:
    journal.add(PAIRS[0], "ann", "tie", "first")
    assert known_variables(journal.path) == 2
    with pytest.raises(UserError, match="nothing can be learnt"):
        read_preferences(journal.path, two_words())


def test_a_benchmark_takes_the_file_as_its_preferences(journal: Journal) -> None:
    journal.add(PAIRS[0], "ann", "tie", "first")
    for number, pair in enumerate(PAIRS[1:]):
        journal.add(replace(pair, content=f"subject {number % 3}"), "ann", "first", "second")
    benchmark = sysdpo.Benchmark(two_words, preferences=journal.path)
    assert benchmark.offer.variables == 2
    prompts = benchmark.prompts()
    assert sorted(prompts["question"]) == [pair.inputs["question"] for pair in PAIRS[1:]]
    assert prompts.groupby("content")["split"].nunique().tolist() == [1, 1, 1]
    assert set(prompts) == {"prompt_id", "split", "question", "content", "text"}
    assert len(benchmark.preferences(prompts)[1]) == 9


def red(shade: int = 0) -> Image.Image:
    return Image.new("RGB", (4, 4), (200, shade, 0))


def two_words() -> System:
    return System(["question"], [Node("hint", str, ["question"]), Node("answer", str, ["hint"])])


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "j.jsonl", VARIABLES)


def again(journal: Journal) -> Journal:
    """As another process would open it."""
    journal.close()
    return Journal(journal.path, VARIABLES)


def test_a_judgement_is_on_disk_when_it_is_given_and_only_once(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[tuple[str, int]] = []
    real = os.fsync

    def fsync(opened: int) -> None:
        real(opened)
        flushed.append((os.readlink(f"/proc/self/fd/{opened}"), os.fstat(opened).st_size))

    monkeypatch.setattr(os, "fsync", fsync)
    assert journal.add(PAIRS[0], "ann", "first", "second")
    size = journal.path.stat().st_size
    assert [name for name, _ in flushed] == [str(journal.path), str(journal.path.parent)]
    assert flushed[0][1] == size
    assert not journal.add(PAIRS[0], "ann", "second", "second")
    assert journal.path.stat().st_size == size
    assert journal.add(PAIRS[0], "bob", "second", "first")
    assert [judged.preferred for judged in again(journal).judgements] == ["first", "second"]


def test_a_row_says_who_judged_what(journal: Journal) -> None:
    journal.add(PAIRS[3], "ann", "second", "first")
    (row,) = map(json.loads, journal.path.read_text().splitlines())
    said = row.pop("annotation")
    assert pd.Timestamp(said.pop("time")).tz is not None
    origins = {"first": {"trajectory_id": "3/0"}, "second": {"trajectory_id": "3/1"}}
    assert said == {"pair": "pair3", "annotator": "ann", "preferred": "second", "left": "first"} | origins
    sides = {"chosen": {"hint": "h", "answer": "a1"}, "rejected": {"hint": "h", "answer": "a0"}}
    assert row == {"question": "q3"} | sides


def test_a_kill_at_any_byte_loses_nothing_that_was_given_before(
    journal: Journal, capsys: pytest.CaptureFixture
) -> None:
    for pair in PAIRS[:2]:
        journal.add(pair, "ann", "first", "first")
    whole = journal.path.read_bytes()
    first = whole.index(b"\n") + 1
    for end in range(len(whole) + 1):
        journal.path.write_bytes(whole[:end])
        assert len(read_judgements(journal.path, VARIABLES)) == whole[:end].count(b"\n")
        assert journal.path.stat().st_size == end  # whoever only reads mends nothing
        journal = again(journal)
        # Without its end a line is whole, too.
        assert len(journal.judgements) == (end >= first - 1) + (end >= len(whole) - 1), end
        kept = len(journal.judgements)
        assert journal.path.read_bytes() == whole[: [0, first, len(whole)][kept]]
        for pair in PAIRS[:2]:
            assert journal.add(pair, "ann", "first", "first") == (PAIRS.index(pair) >= kept)
        assert len(again(journal).judgements) == 2
        journal.close()
    assert "its last line was never finished, and is dropped" in capsys.readouterr().err


def test_undo_takes_back_a_persons_last_judgement_and_no_other(journal: Journal) -> None:
    journal.add(PAIRS[0], "ann", "first", "first")
    journal.add(PAIRS[1], "ann", "first", "first")
    journal.add(PAIRS[1], "bob", "second", "first")
    before = journal.path.read_bytes()
    assert not journal.take_back("ann", "pair0")
    assert not journal.take_back("carol", "pair0")
    assert journal.path.read_bytes() == before
    assert journal.take_back("ann", "pair1")
    assert not journal.take_back("ann", "pair1")  # a browser that asks twice
    lines = before.splitlines(keepends=True)
    assert journal.path.read_bytes() == lines[0] + lines[2]
    journal = again(journal)
    assert journal.take_back("bob", "pair1")
    assert journal.take_back("ann", "pair0")
    assert not journal.path.exists()
    assert journal.add(PAIRS[0], "ann", "tie", "first")
    assert len(again(journal).judgements) == 1


def test_a_full_disk_is_told_of_and_leaves_no_half_line(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    journal.add(PAIRS[0], "ann", "first", "first")
    before = journal.path.read_bytes()

    def full(opened: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(UserError, match=r"No space left on device.*; nothing was added"):
            journal.add(PAIRS[1], "ann", "first", "first")
    assert journal.path.read_bytes() == before
    assert list(journal.of("ann")) == ["pair0"]
    assert journal.add(PAIRS[1], "ann", "first", "first")


@pytest.mark.parametrize(
    "content",
    [
        *("notes", "notes\n", '{"prompt": "a", "chosen": "b", "rejected": "c"}\n', '{"annotation": {}}\n', "\n"),
        '{"annotation": 1, "tied": []}\n{"annotation": {"pair',
    ],
)
def test_another_file_is_refused_and_left_as_it_was(content: str, tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    path.write_text(content)
    with pytest.raises(UserError, match=r"j.jsonl', line 1 should be a judgement as `sysdpo annotate` writes them"):
        Journal(path, VARIABLES)
    assert path.read_text() == content
    assert list(tmp_path.iterdir()) == [path]


def test_another_systems_judgements_are_refused(journal: Journal) -> None:
    journal.add(PAIRS[0], "ann", "first", "first")
    journal.close()
    with pytest.raises(UserError, match=r"line 1 should have the variables \['answer', 'question'\]"):
        Journal(journal.path, ["question", "answer"])
    with pytest.raises(UserError, match="its variable 'chosen' has a name that files of preferences use"):
        Journal(journal.path, ["chosen", "answer"])


def test_variables_may_be_called_as_other_forms_of_preferences_have_it(tmp_path: Path) -> None:
    names = ("prompt", "content", "label", "score", "completion")
    nodes = [Node(name, str, [parent]) for parent, name in itertools.pairwise(names)]
    sides = [Side({"trajectory_id": str(side)}, dict.fromkeys(names[1:], f"v{side}")) for side in range(2)]
    pair = Pair("pair", {"prompt": "p"}, *sides, content="subject")
    journal = Journal(tmp_path / "j.jsonl", names)
    journal.add(pair, "ann", "second", "first")
    journal.close()
    assert len(Journal(journal.path, names).judgements) == 1
    found = read_preferences(journal.path, System(["prompt"], nodes))
    chosen = found.trajectories.set_index("trajectory_id").loc[found.pairs["chosen_id"][0]]
    assert chosen[[*names]].tolist() == ["p", "v1", "v1", "v1", "v1"]


def test_two_processes_cannot_write_one_file(journal: Journal) -> None:
    code = "import sys; from pathlib import Path; from sysdpo.library.judgements import Journal\n"
    code += f"Journal(Path(sys.argv[1]), {VARIABLES})"
    command = [sys.executable, "-c", code, str(journal.path)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=100)
    assert "is written by another `sysdpo annotate` already" in done.stderr
    journal.close()
    assert subprocess.run(command, env=environment, timeout=100).returncode == 0


def judgements(**by_name: str) -> list[Judgement]:
    """A letter a pair and person: first, second, tie, or - for none; the first was on the left."""
    words = {"F": "first", "S": "second", "T": "tie"}
    return [
        Judgement(f"pair{number}", name, words[letter], "first", "", {"trajectory_id": "a"}, {"trajectory_id": "b"})
        for name, letters in by_name.items()
        for number, letter in enumerate(letters)
        if letter in words
    ]


def test_two_people() -> None:
    """Ten pairs, seven alike. Of 20 values 11 are F, 6 S and 3 T, so that chance would disagree in
    1 − (11·10 + 6·5 + 3·2) / (20·19) = 234/380, and alpha is 1 − (3/10) / (234/380) = 20/39.
    """
    found = agreement(judgements(ann="FFFFSSSTTF", bob="FFFSSSFTFF"))
    assert found.shared == 10
    assert found.percent == pytest.approx(0.7)
    assert found.alpha == pytest.approx(20 / 39)
    assert (found.people["ann"].judged, found.people["ann"].ties, found.people["ann"].left) == (10, 2, 5)
    assert "Agreement: 70.0 % on the 10 pairs that two or more people have judged; Krippendorff's alpha 0.51." in [
        *found.lines()
    ]


def test_a_third_person_who_judged_some() -> None:
    """Pair 0 is FFF and pair 3 FSF: of 14 comparisons 6 + 3 + 1 agree. Of 22 values 13 are F, 6 S and 3 T; the
    coincidences that agree are 6·2 + 3 + 1 = 16 of 22, chance's 192 of 462; alpha = 1 − (6/22) / (270/462) = 8/15.
    """
    found = agreement(judgements(ann="FFFFSSSTTFF", bob="FFFSSSFTFF-", carol="F--F"))
    assert found.shared == 10  # ann alone has judged the last one
    assert found.percent == pytest.approx(10 / 14)
    assert found.alpha == pytest.approx(8 / 15)


def test_where_there_is_nothing_to_agree_on() -> None:
    alone = agreement(judgements(ann="FF", bob="--S"))
    assert (alone.shared, alone.percent, alone.alpha) == (0, None, None)
    assert [*alone.lines()][-1] == "Agreement: no pair has been judged by two people yet."
    alike = agreement(judgements(ann="FF", bob="FF"))
    assert (alike.shared, alike.percent, alike.alpha) == (2, 1.0, None)
    assert [*alike.lines()][-1].endswith("Krippendorff's alpha is not defined, since all say the same.")


def test_methods_are_counted_by_where_outputs_come_from() -> None:
    before, direct = ({"method": name, "trajectory_id": "p/0"} for name in ("before", "direct"))
    said = [("first", before, direct), ("first", direct, before), ("second", before, direct)]
    said.append(("tie", direct, before))
    rows = [
        Judgement(str(number), "ann", preferred, "first", "", first, second)
        for number, (preferred, first, second) in enumerate(said)
    ]
    assert agreement(rows).preferred == {"before": 1, "direct": 2, "tie": 1}
    assert "Preferred: before 1, direct 2, tie 1." in [*agreement(rows).lines()]

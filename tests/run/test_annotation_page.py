"""The page of `sysdpo annotate`, used as people use it: in a browser, with the keyboard, while its server is killed."""

import json
import signal
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from annotation_server import SYSTEM, Server, finished, post, rows, serving
from browser import chromium, complaints
from coin_system import CONFIG, Coins
from PIL import Image

from sysdpo import read_preferences
from sysdpo.library.annotation_pairs import Graph, pairs_within
from sysdpo.library.judgements import Journal
from sysdpo.method.preferences import as_frame, write_trajectories
from sysdpo.run.annotation_page import Session, make_app

HOSTILE = "<b>bold</b> <script>document.title = 'taken over'</script> & \"quoted\""
KILLED_AFTER = 25
DYING = f"""
import os, signal, sys
from sysdpo.library import judgements
from sysdpo.run.cli import main

add, given = judgements.Journal.add, []

def add_and_die(*told):
    given.append(add(*told))
    if len(given) == {KILLED_AFTER}:
        os.kill(os.getpid(), signal.SIGKILL)
    return given[-1]

judgements.Journal.add = add_and_die
sys.exit(main(sys.argv[1:]))
"""
"""A server that dies once a judgement is on disk, before it says so."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    yield from chromium()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1100, "height": 800})
    context.set_default_timeout(20_000)
    yield context.new_page()
    context.close()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished(tmp_path_factory.mktemp("run"))


@pytest.fixture
def start(run: Path, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    with serving(tmp_path, run / "results") as serve:
        yield serve


def sides(page: Any) -> list[str]:
    """The two texts that are shown, left and right."""
    return page.locator("section .outputs .text").all_inner_texts()


def press(page: Any, key: str) -> None:
    """Press a key and wait until another pair, or the end, is shown."""
    before = page.locator("article").get_attribute("data-pair")
    page.keyboard.press(key)
    page.wait_for_function("before => document.querySelector('article').dataset.pair !== before", arg=before)


def test_a_hundred_judgements_while_the_server_is_killed_twice(
    start: Callable[..., Server], page: Any, run: Path, tmp_path: Path
) -> None:
    options = ("--output", "judged.jsonl", "--annotator", "ann")
    server = start(*options, "--port", "0")
    options = (*options, "--port", server.port)
    page.goto(server.url)
    said: dict[str, str] = {}
    for number in range(100):
        key = ("ArrowLeft", "ArrowRight", "t", "ArrowRight", " ")[number % 5]
        assert page.locator(".count").inner_text() == f"{number + 1} of 100 · ann"
        left, right = sides(page)
        assert {left, right} == {"heads", "tails"}
        pair = page.locator("article").get_attribute("data-pair")
        assert pair not in said
        said[pair] = {"ArrowLeft": left, "ArrowRight": right}.get(key, "tie")
        if number == 40:
            server.kill()  # between two judgements
            page.keyboard.press(key)
            page.get_by_text("The server does not answer.").wait_for()
            page.keyboard.press("t")  # people are impatient; this one is not sent
            server = start(*options, code=DYING)
            page.get_by_text(f"{number + 2} of 100").wait_for()
        elif number == 40 + KILLED_AFTER - 1:
            page.keyboard.press(key)  # the judgement is kept, and nobody hears of it
            assert server.process.wait(timeout=20) == -signal.SIGKILL
            assert len(rows(tmp_path / "judged.jsonl")) == number + 1
            page.get_by_text("The server does not answer.").wait_for()
            server = start(*options)
            page.get_by_text(f"{number + 2} of 100").wait_for()
        else:
            press(page, key)
    page.get_by_text("All 100 pairs are judged. Thank you, ann.").wait_for()
    assert "100 judgements, to learn from: sysdpo.read_preferences" in server.stop()
    kept = rows(tmp_path / "judged.jsonl")
    assert len(kept) == len(said) == 100
    assert {row["annotation"]["pair"]: row.get("chosen", {"right": "tie"})["right"] for row in kept} == said
    assert all({side["right"] for side in row["tied"]} == {"heads", "tails"} for row in kept if "tied" in row)
    assert {row["annotation"]["left"] for row in kept} == {"first", "second"}
    coins = Coins(CONFIG["systems"]["coins"]).system(run / f"results/runs/{SYSTEM}/0/foundation")
    found = read_preferences(tmp_path / "judged.jsonl", coins)
    assert len(found) == 60
    chosen = found.trajectories.set_index("trajectory_id").loc[found.pairs["chosen_id"], "right"]
    assert chosen.tolist() == [row["chosen"]["right"] for row in kept if "chosen" in row]


GRAPH = Graph(["request"], ["plan", "drawn", "text"], ["drawn", "text"])


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    """Ten pairs with a picture and a text each, and a step before them, in which models wrote what they liked."""
    prompts = [f"p{number}" for number in range(10) for _ in range(2)]
    texts = [f"{HOSTILE}\n{number}" for number in range(20)]
    pictures = [Image.new("RGB", (16, 8), (10 * number, 0, 0)) for number in range(20)]
    plans = [["first this", {"then": HOSTILE}]] * 20
    variables = {"request": [f"<i>{prompt}</i>" for prompt in prompts], "plan": plans, "drawn": pictures, "text": texts}
    write_trajectories(as_frame(prompts, [0, 1] * 10, variables), tmp_path / "t.parquet")
    journal = Journal(tmp_path / "judged.jsonl", [*GRAPH.inputs, *GRAPH.generated])
    yield Session("<u>Title</u>", GRAPH, pairs_within(tmp_path / "t.parquet", GRAPH, 10, {}), journal)
    journal.close()


@pytest.fixture
def url(session: Session) -> Iterator[str]:
    """Where the session is served, by a thread of this process."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(make_app(session), log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
    server.should_exit = True
    thread.join(timeout=20)
    listening.close()


def test_two_people_and_how_far_they_agree(session: Session, url: str, browser: Any) -> None:
    """Each in a window of their own. Seven of ten are alike; see `test_two_people` in `tests/library` for alpha."""
    said = {"ann": "FFFFSSSTTF", "bob": "FFFSSSFTFF"}
    orders = {}
    for name, letters in said.items():
        context = browser.new_context()
        page = context.new_page()
        page.goto(url)
        page.get_by_label("Your name").fill(f" {name} ")
        page.keyboard.press("Enter")
        page.get_by_text("1 of 10").wait_for()
        order = orders[name] = []
        for number in range(10):
            pair = session.by_id[page.locator("article").get_attribute("data-pair")]
            order.append(pair.id)
            letter = letters[session.pairs.index(pair)]
            first, second = (side.stored["text"] for side in pair.sides.values())
            left = sides(page)[0]
            assert left in (first, second)
            key = "t" if letter == "T" else "ArrowLeft" if (letter == "F") == (left == first) else "ArrowRight"
            press(page, key)
            assert len(session.journal.of(name)) == number + 1
        shown = page.locator(".summary").inner_text()
        assert f"{name} has judged 10 pairs" in shown
        context.close()
    assert "Agreement: 70.0 % on the 10 pairs that two or more people have judged" in shown
    assert "Krippendorff's alpha 0.51." in shown
    assert sorted(orders["ann"]) == sorted(orders["bob"])
    assert orders["ann"] != orders["bob"]
    lefts = [{name: session.journal.of(name)[pair.id].left for name in said} for pair in session.pairs]
    assert any(left["ann"] != left["bob"] for left in lefts)


def test_undo_by_key_and_by_button(session: Session, url: str, page: Any) -> None:
    complained = complaints(page)
    page.goto(f"{url}?annotator=ann")
    assert page.get_by_role("button", name="Undo").is_disabled()
    first = page.locator("article").get_attribute("data-pair")
    press(page, "ArrowRight")
    second = page.locator("article").get_attribute("data-pair")
    press(page, "u")
    assert page.locator("article").get_attribute("data-pair") == first
    assert session.journal.judgements == []
    press(page, " ")
    assert [judged.preferred for judged in session.journal.judgements] == ["tie"]
    assert page.locator("article").get_attribute("data-pair") == second
    page.get_by_role("button", name="B is better").click()
    page.get_by_text("3 of 10").wait_for()
    page.get_by_role("button", name="Undo").click()
    page.get_by_text("2 of 10").wait_for()
    assert [judged.pair for judged in session.journal.judgements] == [first]
    for number in range(2, 11):
        page.get_by_role("button", name="Tie").click()
        page.get_by_text(f"{number + 1} of 10" if number < 10 else "All 10 pairs are judged").wait_for()
    page.reload()
    press(page, "u")
    assert page.locator(".count").inner_text() == "10 of 10 · ann"
    assert complained == []


def test_a_key_with_others_held_or_kept_down_judges_nothing(session: Session, url: str, page: Any) -> None:
    page.goto(f"{url}?annotator=ann")
    for key in ("Control+ArrowLeft", "Shift+Tab", "x"):
        page.keyboard.press(key)
    page.keyboard.down("t")
    page.get_by_text("2 of 10").wait_for()
    for _ in range(5):
        page.keyboard.down("t")  # repeats, until it is let go
    page.keyboard.up("t")
    press(page, "ArrowLeft")
    assert page.locator(".count").inner_text() == "3 of 10 · ann"
    assert [judged.preferred == "tie" for judged in session.journal.judgements] == [True, False]


def test_what_models_wrote_is_text_and_steps_are_shown_on_demand(session: Session, url: str, page: Any) -> None:
    complained = complaints(page)
    page.goto(f"{url}?annotator=ann")
    pair = session.by_id[page.locator("article").get_attribute("data-pair")]
    assert set(sides(page)) == {side.stored["text"] for side in pair.sides.values()}
    assert page.locator("h1").inner_text() == "<u>Title</u>"
    assert page.locator(".prompt .text").inner_text() == pair.inputs["request"]
    assert page.title() == "<u>Title</u>: which is better?"
    assert page.locator("main b:not(.count b), main i, main u, main script").count() == 0
    steps = page.locator("details .text")
    assert [step.is_visible() for step in steps.all()] == [False, False]
    page.keyboard.press("i")
    assert [json.loads(step.inner_text()) for step in steps.all()] == [["first this", {"then": HOSTILE}]] * 2
    page.keyboard.press("i")
    assert not steps.first.is_visible()
    page.locator("summary").first.click()
    assert [step.is_visible() for step in steps.all()] == [True, False]
    press(page, "ArrowLeft")
    assert [step.is_visible() for step in steps.all()] == [False, False]
    assert page.title() == "<u>Title</u>: which is better?"
    assert complained == []


@pytest.mark.parametrize("width", [340, 1100])
def test_pictures_are_side_by_side_on_every_screen(session: Session, url: str, page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 700})
    page.goto(f"{url}?annotator=ann")
    images = page.locator("section img")
    images.first.wait_for()
    page.wait_for_function("[...document.images].every(image => image.complete)")
    assert images.evaluate_all("all => all.map(image => image.naturalWidth)") == [16, 16]
    (left, right) = (image.bounding_box() for image in images.all())
    assert left["y"] == right["y"]
    assert left["x"] + left["width"] <= right["x"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    bar = page.locator("nav").bounding_box()
    assert bar["y"] + bar["height"] <= 700  # the buttons can be reached


def test_other_sites_and_broken_requests_change_nothing(session: Session, url: str) -> None:
    good = {"annotator": "ann", "pair": session.pairs[0].id, "preferred": "tie"}
    refused: list[tuple[int, Any, dict[str, str]]] = [
        (403, good, {"Origin": "http://elsewhere.example"}),
        (403, good, {"Origin": "null"}),
        (400, good, {"Host": "elsewhere.example"}),
        (415, good, {"Content_Type": "text/plain"}),
        (400, b"{oops", {}),
        (400, [good], {}),
        (409, good | {"pair": "gone"}, {}),
        (422, good | {"preferred": "first"}, {}),
        (422, good | {"preferred": ["tie"]}, {}),
        (422, good | {"annotator": "a\nb"}, {}),
        (422, good | {"annotator": None}, {}),
    ]
    for status, content, headers in refused:
        assert post(url, "judgements", content, **headers)[0] == status, (content, headers)
        assert post(url, "undo", content, **headers)[0] in (200, status)
    assert session.journal.judgements == []
    assert post(url, "judgements", good, Origin=url.rstrip("/"))[0] == 200
    assert post(url, "judgements", good)[0] == 200
    assert len(session.journal.judgements) == 1
    with urllib.request.urlopen(f"{url}?annotator=ann", timeout=20) as answer:
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


def test_a_judgement_that_cannot_be_written_is_told_of(
    session: Session, url: str, page: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    page.goto(f"{url}?annotator=ann")

    def full(opened: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("sysdpo.library.judgements.os.fsync", full)
        page.keyboard.press("t")
        page.get_by_text("No space left on device").wait_for()
    assert page.locator(".count").inner_text() == "1 of 10 · ann"
    press(page, "t")
    assert page.locator("#said").inner_text() == ""
    assert len(session.journal.judgements) == 1

"""A language model behind an HTTP API, served by this machine: it takes part in a system and is never trained."""

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tiny_models
import torch

import sysdpo
from sysdpo.base.errors import UserError
from sysdpo.components.chat_api import ChatAPI
from sysdpo.library.checking import check_system
from sysdpo.method.component import Component, SampleOnly, Sampler

KEY = "a-secret"
PAGE = Path(__file__).parents[2] / "docs/language-models.md"


def python_of(page: Path) -> str:
    """Its one block of Python."""
    (block,) = re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return block


class Server(ThreadingHTTPServer):
    """Answers each request with its last message in capitals and its seed, or as `answers` says first."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[dict[str, Any]] = []
        self.headers: list[str | None] = []
        self.answers: list[tuple[int, str]] = []
        self.url = f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append({"path": self.path, **asked})
        self.server.headers.append(self.headers["Authorization"])
        text = f"{asked['messages'][-1]['content'].upper()} {asked['seed']}"
        answer = json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]})
        status, body = self.server.answers.pop(0) if self.server.answers else (200, answer)
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield served
        served.shutdown()


def api(server: Server, **settings: Any) -> ChatAPI:
    return ChatAPI(server.url, "big", **settings)


def test_each_condition_is_asked_with_its_own_seed_and_answered_in_order(server: Server) -> None:
    model = api(server, key=KEY, template="say {0}", system_prompt="be short", max_new_tokens=7, temperature=0.5)
    conditions = [(f"word {number}",) for number in range(20)]
    assert model.sample(conditions, seeds=range(2**31, 2**31 + 20)) == [f"SAY WORD {n} {n}" for n in range(20)]
    assert set(server.headers) == {f"Bearer {KEY}"}
    first = next(asked for asked in server.asked if asked["seed"] == 3)
    assert first == {
        "path": "/v1/chat/completions",
        "model": "big",
        "messages": [{"role": "system", "content": "be short"}, {"role": "user", "content": "say word 3"}],
        "seed": 3,
        "max_tokens": 7,
        "temperature": 0.5,
    }


def test_it_is_a_component_that_can_only_be_sampled(server: Server) -> None:
    model = api(server)
    for protocol in (Component, SampleOnly, Sampler):
        assert isinstance(model, protocol)
    policy, reference = model.log_probs([("a",)], ["A"], draw=[0])
    assert policy.tolist() == reference.tolist() == [0.0]
    assert model.trainable_parameters() == []
    kl, entropy = model.drift([("a",)], ["A"], draw=[0])
    assert kl.tolist() == [0.0]
    assert entropy.isnan().all()
    assert server.asked == []


def test_a_request_that_fails_for_the_server_s_sake_is_made_again(server: Server) -> None:
    server.answers = [(503, "busy")]
    assert api(server).sample([("a",)], seeds=[5]) == ["A 5"]
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (401, "who are you", "'big' at .* refuses to answer: 401 who are you"),
        (200, "<html>", "should answer as a chat API of OpenAI's kind does"),
        (200, '{"choices": []}', "should answer as a chat API of OpenAI's kind does"),
        (200, '{"choices": [{"message": {"content": null}}]}', "should answer with a text, not None"),
    ],
)
def test_what_is_no_answer_is_said_in_a_sentence_without_the_key(
    server: Server, status: int, body: str, reason: str
) -> None:
    server.answers = [(status, body)]
    with pytest.raises(UserError, match=reason) as failed:
        api(server, key=KEY).sample([("a",)], seeds=[0])
    assert KEY not in str(failed.value)


def test_a_server_that_is_not_there_or_no_url_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("urllib3.util.retry.time.sleep", lambda seconds: None)
    with pytest.raises(UserError, match=r"'big' at http://127.0.0.1:9 should answer, and cannot be reached"):
        ChatAPI("http://127.0.0.1:9", "big", timeout=1.0).sample([("a",)], seeds=[0])
    with pytest.raises(UserError, match=r"url: '127.0.0.1' should begin with http"):
        ChatAPI("127.0.0.1", "big")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tiny_models.save_language_model(path := tmp_path_factory.mktemp("model"))
    return path


def system_of(model: ChatAPI, folder: Path) -> sysdpo.System:
    lora = {"r": 4, "target_modules": "all-linear"}
    answerer = sysdpo.LanguageModel.from_pretrained(folder, lora=lora, max_new_tokens=4)
    nodes = [
        sysdpo.Node("hint", model, ["text"], template="hint for {text}"),
        sysdpo.Node("answer", answerer, ["text", "hint"], template="{text} {hint}"),
    ]
    return sysdpo.System(["text"], nodes)


def test_a_template_that_leaves_out_an_input_is_found_before_anything_is_asked_twice(
    server: Server, folder: Path
) -> None:
    nodes = [sysdpo.Node("hint", api(server), ["text", "more"]), system_of(api(server), folder).nodes[1]]
    answerer = system_of(api(server), folder).components["answer"]
    found = check_system(
        lambda: sysdpo.System(["text", "more"], nodes, {"answer": answerer}),
        pd.DataFrame({"text": ["a cat", "a dog", "big"], "more": ["red", "blue", "small"]}),
    )
    assert "node 'hint': its model reads '{0}' and nothing of 'more'" in found.problems[0]


def rows() -> list[dict[str, str]]:
    texts = ("a cat", "a dog", "the cat", "the dog")
    return [{"prompt": text, "chosen": "angry cat", "rejected": "calm dog"} for text in texts]


def test_a_system_is_trained_around_it_by_sampling_from_draws(server: Server, folder: Path) -> None:
    system = system_of(api(server), folder)
    assert system.trainable == ["answer"]
    before = [weight.detach().clone() for weight in system.components["answer"].trainable_parameters()]
    pairs = sysdpo.read_preferences(rows(), system)
    candidates = {"estimator": "importance", "generator": "ancestral", "count": 2}
    settings = {"beta": 0.5, "steps": 2, "learning_rate": 1e-2, "batch_size": 2}
    sysdpo.align(system, pairs, method="sampling", candidates=candidates, **settings)
    after = system.components["answer"].trainable_parameters()
    assert any(not torch.equal(old, new) for old, new in zip(before, after, strict=True))
    assert {asked["messages"][-1]["content"].partition(" for ")[0] for asked in server.asked} == {"hint"}


def test_whole_trajectories_with_its_answers_train_without_asking_it(server: Server, folder: Path) -> None:
    system = system_of(api(server), folder)
    told = [
        {"text": row["prompt"], **{side: {"hint": "H", "answer": row[side]} for side in ("chosen", "rejected")}}
        for row in rows()
    ]
    sysdpo.align(system, sysdpo.read_preferences(told, system), method="direct", beta=0.5, steps=1, batch_size=2)
    assert server.asked == []


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"method": "sampling"}, "'truncated' needs the probability of 'hint', and the component 'hint' can only be"),
        (
            {"method": "only_hint"},
            "method: 'hint' should be one of .*; it cannot be trained, since a ChatAPI can only be",
        ),
        ({"learning_rate": {"hint": 1e-3, "answer": 1e-3}}, "learning_rate: 'hint' should .* a ChatAPI can only be"),
        ({"components": ["hint"]}, "components: 'hint' should be one of .* since a ChatAPI can only be sampled"),
    ],
)
def test_asked_to_be_scored_or_trained_it_is_refused_with_the_reason(
    server: Server, folder: Path, settings: dict[str, Any], reason: str
) -> None:
    system = system_of(api(server), folder)
    with pytest.raises(UserError, match=reason):
        sysdpo.align(system, sysdpo.read_preferences(rows(), system), beta=0.5, steps=1, **settings)
    assert server.asked == []


def test_a_saved_system_holds_neither_the_key_nor_the_address(server: Server, folder: Path, tmp_path: Path) -> None:
    model = api(server, key=KEY)
    system = system_of(model, folder)
    saved = tmp_path / "saved"
    system.save(saved)
    held = b"".join(path.read_bytes() for path in saved.rglob("*") if path.is_file())
    for secret in (KEY, server.url):
        assert secret.encode() not in held
    with pytest.raises(UserError, match=r"functions: those of .'hint'. should be given"):
        sysdpo.System.load(saved)
    again = sysdpo.System.load(saved, functions={"hint": model})
    assert again("a cat", seed=1) == system("a cat", seed=1)


def test_the_page_is_run_as_printed(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a server and a model of this test's own, and fewer updates."""
    code = python_of(PAGE)
    for printed, ours in {"http://localhost:8000/v1": server.url, "steps=100": "steps=2"}.items():
        assert code.count(printed) == 1
        code = code.replace(printed, ours)
    words = re.findall(
        r"\w+", "Say in one line how to answer a cat dog angry calm SAY IN ONE LINE HOW TO ANSWER A CAT DOG"
    )
    tiny_models.save_language_model(tmp_path / "models/writer", words=[*words, *map(str, range(10))], context=256)
    (tmp_path / "prefs.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows()))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("API_KEY", KEY)
    exec(code, {})
    assert set(server.headers) == {f"Bearer {KEY}"}
    assert len(server.asked) == 16  # four draws for each of four prompts


@pytest.mark.parametrize(
    ("part", "reason"), [(str.upper, "a function of its inputs"), (None, "frozen, without an adapter .lora.")]
)
def test_other_parts_that_are_not_trained_are_refused_with_their_reason(folder: Path, part: Any, reason: str) -> None:
    frozen = part or sysdpo.LanguageModel.from_pretrained(folder, lora=None, max_new_tokens=4)
    system = system_of(frozen, folder)
    with pytest.raises(UserError, match=f"learning_rate: 'hint' should be one of .*'answer'.*, since it is {reason}"):
        sysdpo.align(system, sysdpo.read_preferences(rows(), system), learning_rate={"hint": 1e-3}, beta=0.5, steps=1)

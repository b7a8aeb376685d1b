"""A classifier at a node: its labels, their probabilities, its place in a system, its files."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import save_language_model
from tiny_seeing import ALL_LINEAR, picture, save_picture_classifier, save_router
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from sysdpo.base.errors import UserError
from sysdpo.components.classifier import Classifier
from sysdpo.components.language import LanguageModel
from sysdpo.library.aligning import align
from sysdpo.library.preferences import read_preferences
from sysdpo.method.candidates import CandidateSettings, propose
from sysdpo.method.component import Decodable, Exportable, Reloadable, Resettable
from sysdpo.method.system import Node, System

TEXTS = [("cat runs",), ("dog",), ("small red dog sleeps",), ("cat sleeps",)]
PICTURES = [("said", picture(10)), ("said", picture(130)), ("said", picture(250)), ("said", picture(10, 250))]
KINDS = {"texts": (save_router, TEXTS), "pictures": (save_picture_classifier, PICTURES)}
Load = Callable[..., Classifier]


@pytest.fixture(scope="module", params=list(KINDS))
def kind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Sequence[Any]]:
    save, conditions = KINDS[request.param]
    return save(tmp_path_factory.mktemp(request.param)), conditions


@pytest.fixture
def load(kind: tuple[Path, Sequence[Any]]) -> Load:
    def made(**settings: Any) -> Classifier:
        torch.manual_seed(0)
        return Classifier.from_pretrained(kind[0], **{"lora": ALL_LINEAR} | settings)

    return made


@pytest.fixture
def conditions(kind: tuple[Path, Sequence[Any]]) -> Sequence[Any]:
    return kind[1]


def disturb(model: Classifier) -> None:
    torch.manual_seed(3)
    for weight in model.trainable_parameters():
        weight.data += 0.2 * torch.randn_like(weight)


def by_hand(folder: Path, condition: tuple[Any, ...]) -> dict[str, float]:
    if isinstance(condition[-1], str):
        reader, model = AutoTokenizer, AutoModelForSequenceClassification
        inputs = reader.from_pretrained(folder)(condition[0], return_tensors="pt")
    else:
        reader, model = AutoImageProcessor, AutoModelForImageClassification
        inputs = reader.from_pretrained(folder)(condition[-1], return_tensors="pt")
    network = model.from_pretrained(folder).eval()
    with torch.no_grad():
        logits = network(**inputs).logits[0]
    return {network.config.id2label[number]: float(it) for number, it in enumerate(logits.log_softmax(-1))}


def test_it_is_a_component_like_the_others(load: Load) -> None:
    for protocol in (Decodable, Exportable, Reloadable, Resettable):
        assert isinstance(load(), protocol)


def test_log_probs_are_those_of_a_plain_forward_pass(load: Load, conditions: Sequence[Any], kind: Any) -> None:
    model = load(batch_size=2)
    for label in model.labels:
        policy, reference = model.log_probs(conditions, [label] * 4, draw=[0] * 4)
        expected = torch.tensor([by_hand(kind[0], condition)[label] for condition in conditions])
        torch.testing.assert_close(policy, expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(reference, policy, rtol=0, atol=0)


def test_draws_are_as_often_as_log_probs_say(load: Load, conditions: Sequence[Any]) -> None:
    model, draws = load(), 4000
    drawn = model.sample([conditions[0]] * draws, seeds=range(draws))
    for label in model.labels:
        probability = float(model.log_probs([conditions[0]], [label], draw=[0]).policy.detach().exp())
        sigma = math.sqrt(probability * (1 - probability) / draws)
        assert abs(drawn.count(label) / draws - probability) < 4 * sigma + 1e-9
    assert model.sample([conditions[0]] * 3, seeds=[7, 8, 9]) == drawn[7:10]


def test_at_temperature_zero_it_takes_the_likeliest(load: Load, conditions: Sequence[Any]) -> None:
    model = load(temperature=0.0)
    drawn = model.sample(conditions, seeds=range(4))
    scores = torch.stack([model.log_probs(conditions, [label] * 4, draw=[0] * 4).policy for label in model.labels])
    assert drawn == [model.labels[number] for number in scores.argmax(0)]


def test_all_labels_are_candidates(load: Load, conditions: Sequence[Any]) -> None:
    model = load()
    for generator in ("beam", "diverse_beam"):
        settings = CandidateSettings(generator=generator, count=len(model.labels))
        found = propose(model.decoder(conditions), settings, seeds=range(4))
        for row in found:
            assert {candidate.value for candidate in row} == set(model.labels)
            assert sum(math.exp(candidate.log_prob) for candidate in row) == pytest.approx(1, abs=1e-6)


def test_the_reference_stands_still_and_comes_back(load: Load, conditions: Sequence[Any]) -> None:
    model = load()
    values = model.sample(conditions, seeds=range(4))
    before = model.log_probs(conditions, values, draw=[0] * 4).reference
    disturb(model)
    policy, reference = model.log_probs(conditions, values, draw=[0] * 4)
    policy.sum().backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in model.trainable_parameters())
    torch.testing.assert_close(reference, before, rtol=0, atol=0)
    assert (policy - reference).abs().max() > 1e-3
    model.rebase_reference()
    rebased = model.log_probs(conditions, values, draw=[0] * 4)
    torch.testing.assert_close(rebased.policy.detach(), rebased.reference, rtol=1e-6, atol=1e-6)
    model.reset()
    torch.testing.assert_close(model.log_probs(conditions, values, draw=[0] * 4).policy.detach(), before)


def test_what_is_saved_is_loaded_and_merged_it_says_the_same(
    load: Load, conditions: Sequence[Any], tmp_path: Path
) -> None:
    model, again = load(), load()
    disturb(model)
    model.save(tmp_path / "adapter")
    again.load(tmp_path / "adapter")
    model.save_model(tmp_path / "merged", merged=True)
    merged = Classifier.from_pretrained(tmp_path / "merged", lora=None)
    for label in model.labels:
        said, loaded, whole = (
            it.log_probs(conditions, [label] * 4, draw=[0] * 4).policy.detach() for it in (model, again, merged)
        )
        torch.testing.assert_close(loaded, said, rtol=0, atol=0)
        torch.testing.assert_close(whole, said, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("adapted", [False, True])
def test_the_program_of_its_card_says_the_same(
    load: Load,
    conditions: Sequence[Any],
    tmp_path: Path,
    adapted: bool,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = load()
    disturb(model)
    model.save_model(tmp_path / "model", merged=not adapted)
    model.save_adapter(tmp_path / "adapter", base=str(tmp_path / "model"))
    if model.sees:
        conditions[1][-1].save(tmp_path / "picture.png")
    monkeypatch.chdir(tmp_path)
    usage = model.usage(conditions[1], model="model", adapter="adapter" if adapted else None)
    exec(usage.code, {})
    said = eval(capsys.readouterr().out.strip().splitlines()[-1])
    for label in model.labels:
        expected = float(model.log_probs([conditions[1]], [label], draw=[0]).policy.detach().exp())
        assert said[label] == pytest.approx(expected, abs=1e-5)


def test_a_frozen_one_trains_nothing(load: Load, conditions: Sequence[Any]) -> None:
    model = load(lora=None)
    assert model.trainable_parameters() == []
    policy, reference = model.log_probs(conditions, [model.labels[0]] * 4, draw=[0] * 4)
    assert policy is reference


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    router = Classifier.from_pretrained(save_router(tmp_path / "router"), lora=None)
    with pytest.raises(UserError, match=r"gives one of the labels \['short', 'long'\], and never 'medium'"):
        router.log_probs(TEXTS[:1], ["medium"], draw=[0])
    with pytest.raises(UserError, match="cannot be read as a text"):
        router.sample([(picture(1),)], seeds=[0])
    with pytest.raises(UserError, match="has positions for 32 tokens, and its node's text has 41"):
        router.sample([("cat " * 40,)], seeds=[0])
    seeing = Classifier.from_pretrained(save_picture_classifier(tmp_path / "seeing"), lora=None)
    with pytest.raises(UserError, match="sees one picture, and its node has 0"):
        seeing.sample([("cat",)], seeds=[0])
    with pytest.raises(UserError, match="should be a classifier, a …ForSequenceClassification or"):
        Classifier.from_pretrained(save_language_model(tmp_path / "llama"), lora=None)
    with pytest.raises(UserError, match=r"of different names.*its labels are \['same', 'same'\]"):
        Classifier.from_pretrained(save_router(tmp_path / "alike", labels=("same", "same")), lora=None)


@pytest.mark.parametrize("method", ["direct", "sampling"])
def test_a_router_that_picks_one_of_two_experts_is_aligned(tmp_path: Path, language_folder: Path, method: str) -> None:
    """Preferred are the answers of the expert that the router picks too rarely."""
    torch.manual_seed(0)
    router = Classifier.from_pretrained(save_router(tmp_path / "router"), lora={**ALL_LINEAR, "r": 4})
    writer = LanguageModel.from_pretrained(language_folder, lora=ALL_LINEAR, max_new_tokens=2)
    nodes = [
        Node("route", router, ["question"]),
        Node("answer", writer, ["question", "route"], template="{route} {question}"),
    ]
    system = System(["question"], nodes)
    rows = [
        {
            "question": question,
            "chosen": {"route": "short", "answer": answer},
            "rejected": {"route": "long", "answer": answer},
        }
        for (question,), answer in zip(TEXTS, ("red", "blue", "big", "small"), strict=True)
    ]
    pairs = read_preferences(rows, system)
    before = router.log_probs(TEXTS, ["short"] * 4, draw=[0] * 4).policy.detach().mean()
    rates = {"route": 5e-2, "answer": 1e-3}
    align(system, pairs, method=method, steps=12, batch_size=4, learning_rate=rates, candidates={"count": 2})
    after = router.log_probs(TEXTS, ["short"] * 4, draw=[0] * 4).policy.detach().mean()
    assert torch.isfinite(after)
    if method == "direct":  # with the answers alike, the choice is all that can explain the preference
        assert after > before + 0.1

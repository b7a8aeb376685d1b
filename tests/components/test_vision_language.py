"""A model that sees pictures: its prompts, its draws, its log-probabilities, its candidates, its files."""

from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
import torch
from tiny_seeing import ALL_LINEAR, picture, save_llava
from transformers import AutoModelForImageTextToText, AutoProcessor

from sysdpo.base.errors import UserError
from sysdpo.components.language import LanguageModel
from sysdpo.components.vision_language import VisionLanguageModel
from sysdpo.method.candidates import CandidateSettings, propose
from sysdpo.method.component import Decodable, Exportable, Reloadable, Resettable
from sysdpo.method.system import Node, System, conditions_of
from sysdpo.method.values import Completion, Interleaved

Load = Callable[..., VisionLanguageModel]
TEMPLATE = "{1} big {0}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_llava(tmp_path_factory.mktemp("llava"))


@pytest.fixture
def load(folder: Path) -> Load:
    def made(**settings) -> VisionLanguageModel:
        torch.manual_seed(0)
        given = {"lora": ALL_LINEAR, "template": TEMPLATE, "max_new_tokens": 3} | settings
        return VisionLanguageModel.from_pretrained(folder, **given)

    return made


CONDITIONS = [("cat", picture(10)), ("dog runs", picture(200)), ("small blue cat", picture(90, 250))]


def disturb(model: VisionLanguageModel) -> None:
    torch.manual_seed(3)
    for weight in model.trainable_parameters():
        weight.data += 0.2 * torch.randn_like(weight)


def by_hand(folder: Path, condition, tokens: tuple[int, ...]) -> float:
    """One row through the model of transformers, without any code of ours."""
    processor, model = AutoProcessor.from_pretrained(folder), AutoModelForImageTextToText.from_pretrained(folder).eval()
    text, image = condition
    inputs = processor(text=f"<image> big {text}", images=image, return_tensors="pt")
    ids = torch.cat([inputs["input_ids"], torch.tensor([tokens])], 1)
    with torch.no_grad():
        logits = model(input_ids=ids, pixel_values=inputs["pixel_values"]).logits[0].float()
    logits[:, model.config.image_token_id] = -torch.inf
    log_probs = logits.log_softmax(-1)
    start = inputs["input_ids"].shape[1]
    return sum(float(log_probs[start + place - 1, token]) for place, token in enumerate(tokens))


def test_it_is_a_component_like_the_others(load: Load) -> None:
    for protocol in (Decodable, Exportable, Reloadable, Resettable):
        assert isinstance(load(), protocol)


def test_log_probs_are_those_of_a_plain_forward_pass(load: Load, folder: Path) -> None:
    model = load()
    values = [Completion("", tokens) for tokens in ((4, 5, 2), (6, 2), (7, 8, 9))]
    policy, reference = model.log_probs(CONDITIONS, values, draw=[0, 0, 0])
    expected = [by_hand(folder, condition, value.tokens) for condition, value in zip(CONDITIONS, values, strict=True)]
    torch.testing.assert_close(policy, torch.tensor(expected), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(reference, policy, rtol=0, atol=0)


def test_a_picture_changes_what_is_likely(load: Load) -> None:
    model, value = load(), Completion("", (4, 5, 2))
    rows = [("cat", picture(10)), ("cat", picture(250))]
    first, second = model.log_probs(rows, [value, value], draw=[0, 0]).policy
    assert abs(first - second) > 1e-3


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_draw_depends_on_its_own_row_alone(load: Load, temperature: float) -> None:
    model = load(temperature=temperature)
    disturb(model)
    together = model.sample(CONDITIONS, seeds=[5, 6, 7])
    alone = [model.sample([row], seeds=[seed])[0] for row, seed in zip(CONDITIONS, [5, 6, 7], strict=True)]
    assert together == alone


def test_draws_are_as_often_as_log_probs_say(load: Load) -> None:
    model = load(max_new_tokens=1)
    draws = 4000
    drawn = model.sample([CONDITIONS[0]] * draws, seeds=range(draws))
    for token in {value.tokens for value in drawn}:
        share = sum(value.tokens == token for value in drawn) / draws
        probability = float(model.log_probs([CONDITIONS[0]], [Completion("", token)], draw=[0]).policy.detach().exp())
        assert abs(share - probability) < 4 * (probability * (1 - probability) / draws) ** 0.5 + 1e-3


def test_probabilities_of_all_completions_add_up_without_marks_of_pictures(load: Load) -> None:
    model = load(max_new_tokens=2)
    disturb(model)
    ends, tokens = set(model._end_tokens()), range(model._vocabulary)
    mark = model._marks
    values = [Completion("", (token,)) for token in tokens if token in ends]
    values += [Completion("", pair) for pair in product(tokens, tokens) if pair[0] not in ends]
    log_probs = model.log_probs([CONDITIONS[1]] * len(values), values, draw=[0] * len(values)).policy
    assert float(log_probs.exp().sum()) == pytest.approx(1, abs=1e-4)
    shown = [row for row, value in enumerate(values) if set(value.tokens) & set(mark)]
    assert shown
    assert not log_probs[shown].exp().any()


def test_beams_find_the_likeliest(load: Load) -> None:
    model = load(max_new_tokens=2)
    disturb(model)
    settings = CandidateSettings(generator="beam", count=4)
    found = propose(model.decoder(CONDITIONS), settings, seeds=[0, 0, 0])
    for condition, candidates in zip(CONDITIONS, found, strict=True):
        values = [candidate.value for candidate in candidates]
        log_probs = model.log_probs([condition] * 4, values, draw=[0] * 4).policy.detach()
        torch.testing.assert_close(log_probs, torch.tensor([it.log_prob for it in candidates]), rtol=1e-4, atol=1e-4)
        assert len(set(values)) == 4
        assert log_probs.tolist() == sorted(log_probs.tolist(), reverse=True)


def test_gradients_reach_the_adapter_and_the_reference_stands_still(load: Load) -> None:
    model = load()
    before = model.log_probs(CONDITIONS, model.sample(CONDITIONS, seeds=[0, 1, 2]), draw=[0] * 3).reference
    values = model.sample(CONDITIONS, seeds=[0, 1, 2])
    disturb(model)
    policy, reference = model.log_probs(CONDITIONS, values, draw=[0] * 3)
    policy.sum().backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in model.trainable_parameters())
    torch.testing.assert_close(reference, before, rtol=0, atol=0)
    assert (policy - reference).abs().max() > 1e-3
    model.reset()
    torch.testing.assert_close(model.log_probs(CONDITIONS, values, draw=[0] * 3).policy.detach(), before)


def test_what_is_saved_is_loaded(load: Load, tmp_path: Path) -> None:
    model, again = load(), load()
    disturb(model)
    values = model.sample(CONDITIONS, seeds=[0, 1, 2])
    model.save(tmp_path / "adapter")
    again.load(tmp_path / "adapter")
    for one, other in zip(*(it.log_probs(CONDITIONS, values, draw=[0] * 3) for it in (model, again)), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_merged_it_says_the_same(load: Load, tmp_path: Path) -> None:
    model = load(temperature=0.0)
    disturb(model)
    model.save_model(tmp_path / "merged", merged=True)
    plain = VisionLanguageModel.from_pretrained(tmp_path / "merged", lora=None, template=TEMPLATE, max_new_tokens=3)
    values = model.sample(CONDITIONS, seeds=[0, 1, 2])
    torch.testing.assert_close(
        plain.log_probs(CONDITIONS, values, draw=[0] * 3).policy,
        model.log_probs(CONDITIONS, values, draw=[0] * 3).policy.detach(),
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.parametrize("adapted", [False, True])
def test_the_program_of_its_card_completes_as_it_does(
    load: Load, tmp_path: Path, adapted: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(temperature=0.0)
    disturb(model)
    model.save_model(tmp_path / "model", merged=not adapted)
    model.save_adapter(tmp_path / "adapter", base=str(tmp_path / "model"))
    text, image = CONDITIONS[2]
    image.save(tmp_path / "picture_1.png")
    monkeypatch.chdir(tmp_path)
    usage = model.usage((text, image), model="model", adapter="adapter" if adapted else None)
    exec(usage.code, {})
    assert capsys.readouterr().out.strip().splitlines()[-1] == str(model.sample([(text, image)], seeds=[0])[0])


def test_a_chat_template_says_where_a_picture_stands(tmp_path: Path) -> None:
    folder = save_llava(tmp_path / "chat", chat=True)
    model = VisionLanguageModel.from_pretrained(folder, lora=None, template="cat {0} dog {1}", max_new_tokens=3)
    prompt = model.encode_prompt((picture(1), "runs"))
    assert prompt.text == "<s> cat  <image>  dog runs "
    assert model.sample([(picture(1), "runs")], seeds=[0])


def test_a_text_that_holds_the_mark_shows_no_picture(load: Load) -> None:
    model = load()
    prompt = model.encode_prompt(("<image> cat \x000\x00", picture(1)))
    assert prompt.text == "<image> big < image> cat 0"
    assert model.encode_prompt((Completion("<image>", (1,)), picture(1))).text == "<image> big < image>"
    assert model.sample([("<image> cat", picture(1))], seeds=[0])
    assert not set(model.value_of("<image> cat").tokens) & set(model._marks)


def test_a_template_must_show_every_picture(load: Load) -> None:
    with pytest.raises(
        UserError, match=r"template: 'big \{0\}' should show every picture of the node's inputs: \['\{1"
    ):
        load(template="big {0}").sample(CONDITIONS, seeds=[0, 1, 2])


def test_a_prompt_beyond_the_context_is_refused(load: Load) -> None:
    with pytest.raises(UserError, match="more than the 96 that the model"):
        load(max_new_tokens=95).sample(CONDITIONS, seeds=[0, 1, 2])


def test_nodes_of_one_model_show_pictures_where_their_templates_say(load: Load) -> None:
    model = load(template=None)
    nodes = [
        Node("before", model, ["text", "image"], template="{image} cat {text}"),
        Node("after", model, ["image", "before"], template="{before} dog {image}"),
    ]
    system = System(["text", "image"], nodes)
    inputs = {"text": ["runs", "sleeps"], "image": [picture(3), picture(220)]}
    drawn = system.sample(inputs, seeds=[0, 1])
    assert [model.encode_prompt(row).text for row in conditions_of(system.nodes[0], drawn)] == [
        "<image> cat runs",
        "<image> cat sleeps",
    ]
    expected = sum(
        model.log_probs(conditions_of(node, drawn), drawn[node.name], draw=[0, 0]).policy for node in system.nodes
    )
    torch.testing.assert_close(system.log_probs(drawn, draw=[0, 0])["before"].policy, expected)


def test_a_model_that_reads_texts_refuses_a_picture(language: LanguageModel) -> None:
    with pytest.raises(UserError, match="a picture cannot be read as a text"):
        language.sample([(picture(1),)], seeds=[0])
    with pytest.raises(UserError, match="a picture cannot be read as a text"):
        language.sample([(Interleaved(("cat", picture(1))),)], seeds=[0])


def test_gradient_checkpointing_changes_nothing(load: Load) -> None:
    values = [Completion("", (4, 5, 2))] * 3
    grads = []
    for checkpointing in (False, True):
        model = load(gradient_checkpointing=checkpointing)
        disturb(model)
        model.log_probs(CONDITIONS, values, draw=[0] * 3).policy.sum().backward()
        grads.append([weight.grad for weight in model.trainable_parameters()])
    torch.testing.assert_close(*grads, rtol=1e-5, atol=1e-6)


def test_what_cannot_be_is_refused(load: Load, language_folder: Path) -> None:
    with pytest.raises(UserError, match="sharded: true should be false"):
        load(sharded=True)
    with pytest.raises(UserError, match="cannot be loaded"):
        VisionLanguageModel.from_pretrained(language_folder, lora=None)


def test_the_program_of_a_chat_has_the_system_message_and_what_the_template_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_llava(tmp_path / "chat", chat=True)
    model = VisionLanguageModel.from_pretrained(
        folder,
        lora=ALL_LINEAR,
        template="{0} {1}",
        system_prompt="big {1}",
        chat_template_kwargs={"mood": "red"},
        temperature=0.0,
        max_new_tokens=3,
    )
    disturb(model)
    condition = (picture(7), "runs")
    assert model.encode_prompt(condition).text == "<s> big runs <s> <image>  runs red "
    model.save_model(tmp_path / "model", merged=True)
    condition[0].save(tmp_path / "picture_1.png")
    monkeypatch.chdir(tmp_path)
    exec(model.usage(condition, model="model").code, {})
    assert capsys.readouterr().out.strip().splitlines()[-1] == str(model.sample([condition], seeds=[0])[0])

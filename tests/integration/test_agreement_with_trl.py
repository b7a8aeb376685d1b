"""DPO on one language model is TRL's: log-probabilities, losses, and the gradient a training step takes."""

import copy
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from tiny_models import LANGUAGE_LORA, perturb
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer

from sysdpo.components.language import LanguageModel
from sysdpo.method.component import LogProbs
from sysdpo.method.intermediates import BatchLogProbs
from sysdpo.method.settings import MethodSettings
from sysdpo.method.training import pair_loss
from sysdpo.method.values import Completion

PROMPTS = ["cat", "big red cat runs", "dog sleeps"]
CHOSEN = [" runs big", " sleeps", " red cat runs small dog"]
REJECTED = [" dog", " runs runs blue", " big"]
BETA, LEARNING_RATE = 0.7, 0.05


def trl_trainer(model, reference, tokenizer, folder: Path, **settings) -> DPOTrainer:
    arguments = DPOConfig(
        output_dir=str(folder),
        per_device_train_batch_size=3,
        beta=BETA,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        disable_tqdm=True,
        max_grad_norm=1e9,
        **settings,
    )
    pairs = Dataset.from_dict({"prompt": PROMPTS, "chosen": CHOSEN, "rejected": REJECTED})
    return DPOTrainer(model=model, ref_model=reference, args=arguments, train_dataset=pairs, processing_class=tokenizer)


def completions(language: LanguageModel) -> list[Completion]:
    texts = CHOSEN + REJECTED
    tokens = [language.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    end = language.tokenizer.eos_token_id
    return [Completion(text, (*each, end)) for text, each in zip(texts, tokens, strict=True)]


def our_log_probs(language: LanguageModel) -> LogProbs:
    return language.log_probs([(prompt,) for prompt in PROMPTS * 2], completions(language), draw=[0] * 6)


def our_loss(log_probs: LogProbs, lengths: torch.Tensor | None = None, **settings):
    method = MethodSettings(
        objective="only_writer", learning_rate={"writer": 1.0}, chosen_weight={"writer": 0.0}, beta=BETA, **settings
    )
    return pair_loss(BatchLogProbs({"writer": log_probs}, lengths={"writer": lengths}), method)


def plain_copy(language: LanguageModel) -> torch.nn.Module:
    """The policy as a model of its own, the adapter merged into its weights."""
    return copy.deepcopy(language.model).merge_and_unload().requires_grad_(True)


@pytest.mark.parametrize(
    ("trl", "ours"),
    [
        ({"loss_type": ["sigmoid"]}, {"link": "sigmoid"}),
        ({"loss_type": ["hinge"]}, {"link": "hinge"}),
        ({"loss_type": ["ipo"]}, {"link": "ipo", "length_normalized": True}),
        ({"loss_type": ["robust"], "label_smoothing": 0.2}, {"link": "robust", "label_smoothing": 0.2}),
    ],
)
def test_losses_and_log_probs_of_known_weights_agree(
    trl: dict, ours: dict, language: LanguageModel, language_folder: Path, tmp_path: Path
) -> None:
    perturb(language)
    reference = AutoModelForCausalLM.from_pretrained(language_folder)
    trainer = trl_trainer(plain_copy(language), reference, language.tokenizer, tmp_path, max_steps=1, **trl)
    trainer.train()
    logged = trainer.state.log_history[0]

    log_probs = our_log_probs(language)
    lengths = torch.tensor([float(len(each.tokens)) for each in completions(language)])
    loss, record = our_loss(log_probs, lengths, **ours)
    assert logged["loss"] == pytest.approx(loss.item(), rel=1e-3)
    assert logged["logps/chosen"] == pytest.approx(log_probs.policy[:3].mean().item(), abs=1e-3)
    assert logged["logps/rejected"] == pytest.approx(log_probs.policy[3:].mean().item(), abs=1e-3)
    assert logged["rewards/chosen"] == pytest.approx(BETA * record["chosen_writer"], abs=1e-3)
    assert logged["rewards/margins"] == pytest.approx(BETA * record["margin_writer"], abs=1e-3)
    assert logged["rewards/accuracies"] == pytest.approx(record["accuracy"], abs=1e-3)


def test_two_steps_of_training_an_adapter_agree(language: LanguageModel, language_folder: Path, tmp_path: Path) -> None:
    """TRL and our loss start from one adapter; after two steps of plain gradient descent the weights are equal."""
    theirs = copy.deepcopy(language)
    trainer = trl_trainer(
        theirs.model, None, AutoTokenizer.from_pretrained(language_folder), tmp_path, max_steps=2, optim="sgd"
    )
    trainer.train()

    optimizer = torch.optim.SGD(language.trainable_parameters(), lr=LEARNING_RATE)
    losses = []
    for _ in range(2):
        loss, _ = our_loss(our_log_probs(language))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    logged = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert losses[0] == pytest.approx(0.693147, abs=1e-6)
    assert losses[1] < losses[0] - 1e-3
    assert logged == pytest.approx(losses, rel=1e-3)
    for ours, trls in zip(language.trainable_parameters(), theirs.trainable_parameters(), strict=True):
        torch.testing.assert_close(trls, ours, rtol=1e-3, atol=1e-4)
    untouched = LanguageModel.from_pretrained(language_folder, lora=LANGUAGE_LORA)
    moved = zip(language.trainable_parameters(), untouched.trainable_parameters(), strict=True)
    assert any((ours - start).abs().max() > 1e-2 for ours, start in moved)

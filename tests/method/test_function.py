"""Deterministic nodes."""

from pathlib import Path

import torch

from sysdpo.method.function import Function
from sysdpo.method.values import Completion


def test_a_function_is_applied_to_all_parents_and_ignores_the_seed() -> None:
    joined = Function(lambda left, right: f"{left}-{right}")
    assert joined.sample([("a", "b"), ("c", "d")], seeds=[1, 2]) == ["a-b", "c-d"]
    assert joined.sample([("a", "b")], seeds=[9]) == ["a-b"]


def test_a_function_contributes_a_factor_of_one_and_has_nothing_to_train(tmp_path: Path) -> None:
    parser = Function(str.upper)
    policy, reference = parser.log_probs([("a",), ("b",)], ["A", "B"], draw=[0, 0])
    assert policy.tolist() == reference.tolist() == [0.0, 0.0]
    assert parser.trainable_parameters() == []
    parser.to(torch.device("cpu"))
    parser.rebase_reference()
    parser.save(tmp_path / "adapter")
    parser.load(tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()


def test_of_a_generated_text_a_function_gets_the_plain_text() -> None:
    said = Function(lambda text, number: (type(text), text + "!", number))
    assert said.sample([(Completion("yes", (4, 2)), 3)], seeds=[0]) == [(str, "yes!", 3)]

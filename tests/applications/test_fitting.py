"""The pretraining loop."""

import pytest
import torch

from sysdpo.applications.fitting import fit


class Point(torch.nn.Module):
    def __init__(self, position: float):
        super().__init__()
        self.position = torch.nn.Parameter(torch.tensor(position))


def test_the_loss_is_minimised_and_the_module_left_in_evaluation() -> None:
    point = Point(5.0)
    fit("point", point, lambda step: (point.position - 2.0) ** 2, steps=300, learning_rate=0.1)
    assert point.position.item() == pytest.approx(2.0, abs=0.05)
    assert not point.training


def test_averaging_replaces_the_last_weights_by_the_mean_of_the_path() -> None:
    last, mean = Point(5.0), Point(5.0)
    settings = {"steps": 40, "learning_rate": 0.1, "weight_decay": 0.0}
    fit("last", last, lambda step: last.position, **settings)
    fit("mean", mean, lambda step: mean.position, **settings, average=0.9)
    assert last.position.item() < mean.position.item() < 5.0


def test_every_step_is_taken_once() -> None:
    point, steps = Point(1.0), []

    def loss(step: int) -> torch.Tensor:
        steps.append(step)
        return point.position**2

    fit("point", point, loss, steps=7, learning_rate=0.1)
    assert steps == list(range(7))

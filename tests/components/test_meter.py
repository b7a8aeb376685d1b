"""Counting on the meta device agrees with arithmetic by hand and with torch's own counter."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from sysdpo.components.meter import Meter, Usage

FLOAT = 4


def measured(run) -> Usage:
    with torch.device("meta"):
        return Meter().measured(run)


def test_a_product_of_matrices_is_two_operations_for_each_of_its_terms() -> None:
    usage = measured(lambda: torch.empty(3, 5) @ torch.empty(5, 7))
    assert usage.flops == {torch.float32: 2 * 3 * 5 * 7}


def test_number_formats_are_counted_apart() -> None:
    half = torch.empty(4, 4, dtype=torch.bfloat16, device="meta")
    usage = measured(lambda: (half @ half, half.float() @ half.float()))
    assert usage.flops == {torch.bfloat16: 128, torch.float32: 128}


def test_the_peak_is_what_is_alive_at_once_and_not_what_was_made() -> None:
    def chain() -> torch.Tensor:
        value = torch.empty(1000)
        for _ in range(5):
            value = value.exp()
        return value

    usage = measured(chain)
    assert usage.peak == 2 * 1000 * FLOAT
    assert usage.kept == 1000 * FLOAT


def test_a_view_takes_no_memory() -> None:
    weight = torch.empty(100, 10, device="meta")
    assert measured(lambda: weight.t().reshape(10, 100)[:5]).peak == 0


@pytest.mark.parametrize("again", [False, True])
def test_an_operation_met_before_counts_as_at_first(again: bool) -> None:
    first, second = (measured(lambda: torch.empty(11, 13) @ torch.empty(13, 17)) for _ in range(2))
    assert first == second
    assert second.peak == (11 * 13 + 13 * 17 + 11 * 17) * FLOAT


def network() -> nn.Module:
    return nn.Sequential(*(nn.Sequential(nn.Linear(16, 64), nn.GELU(), nn.Linear(64, 16)) for _ in range(4)))


def test_forward_and_backward_take_as_many_operations_as_for_real() -> None:
    with torch.device("meta"):
        planned = network()
    usage = measured(lambda: planned(torch.empty(8, 16)).sum().backward())
    with FlopCounterMode(display=False) as counter:
        network()(torch.zeros(8, 16)).sum().backward()
    assert usage.total_flops == counter.get_total_flops()


def plain(blocks: nn.Module, value: torch.Tensor) -> torch.Tensor:
    return blocks(value)


def recomputed(blocks: nn.Module, value: torch.Tensor) -> torch.Tensor:
    for block in blocks.children():
        value = checkpoint(block, value, use_reentrant=False)
    return value


def forwards(through: Callable[..., torch.Tensor], blocks: nn.Module, value: torch.Tensor, kept: list) -> None:
    kept.append(through(blocks, value).sum())


def test_recomputed_activations_are_not_kept_but_counted_again() -> None:
    kept = {}
    for through in (plain, recomputed):
        loss: list[torch.Tensor] = []
        with torch.device("meta"):
            blocks, value = network(), torch.empty(256, 16, requires_grad=True)
        for weight in blocks.parameters():
            weight.grad = torch.zeros_like(weight)
        meter = Meter(blocks)
        forward = meter.measured(partial(forwards, through, blocks, value, loss))
        backward = meter.measured(lambda kept=loss: kept[0].backward())
        kept[through] = forward.kept
        with FlopCounterMode(display=False) as counter:
            through(network(), torch.zeros(256, 16, requires_grad=True)).sum().backward()
        assert forward.total_flops + backward.total_flops == counter.get_total_flops()
    assert kept[recomputed] < kept[plain] / 5


def test_weights_in_another_format_for_a_while_take_no_more_afterwards() -> None:
    with torch.device("meta"):
        module = nn.Linear(100, 100).to(torch.bfloat16)
    usage = Meter(module).measured(lambda: module.float().bfloat16())
    assert usage.kept == 0
    assert 100 * 100 * 2 < usage.peak <= 100 * 100 * 4 + 400


def test_what_is_moved_to_the_host_takes_no_memory() -> None:
    def move() -> torch.Tensor:
        return torch.empty(1000).cpu()

    usage = measured(move)
    assert (usage.peak, usage.kept) == (1000 * FLOAT, 0)


def test_numbers_of_real_tensors_are_left_alone() -> None:
    value = torch.arange(5.0)
    Meter().measured(lambda: value + 1)
    found = []
    Meter().measured(lambda: found.append(value + 1))
    assert found[0].tolist() == [1, 2, 3, 4, 5]


def test_attention_never_holds_all_its_weights() -> None:
    length, width = 512, 8
    query = torch.empty(1, 2, length, width, device="meta")
    usage = measured(lambda: functional.scaled_dot_product_attention(query, query, query, is_causal=True))
    assert usage.peak < length * length * FLOAT
    assert usage.total_flops == 2 * (2 * 2 * length * length * width)


def test_attention_with_fewer_keys_than_queries_costs_the_same() -> None:
    query, few = torch.empty(1, 8, 32, 4, device="meta"), torch.empty(1, 2, 32, 4, device="meta")
    usage = measured(lambda: functional.scaled_dot_product_attention(query, few, few, enable_gqa=True))
    assert usage.total_flops == 8 * (2 * 2 * 32 * 32 * 4)


def test_usages_one_after_the_other() -> None:
    one = Usage({torch.float32: 10}, peak=5, kept=2, read=1)
    two = Usage({torch.float32: 1, torch.bfloat16: 3}, peak=7, kept=1)
    assert one + two == Usage({torch.float32: 11, torch.bfloat16: 3}, peak=7, kept=1, read=1)
    assert one.times(3) == Usage({torch.float32: 30}, peak=5, kept=2, read=3)

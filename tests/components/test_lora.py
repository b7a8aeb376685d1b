"""Adapters folded, merged and switched off compute what PEFT's own layers compute."""

from collections.abc import Callable

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from sysdpo.base.errors import UserError
from sysdpo.components.loading import add_lora
from sysdpo.components.lora import fold_into_small, merged, without_adapter


class Net(nn.Module):
    """A small layer, and one that is too wide to be folded."""

    def __init__(self) -> None:
        super().__init__()
        self.small, self.wide = nn.Linear(16, 24), nn.Linear(24, 400, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.wide(torch.tanh(self.small(x)))


def network(*, trained: bool, **lora: object) -> nn.Module:
    torch.manual_seed(0)
    model = get_peft_model(Net(), LoraConfig(r=4, lora_alpha=12, target_modules=["small", "wide"], **lora))
    for name, weight in model.named_parameters():
        if trained and "lora_B" in name:
            nn.init.normal_(weight, std=0.3)
    return model


X = torch.randn(50, 16, generator=torch.Generator().manual_seed(1))


def gradients(model: nn.Module) -> dict[str, Tensor]:
    model.zero_grad()
    model(X).square().mean().backward()
    return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


def test_a_folded_layer_has_the_same_output_and_gradients() -> None:
    plain, folded = network(trained=True), network(trained=True)
    fold_into_small(folded)
    layers = folded.base_model.model
    assert "forward" in vars(layers.small)
    assert "forward" not in vars(layers.wide)
    torch.testing.assert_close(folded(X), plain(X))
    ours, theirs = gradients(folded), gradients(plain)
    assert ours.keys() == theirs.keys()
    assert len(ours) == 4
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("layout", ["contiguous", "strided"])
def test_a_folded_layer_that_has_learnt_nothing_is_the_base_to_the_bit(layout: str) -> None:
    model = network(trained=False)
    fold_into_small(model)
    x = torch.randn(40, 16, 90, generator=torch.Generator().manual_seed(2)).transpose(1, 2)
    x = x.contiguous() if layout == "contiguous" else x
    policy = model(x)
    with torch.no_grad(), without_adapter(model):
        assert torch.equal(model(x), policy)


def test_without_its_adapter_a_network_is_its_base() -> None:
    model = network(trained=True)
    with torch.no_grad():
        policy = model(X)
        with model.disable_adapter():
            base = model(X)
        with without_adapter(model):
            assert torch.equal(model(X), base)
            with without_adapter(model):
                pass
            assert torch.equal(model(X), base)
        assert torch.equal(model(X), policy)
    assert not torch.allclose(policy, base)
    assert all(weight.requires_grad for name, weight in model.named_parameters() if "lora" in name)


@pytest.mark.parametrize("fold", [fold_into_small, lambda model: None], ids=["folded", "apart"])
def test_merged_weights_give_the_policy_and_go_back_to_the_bit(fold: Callable[[nn.Module], None]) -> None:
    model = network(trained=True)
    fold(model)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    with torch.no_grad():
        policy = model(X)
        with merged(model):
            assert not torch.equal(model.base_model.model.small.base_layer.weight, before_of(before, "small"))
            torch.testing.assert_close(model(X), policy)
        assert torch.equal(model(X), policy)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


def before_of(state: dict[str, Tensor], layer: str) -> Tensor:
    return next(weight for name, weight in state.items() if name.endswith(f"{layer}.base_layer.weight"))


@pytest.mark.parametrize("case", ["half precision", "dora", "two adapters", "switched off"])
def test_what_cannot_be_merged_exactly_is_left_apart(case: str) -> None:
    model = network(trained=True, use_dora=case == "dora")
    if case == "half precision":
        model.to(torch.bfloat16)
    if case == "two adapters":
        model.add_adapter("other", model.peft_config["default"])
        model.base_model.set_adapter(["default", "other"])
    shipped = model.base_model.model.small.base_layer.weight.clone()
    with without_adapter(model) if case == "switched off" else merged(model), merged(model):
        assert torch.equal(model.base_model.model.small.base_layer.weight, shipped)


def test_a_layer_that_cannot_be_merged_leaves_none_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network(trained=True)
    shipped = model.base_model.model.small.base_layer.weight.clone()
    monkeypatch.setattr(model.base_model.model.wide, "get_delta_weight", lambda name: torch.zeros(3))
    with pytest.raises(RuntimeError), merged(model):
        pass
    assert torch.equal(model.base_model.model.small.base_layer.weight, shipped)
    assert not model.base_model.model.small.merged


@pytest.mark.parametrize("more", [{"modules_to_save": ["wide"]}, {"trainable_token_indices": [1]}])
def test_weights_that_cannot_be_switched_off_are_refused(more: dict) -> None:
    name = next(iter(more))
    with pytest.raises(UserError, match=rf"lora.{name}: .* should be left out, because the reference"):
        add_lora(lambda lora: lora, LoraConfig(target_modules=["small"], **more))


def test_an_error_while_merged_leaves_the_weights_as_they_were() -> None:
    model = network(trained=True)
    shipped = model.base_model.model.small.base_layer.weight.clone()
    with pytest.raises(RuntimeError), torch.no_grad(), merged(model):
        model(torch.zeros(1, 3))
    assert torch.equal(model.base_model.model.small.base_layer.weight, shipped)
    assert not model.base_model.model.small.merged

"""A network of like layers, of which a few are met, takes what all of them take."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from sysdpo.plan import depth, language
from sysdpo.plan.language import Lengths

LENGTHS = Lengths(shared=20, prompt=30, completion=10)


def network(recomputed: bool) -> Any:
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 9}
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(vocab_size=50, hidden_size=16, intermediate_size=40, **heads))
        if recomputed:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.requires_grad_(False)
        lora = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules="all-linear")
        return get_peft_model(model, lora).eval()


@pytest.mark.parametrize("recomputed", [False, True])
@pytest.mark.parametrize(
    "measure",
    [
        lambda model, shared: language.gradients(model, Lengths(shared, 30, 10), 2),
        lambda model, shared: language.forward(model, Lengths(shared, 30, 10), adapted=True),
        lambda model, shared: language.prefill(model, Lengths(shared, 30, 10)),
        lambda model, shared: (language.decoding(model, 40),),
    ],
    ids=["gradients", "forward", "prefill", "decoding"],
)
def test_few_layers_tell_what_all_take(
    measure: Callable[..., Any], recomputed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = 0 if recomputed else 20
    told = measure(network(recomputed), shared)
    monkeypatch.setattr(depth, "_are_alike", lambda decoder: False)
    for few, all_layers in zip(told, measure(network(recomputed), shared), strict=True):
        assert few.flops == pytest.approx(all_layers.flops)
        assert (few.peak, few.kept) == pytest.approx((all_layers.peak, all_layers.kept), rel=0.01)


def test_layers_of_several_kinds_are_all_met() -> None:
    model = network(False)
    decoder = model.get_base_model().get_decoder()
    assert depth._are_alike(decoder)
    decoder.layers[3].mlp = torch.nn.Linear(16, 16, device="meta")
    assert not depth._are_alike(decoder)


def test_the_network_is_whole_again() -> None:
    model = network(False)
    language.prefill(model, LENGTHS)
    decoder = model.get_base_model().get_decoder()
    assert len(decoder.layers) == decoder.config.num_hidden_layers == 9

"""What a language model at a node is planned to take, as it is used."""

import pytest
import tiny_decoders
from peft import LoraConfig, get_peft_model

from sysdpo.base.errors import UserError
from sysdpo.base.settings import LanguageModelSettings
from sysdpo.plan.language import LanguagePlan, Lengths

LENGTHS = Lengths(shared=20, prompt=40, completion=8)


def plan(name: str, **settings) -> LanguagePlan:
    network = tiny_decoders.decoder(name).requires_grad_(False).to("meta")
    adapted = get_peft_model(network, LoraConfig(task_type="CAUSAL_LM", **tiny_decoders.lora(name)))
    return LanguagePlan(adapted, LanguageModelSettings(lora=tiny_decoders.lora(name), **settings), LENGTHS, LENGTHS)


@pytest.mark.parametrize(("name", "shared"), [("Llama", 20), ("Mistral", 0), ("Gemma 2", 0)])
def test_a_shared_prefix_is_read_once_where_the_cache_allows_it(name: str, shared: int) -> None:
    assert plan(name).typical.shared == plan(name).longest.shared == shared


def test_split_weights_are_called_for_every_row_s_whole_prompt() -> None:
    once, split = (sum(plan("Llama", sharded=sharded).training(4).plain.flops.values()) for sharded in (False, True))
    assert split > 1.2 * once


def test_what_a_component_refuses_is_not_planned() -> None:
    with pytest.raises(UserError, match="should be a causal language model"):
        plan("GPT")

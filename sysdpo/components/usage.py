"""Programs that load an exported model without this library, as a model card prints them."""

from collections.abc import Mapping, Sequence
from typing import Any

from sysdpo.method.component import Usage

ROUNDED = (
    "The adapter is added to the weights in their own precision, {dtype}; that rounds, and outputs may differ from the "
    "system's."
)
MERGED_TEXT = (
    "Log-probabilities agree with the system's to about 1e-5 nats; they are the same to the bit where all layers are "
    "small (no wider than a few times the adapter's rank), so that the system, too, multiplies by the merged weight, "
    "and where model and system compute with the numerics under which the weights were merged."
)
APART_TEXT = (
    "Here the adapter is added behind each layer, while the system adds it to a small layer's weight: "
    "log-probabilities agree to about 1e-5 nats."
)
EXACT_PICTURES = "With the same generator the pictures are the system's own, pixel by pixel."


def language_usage(
    prompt: str | Sequence[Mapping[str, str]],
    *,
    model: str,
    adapter: str | None,
    behind: int,
    chat_template_kwargs: Mapping[str, Any],
    generation: Mapping[str, Any],
    rounds_to: str | None,
) -> Usage:
    """How to complete a prompt greedily with a language model.

    prompt: a text or the messages of a chat. model, adapter: folders. behind: the number of tokens that the tokenizer
    puts behind a text, which a prompt must not have. generation: keywords of `generate`. rounds_to: the precision of
    the weights if it is not float32.
    """
    if adapter is None:
        library, loader, kind, path = "transformers", "transformers", "AutoModelForCausalLM", model
        imports = ["from transformers import AutoModelForCausalLM, AutoTokenizer"]
    else:
        library, loader, kind, path = "peft", "peft", "AutoPeftModelForCausalLM", adapter
        imports = [f"from {loader} import {kind}", "from transformers import AutoTokenizer"]
    keywords = "".join(f", {name}={value!r}" for name, value in generation.items())
    if isinstance(prompt, str):
        cut = f"[:, :-{behind}]" if behind else ""
        tokens = f'tokenizer({prompt!r}, return_tensors="pt").input_ids{cut}'
    else:
        told = "".join(f", {name}={value!r}" for name, value in chat_template_kwargs.items())
        render = "tokenizer.apply_chat_template"
        fixed = 'add_generation_prompt=True, return_dict=False, return_tensors="pt"'
        tokens = f"{render}({[dict(message) for message in prompt]!r}, {fixed}{told})"
    dtype = f', dtype="{rounds_to}"' if rounds_to else ""
    lines = [
        *imports,
        "",
        f'tokenizer, model = AutoTokenizer.from_pretrained("{model}"), {kind}.from_pretrained("{path}"{dtype})',
        f"prompt = {tokens}",
        "completion = model.generate(input_ids=prompt, attention_mask=prompt.new_ones(prompt.shape), do_sample=False"
        f"{keywords})[0, prompt.shape[1] :]",
        "print(tokenizer.decode(completion, skip_special_tokens=True))",
    ]
    if rounds_to:
        exactness = ROUNDED.format(dtype=rounds_to) if adapter is None else APART_TEXT
    else:
        exactness = MERGED_TEXT if adapter is None else APART_TEXT
    return Usage(library, "text-generation", "\n".join(lines), exactness)


def seeing_usage(
    prompt: str,
    *,
    pictures: int,
    chat: Sequence[Mapping[str, Any]] | None,
    chat_template_kwargs: Mapping[str, Any],
    model: str,
    adapter: str | None,
    generation: Mapping[str, Any],
    rounds_to: str | None,
) -> Usage:
    """Of a vision-language model: its greedy completion of a prompt with so many pictures.

    chat: the messages, where there is a chat template. Otherwise as `language_usage`.
    """
    dtype = f', dtype="{rounds_to}"' if rounds_to else ""
    keywords = "".join(f", {name}={value!r}" for name, value in generation.items())
    lines = ["from PIL import Image", "from transformers import AutoModelForImageTextToText, AutoProcessor"]
    lines += ["from peft import PeftModel"] if adapter is not None else []
    lines += ["", f'processor = AutoProcessor.from_pretrained("{model}")']
    lines += [f'model = AutoModelForImageTextToText.from_pretrained("{model}"{dtype})']
    lines += [f'model = PeftModel.from_pretrained(model, "{adapter}")'] if adapter is not None else []
    files = [f"picture_{number}.png" for number in range(1, pictures + 1)]
    lines += [f"pictures = [Image.open(file) for file in {files!r}]"] if files else []
    if chat is None:
        lines += [f"text = {prompt!r}"]
    else:
        told = "add_generation_prompt=True, tokenize=False"
        told += "".join(f", {name}={value!r}" for name, value in chat_template_kwargs.items())
        lines += [f"text = processor.apply_chat_template({[dict(message) for message in chat]!r}, {told})"]
    seen = ", images=pictures" if files else ""
    special = "" if chat is None else ", add_special_tokens=False"
    lines += [f'inputs = processor(text=text{seen}, return_tensors="pt"{special})']
    lines += [f"output = model.generate(**inputs, do_sample=False{keywords})[0, inputs['input_ids'].shape[1] :]"]
    lines += ["print(processor.decode(output, skip_special_tokens=True))"]
    if adapter is not None:
        exactness = APART_TEXT
    else:
        exactness = ROUNDED.format(dtype=rounds_to) if rounds_to else MERGED_TEXT
    return Usage("transformers" if adapter is None else "peft", "image-text-to-text", "\n".join(lines), exactness)


def classifier_usage(
    shown: str | None, *, model: str, adapter: str | None, kind: str, temperature: float, rounds_to: str | None
) -> Usage:
    """Of a classifier of transformers (`kind`, its auto class): the probability of each label.

    shown: the text, or None where it sees a picture. temperature: of the draw; 0 takes the likeliest.
    """
    sees = shown is None
    reader = "AutoImageProcessor" if sees else "AutoTokenizer"
    dtype = f', dtype="{rounds_to}"' if rounds_to else ""
    lines = ["from PIL import Image"] if sees else []
    lines += [f"from transformers import {', '.join(sorted((reader, kind)))}"]
    lines += ["from peft import PeftModel"] if adapter is not None else []
    lines += ["", f'reader, model = {reader}.from_pretrained("{model}"), {kind}.from_pretrained("{model}"{dtype})']
    lines += [f'model = PeftModel.from_pretrained(model, "{adapter}")'] if adapter is not None else []
    read = 'Image.open("picture.png").convert("RGB")' if sees else repr(shown)
    scaled = f" / {temperature!r}" if temperature not in (0, 1) else ""
    lines += [
        f'logits = model(**reader({read}, return_tensors="pt")).logits[0]{scaled}',
        "print({model.config.id2label[n]: float(p) for n, p in enumerate(logits.softmax(-1))})",
    ]
    task = "image-classification" if sees else "text-classification"
    exactness = ROUNDED.format(dtype=rounds_to) if rounds_to else APART_TEXT if adapter else MERGED_TEXT
    return Usage("transformers" if adapter is None else "peft", task, "\n".join(lines), exactness)


def picture_usage(
    prompt: str,
    *,
    model: str,
    adapter: str | None,
    sampling: Mapping[str, Any],
    has_code: bool,
    rounds_to: str | None,
) -> Usage:
    """How to draw one picture of a prompt with a diffusers pipeline.

    model, adapter: folders. sampling: keywords of the pipeline's call. has_code: whether its folder has the source of
    its classes. rounds_to: the precision of the weights if it is not float32.
    """
    told = f", dtype=torch.{rounds_to}" if rounds_to else ""
    told += ", trust_remote_code=True" if has_code else ""
    keywords = "".join(f", {name}={value!r}" for name, value in sampling.items())
    lines = ["import torch", "from diffusers import DiffusionPipeline", ""]
    lines += [f'pipeline = DiffusionPipeline.from_pretrained("{model}"{told})']
    if adapter is not None:
        lines += [f'pipeline.load_lora_weights("{adapter}")', "pipeline.fuse_lora()"]
    lines += [
        f"image = pipeline({prompt!r}, generator=torch.Generator().manual_seed(0){keywords}).images[0]",
        'image.save("picture.png")',
    ]
    exactness = ROUNDED.format(dtype=rounds_to) if rounds_to else EXACT_PICTURES
    if has_code:
        exactness += (
            " `trust_remote_code=True` lets diffusers run the Python files of the folder, which define the pipeline's "
            "classes; they are short, read them first."
        )
    return Usage("diffusers", "text-to-image", "\n".join(lines), exactness)

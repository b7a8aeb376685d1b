"""Loading a diffusers pipeline completely, and refusing one whose training would not match how it draws."""

from collections.abc import Mapping, Sequence
from functools import partial
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline, ModelMixin, SD3Transformer2DModel, UNet2DConditionModel
from transformers import PreTrainedModel

from sysdpo.base.errors import UserError
from sysdpo.components.loading import check_whole, load_pretrained

INDEX = "model_index.json"
ADAPTERS = ("pytorch_lora_weights.safetensors", "adapter_config.json")
PREDICTIONS = ("epsilon", "v_prediction", "sample")
NOT_TEXT_ALONE = ("image", "mask_image", "control_image", "video")
"""What a pipeline's call takes that does not draw from a text alone."""


def load_pipeline(
    model: str | Path, *, revision: str | None, variant: str | None, pipeline: str, dtype: torch.dtype
) -> DiffusionPipeline:
    """A pipeline with all weights of all its parts.

    model: a hub id or a local folder. revision: commit or tag of a hub id. variant: which weight files, `fp16` for
    example. pipeline: its class as `module:name`. dtype: of the weights.

    Raises `UserError` if there is none, if a part lacks weights or has others (diffusers and transformers would draw
    these at random), or if there are adapters beside it, which would be ignored.
    """
    loader = _loader(pipeline)
    folder = Path(model)
    if not folder.is_dir():
        fetched: dict[str, Any] = {"revision": revision, "variant": variant}
        folder = Path(load_pretrained(loader.download, model, **fetched))
    index = load_pretrained(loader.load_config, folder)
    named = index.get("_class_name")
    travels = isinstance(named, (list, tuple))  # with the code of its classes, as `file, class`
    saved_as = named[-1] if travels else named
    if loader is not DiffusionPipeline and saved_as != loader.__name__:
        raise UserError(f"pipeline: '{pipeline}' should be what '{model}' was saved as, a {saved_as}")
    if travels and loader is DiffusionPipeline:
        raise UserError(
            f"pipeline: '{pipeline}' should name the class {saved_as} of an installed module for '{model}'; the code "
            "that lies in a model's folder is not run"
        )
    parts: dict[str, Any] = {}
    for name, described in index.items():
        is_part = isinstance(described, (list, tuple)) and not name.startswith("_")
        if is_part and described[0] is not None and name != "safety_checker":
            _refuse_adapters(folder / name)
            within = loader.__module__ if (folder / name / f"{described[0]}.py").is_file() else ""
            find = partial(_part_class, described, within)
            kind = load_pretrained(find, folder / INDEX)
            if isinstance(kind, type) and issubclass(kind, (ModelMixin, PreTrainedModel)):
                parts[name] = _load_part(kind, folder / name, variant, dtype)
    if variant and not any(file.match(f"*.{variant}.*") for file in folder.glob("*/*")):
        raise UserError(f"variant: '{variant}' should be one that '{model}' has files of")
    _refuse_adapters(folder)
    if "safety_checker" in index:
        # A black picture for one that it suspects is no sample of the model.
        parts |= {"safety_checker": None, "requires_safety_checker": False}
    if travels:
        return load_pretrained(partial(_assembled, loader, index, parts), folder)
    return load_pretrained(loader.from_pretrained, folder, dtype=dtype, **parts)


def _assembled(loader: Any, index: Mapping[str, Any], parts: dict[str, Any], folder: str) -> DiffusionPipeline:
    """The pipeline of these parts and the others in its index; diffusers would run the code in the folder."""
    for name, described in index.items():
        if name.startswith("_") or name in parts:
            continue
        is_part = isinstance(described, (list, tuple)) and len(described) == 2
        kind = part_class(described) if is_part and described[0] is not None else None
        parts[name] = kind.from_pretrained(Path(folder) / name) if kind else None if is_part else described
    return loader(**parts)


def _part_class(described: Sequence[str], within: str, _: str) -> Any:
    """As `part_class`; for a part with code in its folder, the class in a module beside the pipeline's own."""
    if not within:
        return part_class(described)
    try:
        return getattr(import_module(f"{within.rpartition('.')[0]}.{described[0]}"), described[1])
    except ImportError as error:
        raise ValueError(f"{within} should have a module '{described[0]}' beside it") from error


def part_class(described: Sequence[str]) -> Any:
    """The class that a pipeline's index names as `[library, class]`."""
    library, name = described
    module = import_module(library) if "." in library or library in ("diffusers", "transformers") else None
    if module is None or not hasattr(module, name):
        module = import_module(f"diffusers.pipelines.{library}")
    return getattr(module, name)


def check_supported(pipeline: DiffusionPipeline, model: str | Path) -> None:
    """Raises `UserError` unless the pipeline can be trained as it draws.

    It must draw from a text alone, by a denoiser, an autoencoder and a schedule whose training objective is known.
    """
    parameters = signature(pipeline.__call__).parameters
    denoiser: Any = getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)
    vae, scheduler = getattr(pipeline, "vae", None), getattr(pipeline, "scheduler", None)
    faults: list[str] = []
    extra = [name for name in NOT_TEXT_ALONE if name in parameters]
    if "prompt" not in parameters or extra:
        needs = f", which takes {extra[0]}" if extra else ""
        faults.append(f"its pipeline is a {type(pipeline).__name__}{needs}, not one from text to image")
    if not hasattr(pipeline, "encode_prompt"):
        faults.append(f"its pipeline, {type(pipeline).__name__}, has no encode_prompt")
    if type(denoiser) not in (UNet2DConditionModel, SD3Transformer2DModel):
        faults.append(
            f"its denoiser is a {type(denoiser).__name__}, not a UNet2DConditionModel or an SD3Transformer2DModel"
        )
    else:
        config = denoiser.config
        faults += _denoiser_faults(config) + _schedule_faults(scheduler) + _autoencoder_faults(vae, config.in_channels)
    if faults:
        raise UserError(f"model: '{model}' should be a text-to-image pipeline that can be aligned, but {faults[0]}")


def _denoiser_faults(config: Mapping[str, Any]) -> list[str]:
    faults = []
    if config["in_channels"] != config["out_channels"]:
        faults.append(
            f"its denoiser reads {config['in_channels']} channels and predicts {config['out_channels']}, as for "
            "inpainting or with a learned variance"
        )
    if config.get("time_cond_proj_dim"):
        faults.append("its denoiser was distilled for few steps and reads the guidance scale (time_cond_proj_dim)")
    if config.get("addition_embed_type") not in (None, "text_time"):
        faults.append(f"its denoiser reads an addition of type '{config['addition_embed_type']}'")
    if config.get("class_embed_type") or config.get("num_class_embeds") or config.get("encoder_hid_dim_type"):
        faults.append("its denoiser reads classes or images besides the text")
    return faults


def _schedule_faults(scheduler: Any) -> list[str]:
    config, name = scheduler.config, type(scheduler).__name__
    if name == "LCMScheduler":
        return [f"its scheduler, {name}, samples a model that was distilled for few steps"]
    if "prediction_type" not in config:
        flow = hasattr(scheduler, "sigmas") and hasattr(scheduler, "timesteps") and name.startswith("FlowMatch")
        return [] if flow else [f"its scheduler, {name}, is of no known kind"]
    if config["prediction_type"] not in PREDICTIONS:
        return [f"its scheduler predicts '{config['prediction_type']}', not one of {list(PREDICTIONS)}"]
    if not hasattr(scheduler, "alphas_cumprod") or "sigma_data" in config:
        return [f"its scheduler, {name}, scales what the denoiser reads in another way (EDM)"]
    return []


def _autoencoder_faults(vae: Any, channels: int) -> list[str]:
    config = getattr(vae, "config", {})
    if not hasattr(vae, "encode") or "scaling_factor" not in config or type(vae).__name__ == "AutoencoderTiny":
        return [f"its autoencoder, {type(vae).__name__}, gives no distribution of latents"]
    if config.get("latent_channels", channels) != channels:
        return [f"its autoencoder has {config['latent_channels']} channels and its denoiser reads {channels}"]
    return []


def _loader(pipeline: str) -> Any:
    module, _, name = pipeline.partition(":")
    try:
        loader = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"pipeline: '{pipeline}' should name a pipeline's class as module:name, 'diffusers:DiffusionPipeline' say "
            f"({error})"
        ) from error
    if not (isinstance(loader, type) and issubclass(loader, DiffusionPipeline)):
        raise UserError(f"pipeline: '{pipeline}' should be a DiffusionPipeline, which {name} is not")
    return loader


def _load_part(kind: Any, folder: Path, variant: str | None, dtype: torch.dtype) -> Any:
    settings: dict[str, Any] = {"dtype": dtype}
    # As the pipeline's own loader does: a part without files of the variant has its plain ones.
    if variant and any(f".{variant}." in file.name for file in folder.glob("*")):
        settings["variant"] = variant
    network, found = load_pretrained(kind.from_pretrained, folder, output_loading_info=True, **settings)
    check_whole(network, found, folder)
    return network


def _refuse_adapters(folder: Path) -> None:
    if found := [name for name in ADAPTERS if (folder / name).is_file()]:
        raise UserError(
            f"model: '{folder}' should be a whole model, but holds the adapter '{found[0]}', which would be passed "
            "over; fuse it into the weights and save those"
        )

"""The models of a system as the plan has them: networks without weights, with their adapters."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from peft import LoraConfig, get_peft_model

from sysdpo.base.errors import UserError
from sysdpo.components.loading import add_lora
from sysdpo.components.settings import DiffusionSettings, LanguageModelSettings
from sysdpo.plan.diffusion import DiffusionPlan, image_size
from sysdpo.plan.foundation import Made
from sysdpo.plan.language import LanguagePlan
from sysdpo.plan.lengths import Texts
from sysdpo.plan.models import config_folder, language_network, networks_of, pipeline_networks

ComponentPlan = LanguagePlan | DiffusionPlan


def component_plans(benchmark: Any, made: Mapping[str, Made], texts: Texts, where: str) -> dict[str, ComponentPlan]:
    """Every model of the system, in the order of its components; `UserError` where a model's configs are not known."""
    plans: dict[str, ComponentPlan] = {}
    for name, settings in benchmark.components.items():
        if isinstance(settings, DiffusionSettings):
            plans[name] = _diffusion(settings, made.get(name), f"{where}.components.{name}")
        elif isinstance(settings, LanguageModelSettings):
            network = _language(settings, texts.made_for(name), f"{where}.components.{name}")
            plans[name] = LanguagePlan(network, settings, texts.typical(name), texts.longest(name))
    return plans


def _language(settings: LanguageModelSettings, made: Made | None, where: str) -> Any:
    network = _model(settings, made, where, language_network).to(getattr(torch, settings.dtype))
    if settings.gradient_checkpointing:
        network.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    network.requires_grad_(False)
    config = LoraConfig(task_type="CAUSAL_LM", lora_dropout=0.0, **settings.lora)
    with torch.device("meta"):
        return add_lora(partial(get_peft_model, network), config).eval()


def _diffusion(settings: DiffusionSettings, made: Made | None, where: str) -> DiffusionPlan:
    pipeline = _model(settings, made, where, pipeline_networks)
    for network in networks_of(pipeline):
        network.requires_grad_(False).to(getattr(torch, settings.dtype)).eval()
    denoiser = pipeline.denoiser
    with torch.device("meta"):
        add_lora(partial(denoiser.add_adapter, adapter_name="default"), LoraConfig(lora_dropout=0.0, **settings.lora))
    for weight in denoiser.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()
    if settings.gradient_checkpointing:
        denoiser.enable_gradient_checkpointing()
    size = image_size(pipeline, settings.sampling)
    if settings.model is None and made is not None and made.size:
        size = (made.size, made.size)
    return DiffusionPlan(pipeline, settings, size)


def _model(settings: Any, made: Made | None, where: str, load: Any) -> Any:
    if settings.model is not None:
        return load(config_folder(settings.model, f"{where}.model"), settings.dtype)
    if made is None:
        raise UserError(
            f"{where}.model: null should be a hub id or a local folder; how this system makes foundation models of its "
            "own is not known to the plan"
        )
    return made.build()

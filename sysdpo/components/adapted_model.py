"""What all models of transformers share that are trained by PEFT: their adapter, its second copy, its files."""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from peft import LoraConfig, get_peft_model
from peft.utils import CONFIG_NAME
from torch import nn
from transformers import PreTrainedModel

from sysdpo.components.loading import add_lora, check_adapted, check_same_weights, load_pretrained
from sysdpo.components.lora import fold_into_small
from sysdpo.components.lora_component import POLICY, REFERENCE, LoraComponent
from sysdpo.components.recomputing import recomputed_layers


class AdaptedModel(LoraComponent):
    """A model of transformers with a LoRA adapter of PEFT, or frozen where `lora` is None.

    lora: arguments of PEFT's `LoraConfig`. task: its `task_type`; None is any.

    Raises `UserError` if `lora` does not fit the model, or if the model cannot do `gradient_checkpointing`.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        lora: Mapping[str, Any] | None,
        task: str | None,
        gradient_checkpointing: bool,
        sharded: bool,
    ):
        super().__init__(is_trained=lora is not None)
        self.sharded = sharded
        self._recomputed: list[nn.Module] = recomputed_layers(model) if gradient_checkpointing else []
        model.requires_grad_(False)
        self.model: Any = model
        if lora is not None:
            config = LoraConfig(task_type=task, lora_dropout=0.0, **lora)
            self.model = add_lora(partial(get_peft_model, model), config)
            check_adapted(self.model, lora["target_modules"])
            fold_into_small(self.model)
            self._remember_start()
        self.model.eval()  # dropout stays off in the policy too, or its log-ratio to the reference would be noise

    @property
    def network(self) -> Any:
        """The model."""
        return self.model

    def _remove_reference(self) -> None:
        self.model.delete_adapter(REFERENCE)

    def _add_reference(self) -> None:
        self.model.add_adapter(REFERENCE, self.model.peft_config[POLICY])

    def save(self, folder: Path) -> None:
        """Write the policy's adapter in PEFT's format (safetensors)."""
        settings = self.model.peft_config[POLICY]
        for name, value in vars(settings).items():
            if isinstance(value, set):  # has no order: sorted, equal adapters are equal files
                setattr(settings, name, sorted(value))
        self.model.save_pretrained(folder, selected_adapters=[POLICY], safe_serialization=True)

    def save_adapter(self, folder: Path, *, base: str) -> None:
        """Write the adapter as `save` does, with this name of its base model."""
        self.save(folder)
        (folder / "README.md").unlink(missing_ok=True)  # PEFT's card names the folder that the base came from
        settings = folder / CONFIG_NAME
        settings.write_text(json.dumps(json.loads(settings.read_text()) | {"base_model_name_or_path": base}, indent=2))

    def load(self, folder: Path) -> None:
        """Read an adapter in PEFT's format into the policy; raises `UserError` if it does not fit."""
        before = self._policy_shapes()
        self.model.delete_adapter(POLICY)
        load_pretrained(self.model.load_adapter, folder, adapter_name=POLICY, is_trainable=True, what="adapter")
        self.model.set_adapter(POLICY)
        check_same_weights(before, self._policy_shapes(), folder)

"""Models as other programs load them: without the adapter or with it in the weights, and with classes of their own."""

import copy
import inspect
import json
import shutil
import warnings
from pathlib import Path
from typing import Any

from peft import PeftModel

from sysdpo.base.errors import UserError
from sysdpo.components.lora import merge_folded
from sysdpo.components.pipelines import INDEX

SHIPPED = ("diffusers", "transformers")


def whole_language_model(model: Any, name: str, *, merged: bool) -> Any:
    """A copy of a causal language model without its adapter, or with it in its weights.

    name: of the model, for the error.

    Raises `UserError` if the weights are held in four bits: merging would round the adapter away.
    """
    if getattr(model, "is_quantized", False) or getattr(model, "is_loaded_in_4bit", False):
        raise UserError(
            f"load_in_4bit: true should be false for '{name}' to be exported whole; an adapter that was trained on "
            "four bits fits the whole weights"
        )
    network = copy.deepcopy(model)
    if not isinstance(network, PeftModel):
        return network
    if not merged:
        return network.unload()
    merge_folded(network)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it warns where all layers are merged, as the folded ones are
        return network.merge_and_unload()


def whole_denoiser(denoiser: Any, adapter: str, *, merged: bool) -> Any:
    """A copy of a pipeline's denoiser without its adapters, or with `adapter` in its weights.

    Merged weights are those that it draws with (`sysdpo.components.lora.merged`).
    """
    network = copy.deepcopy(denoiser)
    if not hasattr(network, "peft_config"):
        return network
    if merged:
        network.fuse_lora(adapter_names=[adapter])
    network.unload_lora()
    return network


def forget_origin(folder: Path) -> None:
    """Remove from the settings of a saved pipeline the folder that it was loaded from: it means nothing elsewhere."""
    for file in [folder / INDEX, *folder.glob("*/*config.json")]:
        settings = json.loads(file.read_text())
        if Path(str(settings.pop("_name_or_path", ""))).is_absolute():
            file.write_text(json.dumps(settings, indent=2) + "\n")


def own_classes(pipeline: Any) -> dict[str, type]:
    """The classes of a pipeline that no library has: its own under the empty name, those of parts under their names."""
    parts = {name: type(part) for name, part in pipeline.components.items() if part is not None}
    return {name: kind for name, kind in {"": type(pipeline), **parts}.items() if not _is_shipped(kind)}


def add_code(pipeline: Any, folder: Path) -> None:
    """Write the source files of a saved pipeline's own classes where diffusers looks for them.

    That of the pipeline goes into the folder itself, those of parts into their folders. They must import nothing but
    libraries. diffusers runs them only with `trust_remote_code`.
    """
    own = own_classes(pipeline)
    if not own:
        return
    index = json.loads((folder / INDEX).read_text())
    for name, kind in own.items():
        source = Path(inspect.getfile(kind))
        shutil.copyfile(source, folder / name / source.name)
        index[name or "_class_name"] = [source.stem, kind.__name__]
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")


def _is_shipped(kind: type) -> bool:
    return kind.__module__.split(".")[0] in SHIPPED

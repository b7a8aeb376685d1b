"""A program that loads exports without the library, by the code of their cards, then with it, and tells what came out.

Arguments: a file for the answers, and the exports' folders. The cards' programs run where importing sysdpo fails.
"""

import io
import json
import os
import re
import sys
from contextlib import redirect_stdout
from importlib.abc import MetaPathFinder
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any


class Blocked(MetaPathFinder):
    """Refuses every import of the library."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.split(".")[0] == "sysdpo":
            raise ModuleNotFoundError(f"{name} is not here")


def run_card(folder: Path) -> tuple[dict[str, Any], str]:
    """What a card's program leaves, and what it prints."""
    (code,) = re.findall(r"^```python\n(.*?)^```$", (folder / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    with redirect_stdout(io.StringIO()) as printed:
        exec(code, names)
    return names, printed.getvalue()


def log_prob(model: Any, prompt: list[int], tokens: list[int]) -> float:
    """Of a completion, in the order of operations that the library has."""
    import torch

    rows = torch.tensor([[*prompt, *tokens]])
    kept = torch.arange(len(prompt) - 1, rows.shape[1] - 1)
    with torch.no_grad():
        logits = model(input_ids=rows, logits_to_keep=kept, use_cache=False).logits.float()
    return logits.log_softmax(-1).gather(-1, rows[:, kept + 1][..., None])[..., 0].sum(-1).item()


def _merged_here(component: Any) -> Any:
    """The component's model as this process, with its numerics, merges it."""
    from transformers import AutoModelForCausalLM

    with TemporaryDirectory() as folder:
        component.save_model(Path(folder), merged=True)
        return AutoModelForCausalLM.from_pretrained(folder)


def main(output: Path, folders: list[Path]) -> None:
    blocked = Blocked()
    sys.meta_path.insert(0, blocked)
    plain = {folder: _without_the_library(folder) for folder in folders}
    assert not [name for name in sys.modules if name.split(".")[0] == "sysdpo"]
    sys.meta_path.remove(blocked)
    output.write_text(json.dumps([_compared(folder, programs) for folder, programs in plain.items()]))


def _without_the_library(folder: Path) -> dict[str, Any]:
    os.chdir(folder)
    places = {f"{kind}/{path.name}": path for kind in ("merged", "adapters") for path in Path(kind).iterdir()}
    return {name: run_card(path) for name, path in places.items()}


def _compared(folder: Path, plain: dict[str, Any]) -> dict[str, Any]:
    import sysdpo
    from sysdpo.base.seeds import torch_generator

    os.chdir(folder)
    _, said = run_card(Path())
    system = sysdpo.System.load(".")
    answers: dict[str, Any] = {"system": said}
    for name, (names, printed) in plain.items():
        component = system.components[name.split("/")[1]]
        if "pipeline" in names:
            ours = component.sample([("big cat",)], seeds=[5])[0]
            drawn = names["pipeline"]("big cat", generator=torch_generator("picture", 5), **component.sampling)
            answers[name] = {"same": drawn.images[0].tobytes() == ours.tobytes(), "size": ours.size}
            continue
        prompt = names["prompt"][0].tolist()
        component.encode_prompt = lambda condition: condition[0]  # the very tokens that the card's program made
        component.temperature = 0.0
        (ours,) = component.sample([(prompt,)], seeds=[0])
        policy, reference = component.log_probs([(prompt,)], [ours], draw=[0])
        theirs = log_prob(names["model"], prompt, list(ours.tokens))
        answers[name] = {
            "printed": printed.strip(),
            "ours": ours.text,
            "prompt": prompt,
            "log_probs": [policy.item(), theirs],
            "moved": abs(policy.item() - reference.item()),
            "merged_here": log_prob(_merged_here(component), prompt, list(ours.tokens)),
        }
    return answers


if __name__ == "__main__":
    main(Path(sys.argv[1]), list(map(Path, sys.argv[2:])))

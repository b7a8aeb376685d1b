"""The programs of the README and of the page on experiments, run as they are printed."""

import re
from pathlib import Path

import pytest
import tiny_models
from diffusers import DiffusionPipeline
from peft import PeftModel
from transformers import AutoModelForCausalLM

from sysdpo import DiffusionModel, LanguageModel

REPOSITORY = Path(__file__).parents[2]
PREFERENCES = """\
{"prompt": "where does mia work", "chosen": "the bakery", "rejected": "paris"}
{"prompt": "where does she work", "chosen": "the bakery", "rejected": "paris"}
"""


def python_of(page: str) -> str:
    """The one block of Python of a page that names no file."""
    (block,) = re.findall(r"^```python\n(.*?)^```$", (REPOSITORY / page).read_text(), re.MULTILINE | re.DOTALL)
    return block


def test_the_readmes_system_is_aligned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of tiny models, with fewer updates and more pairs held out: there are only two."""
    code = python_of("README.md")
    for printed, shorter in {"steps=100": "steps=2", "split(0.1)": "split(0.5)"}.items():
        assert printed in code
        code = code.replace(printed, shorter)
    words = sorted(set(re.findall(r"\w+|:", code + PREFERENCES)))
    for name in ("reader", "writer"):
        tiny_models.save_language_model(tmp_path / "models" / name, words=words, context=256)
    (tmp_path / "prefs.jsonl").write_text(PREFERENCES)
    monkeypatch.chdir(tmp_path)
    exec(code, {"retrieve": lambda question: f"{question} she works in a bakery"})
    assert re.match(r"(0\.0|0\.5|1\.0) ", capsys.readouterr().out)
    assert (tmp_path / "aligned/system.json").exists()


def test_adapters_are_loaded_by_peft_and_diffusers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page is `docs/experiments.md`."""
    words = tiny_models.save_language_model(tmp_path / "words")
    pictures = tmp_path / "pictures"
    tiny_models.stable_diffusion("epsilon").save_pretrained(pictures)
    trained = {
        "writer": LanguageModel.from_pretrained(words, lora=tiny_models.LANGUAGE_LORA),
        "painter": DiffusionModel.from_pretrained(pictures, lora=tiny_models.DIFFUSION_LORA),
    }
    for name, component in trained.items():
        component.save(tmp_path / "results/runs/progressive_images/0/direct/training/adapters" / name)
    monkeypatch.chdir(tmp_path)
    pipeline = DiffusionPipeline.from_pretrained(pictures)
    model = AutoModelForCausalLM.from_pretrained(words)
    exec(python_of("docs/experiments.md"), {"PeftModel": PeftModel, "model": model, "pipeline": pipeline})
    assert any("lora" in name for name, _ in model.named_parameters())
    assert pipeline.get_active_adapters()

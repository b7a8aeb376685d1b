"""What all tests share: one thread, portable numerics, no network, and tiny models made once a session."""

import os
import sys
from pathlib import Path

# Read by torch and the Hugging Face libraries when they are imported.
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
os.environ["HF_HUB_OFFLINE"] = "1"
sys.path.append(str(Path(__file__).parent / "support"))

from sysdpo.base import numerics

numerics.choose("portable")

import pytest
import tiny_models
import torch
from diffusers import DiffusionPipeline
from tiny_system import tiny_system

from sysdpo.applications.images.pipeline import SmallStableDiffusion3Pipeline
from sysdpo.components.diffusion import DiffusionModel
from sysdpo.components.language import LanguageModel
from sysdpo.components.settings import Estimator


@pytest.fixture(scope="session")
def painter_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A flow-matching pipeline of the project's own painter, hardly trained."""
    return tiny_models.save_painter(tmp_path_factory.mktemp("painter"))


@pytest.fixture(scope="session")
def language_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained Llama with strong opinions, in `from_pretrained` format."""
    return tiny_models.save_language_model(tmp_path_factory.mktemp("language"))


@pytest.fixture
def language(language_folder: Path) -> LanguageModel:
    """A fresh tiny language model whose adapter does nothing yet."""
    torch.manual_seed(0)  # the adapter's first matrices are drawn at random
    return LanguageModel.from_pretrained(language_folder, lora=tiny_models.LANGUAGE_LORA, max_new_tokens=6)


@pytest.fixture
def painter(painter_folder: Path) -> DiffusionModel:
    """A fresh tiny painter whose adapter does nothing yet."""
    pipeline = SmallStableDiffusion3Pipeline.from_pretrained(painter_folder)
    torch.manual_seed(0)
    return DiffusionModel(pipeline, lora=tiny_models.DIFFUSION_LORA, sampling=tiny_models.SAMPLING)


@pytest.fixture(scope="session")
def pipeline_folders(tmp_path_factory: pytest.TempPathFactory, painter_folder: Path) -> dict[str, Path]:
    """Tiny pipelines by what their denoiser predicts: Stable Diffusions, one XL, and the project's painter."""
    root = tmp_path_factory.mktemp("pipelines")
    folders = {kind: root / kind for kind in ("epsilon", "v_prediction", "sample")}
    for kind, folder in folders.items():
        tiny_models.stable_diffusion(kind).save_pretrained(folder)
    tiny_models.stable_diffusion_xl().save_pretrained(root / "xl")
    return folders | {"xl": root / "xl", "flow": painter_folder}


@pytest.fixture
def make_diffusion(pipeline_folders: dict[str, Path]):
    """A function: what is predicted, and the estimator's settings, to a fresh component."""

    def make(kind: str, **estimator) -> DiffusionModel:
        loader = SmallStableDiffusion3Pipeline if kind == "flow" else DiffusionPipeline
        pipeline = loader.from_pretrained(pipeline_folders[kind])
        torch.manual_seed(0)
        return DiffusionModel(
            pipeline,
            lora=tiny_models.DIFFUSION_LORA,
            estimator=Estimator(**estimator),
            sampling=tiny_models.SAMPLING,
        )

    return make


@pytest.fixture
def make_system(language_folder: Path, painter_folder: Path):
    """A function to a fresh system of a tiny writer and a tiny painter; all are equal."""
    return lambda: tiny_system(language_folder, painter_folder)

"""What a configuration says of the models that are components."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from sysdpo.base.settings import (
    LARGEST,
    Count,
    DType,
    Free,
    FunctionName,
    ListOf,
    NotNegative,
    PairOf,
    Positive,
    Settings,
    Share,
    WrongSetting,
)


class LoraSettings(Settings):
    """The adapter that is trained, in PEFT's words."""

    r: Count
    """Rank of the adapter."""
    lora_alpha: Annotated[int | float, Field(gt=0, le=LARGEST)] = 8
    """Scale of the adapter, divided by its rank."""
    target_modules: str | ListOf[str]
    """The modules that get an adapter, or `all-linear`."""

    @property
    def words(self) -> dict[str, Any]:
        """The arguments for PEFT's `LoraConfig`."""
        modules = self.target_modules
        return self.fields | {"target_modules": modules if isinstance(modules, str) else list(modules)}


class LoadingSettings(Settings):
    """How weights are loaded."""

    revision: str | None = None
    """The commit or tag of a hub id; a folder has none."""
    dtype: DType = "float32"
    """The number format of the weights."""


class TrainingMemory(Settings):
    """What saves memory in training, at a price."""

    gradient_checkpointing: bool = False
    """Whether activations are computed again in the backward pass instead of kept."""
    sharded: bool = False
    """Whether the frozen weights are split over the processes of a training (FSDP); adapters stay whole."""


class ModelSettings(LoadingSettings, TrainingMemory):
    """What every model that is a component has."""

    model: str | None = None
    """A hub id or a local folder in `from_pretrained` format; null takes the foundation model made for it."""
    lora: LoraSettings | None
    """The adapter that is trained; null leaves the model frozen."""

    @property
    def arguments(self) -> dict[str, Any]:
        """Of the component's `from_pretrained`."""
        return self.fields | {"lora": None if self.lora is None else self.lora.words}


class LanguageModelLoading(LoadingSettings):
    """How a language model's weights are loaded."""

    load_in_4bit: bool = False
    """Whether the frozen weights are held in four bits (NF4, by bitsandbytes; Dettmers et al., arXiv 2305.14314)."""


class CompletionSettings(TrainingMemory):
    """How a language model reads its node's inputs and completes them."""

    template: str | None = None
    """The prompt, `{0}` the node's first input, `{1}` its second; null is the system's own."""
    system_prompt: str | None = None
    """The chat's system message, a template of the same inputs; empty is none, null the system's own."""
    chat_template_kwargs: Free = Field(default_factory=dict)
    """Further variables of the model's chat template, `enable_thinking: false` for example. A template that writes
    today's date (Llama 3.2's does) makes a run depend on the day, unless `date_string` is given here."""
    max_new_tokens: Count = 64
    """Longest completion, in tokens; with the prompt no more than the model has positions for."""
    temperature: NotNegative = 1.0
    """Sampling temperature; 0 is greedy."""
    batch_size: Count = 256
    """Sequences in a forward pass when nothing is trained."""


class LanguageModelSettings(ModelSettings, CompletionSettings, LanguageModelLoading):
    """A language model as a component; a folder may hold an adapter of PEFT, which is merged into its base model."""


class VisionLanguageModelSettings(ModelSettings, CompletionSettings):
    """A language model that sees pictures, as a component."""


class ClassifyingSettings(TrainingMemory):
    """How a classifier reads its node's inputs, and how its labels are drawn."""

    template: str = "{0}"
    """The text that is classified, `{0}` the node's first input; of pictures nothing."""
    temperature: NotNegative = 1.0
    """Temperature of the draw of a label; 0 takes the likeliest."""
    batch_size: Count = 256
    """Texts or pictures in a forward pass."""


class ClassifierSettings(ModelSettings, ClassifyingSettings):
    """A classifier of texts or pictures as a component."""


class DrawingSettings(Settings):
    """How images are drawn, in the words of the pipeline's call."""

    num_inference_steps: Count
    """Denoising steps."""
    guidance_scale: NotNegative | None = None
    """Strength of classifier-free guidance; 0 is none. It changes what is drawn, not what is trained, which is the
    likelihood of a picture under its prompt alone, as in Diffusion-DPO."""
    height: Count | None = None
    """Pixels."""
    width: Count | None = None
    """Pixels."""

    @property
    def words(self) -> dict[str, Any]:
        """The arguments of the pipeline's call."""
        return {name: value for name, value in self.fields.items() if value is not None}


class Estimator(Settings):
    """How the bound on an image's log-likelihood is estimated."""

    weighting: Literal["simple", "elbo"] = "simple"
    """`simple`, a constant `omega` on the error's mean over elements (Diffusion-DPO's), or `elbo`, the variational
    bound's own weight on its sum over elements: the bound's integral over `noise_range`, in nats."""
    omega: Positive = 1.0
    """The constant, or a factor on the bound; it sets the balance with a language model."""
    draws: Count = 1
    """Draws of `(t, ε)` for each image, whose errors are averaged."""
    antithetic: bool = False
    """Whether every second draw repeats the timestep of the one before with its noise negated."""
    noise_range: PairOf[Share] = (0.0, 1.0)
    """The part of the schedule that timesteps are drawn from, 0 its cleanest and 1 its noisiest end. Our choice: what a
    picture shows is decided where there is much noise; elsewhere a draw is mostly variance."""

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if not self.noise_range[0] < self.noise_range[1]:
            raise WrongSetting(("noise_range",), f"{list(self.noise_range)} should be two rising numbers in [0, 1]")
        return self


class DiffusionLoading(LoadingSettings):
    """How a pipeline's weights are loaded."""

    variant: str | None = None
    """Which of the weight files, `fp16` say."""
    pipeline: FunctionName = "diffusers:DiffusionPipeline"
    """The pipeline's class, as `package.module:Class`."""


class BoundSettings(TrainingMemory):
    """How a diffusion model is computed with."""

    estimator: Estimator = Estimator()
    """How the bound on an image's log-likelihood is estimated."""
    batch_size: Count = 128
    """Images in a forward pass when nothing is trained."""


class DiffusionSettings(ModelSettings, BoundSettings, DiffusionLoading):
    """A diffusion model as a component."""

    sampling: DrawingSettings
    """How images are drawn."""

    @property
    def arguments(self) -> dict[str, Any]:
        """Of the component's `from_pretrained`."""
        return super().arguments | {"sampling": self.sampling.words}


def require_models(components: Settings) -> None:
    """Raises `WrongSetting` about a component whose `model` is null, for systems that no foundation model serves."""
    for name, part in components.fields.items():
        if part.model is None:
            raise WrongSetting(("components", name, "model"), "null should be a hub id or a folder")

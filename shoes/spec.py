"""What a night is: frozen specs, made once from a recipe and checked when made.

Only specs, reports (`shoes.reports`), paths and id strings cross a stage boundary.
"""

import re
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

Fraction = Annotated[float, Field(gt=0, lt=1)]
Precision = Literal["auto", "no", "fp16", "bf16"]
DeviceChoice = Literal["auto", "cpu", "mps", "cuda"]
Checkpointing = Literal["off", "attention", "full"]
SchedulerName = Literal["dpm-solver", "ddim", "euler", "pndm"]


class Spec(BaseModel):
    """A frozen value without unknown fields; the text below each field is its documentation."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        protected_namespaces=(),
        allow_inf_nan=False,
    )

    @model_validator(mode="before")
    @classmethod
    def _read_none(cls, values: object) -> object:
        """TOML and flags have no null: the word `none` stands for it where a field may be empty."""
        if not isinstance(values, dict):
            return values
        return {k: None if cls._is_none(k, v) else v for k, v in values.items()}

    @classmethod
    def _is_none(cls, name: str, value: object) -> bool:
        field = cls.model_fields.get(name)
        may_be_empty = field is not None and type(None) in getattr(field.annotation, "__args__", ())
        return may_be_empty and isinstance(value, str) and value.lower() in {"none", "null", ""}


def _understand_switch(value: object) -> object:
    """The two words that gradient_checkpointing had before it had more."""
    words = {"true": "full", "1": "full", "yes": "full", "on": "full", "false": "off", "0": "off", "no": "off"}
    return words.get(str(value).lower(), value)


def _switch_or_auto(value: object) -> object:
    """A switch that may be `auto`: one message instead of one for each of the two types."""
    if value == "auto":
        return value
    try:
        return TypeAdapter(bool).validate_python(value)
    except ValidationError as error:
        raise ValueError("must be true, false or auto") from error


class ModelSpec(Spec):
    """The base model that the adapter is trained on."""

    pretrained_model_name_or_path: str = "stable-diffusion-v1-5/stable-diffusion-v1-5"
    """A model id on the Hub, or a folder in diffusers' format."""
    revision: str | None = "451f4fe16113bff5a5d2269ed5ad43b0592e9a14"
    """Commit of the model on the Hub, so that every night starts from the same files."""
    variant: Literal["fp16"] | None = "fp16"
    """Which of the model's weight files to use; fp16 halves the download."""

    @model_validator(mode="before")
    @classmethod
    def _understand_old_names(cls, values: object) -> object:
        """`revision="fp16"` is what diffusers called a variant before 0.15."""
        if isinstance(values, dict) and values.get("revision") == "fp16":
            return {**{k: v for k, v in values.items() if k != "revision"}, "variant": "fp16"}
        return values

    @field_validator("pretrained_model_name_or_path")
    @classmethod
    def _follow_renamed_repository(cls, name: str) -> str:
        """The repository of the original authors is gone; the same files are kept at another name."""
        moved = {"runwayml/stable-diffusion-v1-5": "stable-diffusion-v1-5/stable-diffusion-v1-5"}
        return moved.get(name, name)


class DataSpec(Spec):
    """The data set, and where it is imported from when it is not there yet."""

    dataset_dir: str = "data/casual_shoes"
    """The prepared data set: train, val and test, with captions.json each and one manifest.json."""
    source: str | None = None
    """What to import when `dataset_dir` is empty: a folder (the downloaded catalogue, or images with captions),
    a data set on the Hub (owner/name, hub:owner/name@revision) or on Kaggle (kaggle:owner/name)."""
    filters: dict[str, str] = {"articleType": "Casual Shoes"}
    """Columns of the source and the value that each must have; as an option --data.filters.articleType "Casual Shoes".
    The default is left out for sources without the column."""
    caption_template: str = (
        "A professional product photo of {colour} casual shoes, {season} collection, {gender}, "
        "centered on white background"
    )
    """How a caption is made of a product's attributes (colour, season, gender, usage, name, article, year);
    photos that have a caption of their own keep it."""
    max_images: Annotated[int, Field(ge=10)] | None = None
    """Take a stratified subset of this many products; nothing means all."""
    val_fraction: Fraction = 0.15
    """Share of the products held out to choose a checkpoint by."""
    test_fraction: Fraction = 0.15
    """Share of the products held out for the verdict."""
    rare_below: Annotated[int, Field(ge=1)] = 10
    """Colours with fewer products than this are stratified together, as one group."""
    near_duplicate_bits: Annotated[int, Field(ge=0, le=16)] = 4
    """Photos whose 64-bit perceptual hashes differ in this many bits or fewer count as one product."""
    seed: Annotated[int, Field(ge=0)] = 42
    """Decides the split."""

    @model_validator(mode="after")
    def _leave_something_to_train_on(self) -> Self:
        if self.val_fraction + self.test_fraction > 0.8:
            raise ValueError("val_fraction + test_fraction leave less than a fifth of the data to train on; lower them")
        return self

    @field_validator("caption_template")
    @classmethod
    def _know_every_placeholder(cls, template: str) -> str:
        from shoes.dataset.captions import check_template

        return check_template(template)


class TrainSpec(Spec):
    """The training of one adapter. Its fields are the run's parameters in MLflow."""

    resolution: Annotated[int, Field(ge=64, le=1024, multiple_of=8)] = 512
    """Side of the square training images, in pixels."""
    train_batch_size: Annotated[int, Field(ge=1)] = 2
    """Images in one forward and backward pass."""
    gradient_accumulation_steps: Annotated[int, Field(ge=1)] = 8
    """Passes per optimizer step; batch size × this is the effective batch."""
    eval_batch_size: Annotated[int, Field(ge=1)] = 1
    """Images drawn, encoded or scored at once outside the training step."""
    mixed_precision: Precision = "auto"
    """Precision of the frozen weights; the adapter's own stay in fp32. `auto` decides by the device."""
    gradient_checkpointing: Literal[Checkpointing, "auto"] = "auto"
    """What the backward pass computes again instead of keeping it: off, attention (the largest self-attention cores,
    whose scores are most of the memory where they are kept), full (every block: about half more time), or auto: what
    is fastest here and fits. true and false mean full and off."""
    devices: Annotated[int, Field(ge=1, le=64)] = 1
    """Processes that share each effective batch, one per GPU, or several on a CPU; they see the same batches as one."""
    learning_rate: Annotated[float, Field(gt=0, lt=1)] = 1e-4
    """Peak learning rate of AdamW."""
    lr_scheduler: Literal[
        "constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial"
    ] = "constant_with_warmup"
    """Learning rate schedule, by diffusers' names."""
    lr_warmup_steps: Annotated[int, Field(ge=0)] = 500
    """Steps over which the learning rate rises from 0 to its peak."""
    lr_num_cycles: Annotated[int, Field(ge=1)] = 1
    """Restarts of cosine_with_restarts."""
    lr_power: Annotated[float, Field(gt=0)] = 1.0
    """Power of the polynomial schedule."""
    adam_beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """AdamW's decay of the first moment."""
    adam_beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """AdamW's decay of the second moment."""
    adam_weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    """AdamW's weight decay."""
    adam_epsilon: Annotated[float, Field(gt=0)] = 1e-8
    """AdamW's epsilon."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    """Gradients are scaled down to this norm when theirs is larger."""
    rank: Annotated[int, Field(ge=1, le=256)] = 8
    """Rank of the adapter's update."""
    lora_alpha: Annotated[int, Field(ge=1)] = 16
    """The update is scaled by lora_alpha / rank."""
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout in the adapter; its masks are drawn on the CPU, sample by sample, which takes time at 512 px."""
    lora_target_modules: tuple[str, ...] = ("to_k", "to_q", "to_v", "to_out.0")
    """Layers of the UNet that get an adapter, by the end of their names."""
    use_rslora: bool = False
    """Scale the update by lora_alpha / √rank instead (rank-stabilised LoRA)."""
    loraplus_lr_ratio: Annotated[float, Field(ge=1)] = 1.0
    """Learning rate of the adapter's B matrices over that of its A matrices (LoRA+); 1 treats both alike."""
    caption_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of samples trained with the empty caption, for classifier-free guidance."""
    snr_gamma: Annotated[float, Field(gt=0)] | None = None
    """Weigh each timestep's loss by its signal-to-noise ratio, cut at this value (min-SNR; 5 is usual); none: all
    alike."""
    timestep_sampling: Literal["uniform", "stratified"] = "uniform"
    """stratified spreads the timesteps of each effective batch evenly over the schedule."""
    noise_offset: Annotated[float, Field(ge=0)] = 0.0
    """Strength of a noise that is the same over a whole channel, which lets pictures become darker and brighter."""
    random_flip: bool = False
    """Show each photo mirrored in half of its turns; both are encoded once."""
    use_ema: bool = False
    """Validate and export an exponential moving average of the adapter instead of its last weights."""
    ema_decay: Annotated[float, Field(gt=0, lt=1)] = 0.995
    """Most that the average keeps of itself at a step; it begins lower and rises."""
    max_train_steps: Annotated[int, Field(ge=0)] = 3000
    """Optimizer steps; exactly this many are run."""
    save_steps: Annotated[int, Field(ge=1)] = 500
    """A candidate adapter is exported, and its held-out loss measured, every so many steps."""
    validation_steps: Annotated[int, Field(ge=1)] = 500
    """Held-out loss and sample images every so many steps."""
    validation_images: Annotated[int, Field(ge=2)] = 64
    """Held-out photos that the loss is measured on, each at eight timesteps."""
    validation_prompts: tuple[str, ...] = ()
    """Prompts drawn at each validation, with fixed seeds; none given: four captions of the validation split."""
    checkpointing_steps: Annotated[int, Field(ge=1)] = 1000
    """Resumable state is saved every so many steps."""
    checkpointing_minutes: Annotated[float, Field(gt=0)] = 10.0
    """Resumable state is saved at least this often, whatever the steps."""
    checkpoints_total_limit: Annotated[int, Field(ge=1)] = 2
    """Older resumable states beyond this many are removed, once the newer ones verify."""
    candidates_total_limit: Annotated[int, Field(ge=1)] = 3
    """Exported candidates that are kept: those with the lowest held-out loss."""
    early_stopping_patience: Annotated[int, Field(ge=1)] | None = 3
    """Stop when so many validations in a row have not lowered the best held-out loss; none: run all steps."""
    max_recoveries: Annotated[int, Field(ge=0)] = 8
    """Times that a training may save itself from NaN or infinity before it gives up."""
    use_8bit_adam: bool = False
    """AdamW with 8-bit state. Refused for now: an adapter's state is some 10 MB, so there is nothing to save."""
    report_to: Literal["mlflow"] = "mlflow"
    """Where metrics go; the journal in the run's folder is always written."""
    logging_dir: str | None = None
    """Folder for the runs' own files; nothing means `runs` in the data folder."""
    train_data_dir: str | None = None
    """Training split; nothing means `train` in the data set."""
    validation_data_dir: str | None = None
    """Validation split; nothing means `val` in the data set."""
    device: DeviceChoice = "auto"
    """Where to train; `auto` takes CUDA, else MPS, else the CPU."""
    seed: Annotated[int, Field(ge=0)] = 42
    """Decides the adapter's start, the data order, the noise and the timesteps."""

    @property
    def effective_batch_size(self) -> int:
        """Images per optimizer step."""
        return self.train_batch_size * self.gradient_accumulation_steps

    @model_validator(mode="after")
    def _have_an_image_for_each_device(self) -> Self:
        if self.devices > self.effective_batch_size:
            raise ValueError(
                f"devices ({self.devices}) must not be more than the images of an effective batch "
                f"({self.effective_batch_size}), or some have nothing to do"
            )
        return self

    @model_validator(mode="after")
    def _warm_up_within_the_run(self) -> Self:
        needs_warmup = self.lr_scheduler != "constant" and self.max_train_steps > 0
        if needs_warmup and self.lr_warmup_steps >= self.max_train_steps:
            raise ValueError(
                f"lr_warmup_steps ({self.lr_warmup_steps}) must be fewer than max_train_steps "
                f"({self.max_train_steps}), or the peak learning rate is never reached"
            )
        return self

    @model_validator(mode="after")
    def _fall_to_the_end(self) -> Self:
        if self.lr_scheduler == "polynomial" and self.learning_rate <= 1e-7:
            raise ValueError("the polynomial schedule ends at 1e-7: learning_rate must be larger, or take another one")
        return self

    @field_validator("gradient_checkpointing", mode="before")
    @classmethod
    def _be_a_mode_or_a_switch(cls, value: object) -> object:
        return _understand_switch(value)

    @field_validator("use_8bit_adam")
    @classmethod
    def _have_something_to_save(cls, wanted: bool) -> bool:
        if wanted:
            raise ValueError("8-bit AdamW would save nothing: an adapter's state is some 10 MB; set it to false")
        return wanted

    @field_validator("lora_target_modules")
    @classmethod
    def _target_something(cls, targets: tuple[str, ...]) -> tuple[str, ...]:
        if not targets or not all(targets):
            raise ValueError("name at least one layer, for example to_q")
        return targets


class EvalSpec(Spec):
    """How base and adapter are drawn, scored and compared."""

    clip_model_name_or_path: str = "openai/clip-vit-base-patch32"
    """CLIP that scores the images; not the one inside the base model, which would be partly circular."""
    clip_revision: str | None = "c237dc49a33fc61debc9276459120b7eac67e7ef"
    """Commit of the CLIP model on the Hub: the first one that holds safetensors, main has only a pickle."""
    num_images: Annotated[int, Field(ge=2)] | None = None
    """Test photos whose captions are drawn; nothing means all of the test split."""
    images_per_caption: Annotated[int, Field(ge=1)] = 2
    """Images drawn for each of these captions, with different seeds."""
    scheduler: SchedulerName = "dpm-solver"
    """Sampler, by its usual name."""
    num_inference_steps: Annotated[int, Field(ge=1)] = 25
    """Sampling steps per image."""
    guidance_scale: Annotated[float, Field(ge=0)] = 7.5
    """Classifier-free guidance."""
    negative_prompt: str = ""
    """What not to draw."""
    confidence_level: Fraction = 0.95
    """Level of all intervals."""
    num_resamples: Annotated[int, Field(ge=100)] = 5000
    """Bootstrap resamples of the captions."""
    seed: Annotated[int, Field(ge=0)] = 1234
    """First seed of the drawn images; the same for base and adapter."""


class InferenceSpec(Spec):
    """How pictures are drawn where memory is scarce: each option trades time, or exactness, for memory.

    `shoes model try --compare` measures what each saves and costs on this machine. None of them touches training.
    """

    attention: Literal["auto", "sdpa", "sliced", "xformers"] = "auto"
    """How the UNet's attention is computed; `auto` is sdpa, PyTorch's own, which is the fastest and needs little
    memory. sliced takes it in parts (refused on MPS, where it gives NaN); xformers needs CUDA and the package."""
    vae_slicing: bool | Literal["auto"] = "auto"
    """Decode a batch one picture at a time; `auto`: above 128 px, where a picture fills the device by itself."""
    vae_tiling: bool = False
    """Decode a picture in overlapping tiles of half its side: less memory, and slightly other pictures."""
    offload: Literal["none", "model"] = "none"
    """model: keep only the part at work (text encoder, UNet, VAE) on the GPU. CUDA only: elsewhere CPU and GPU
    share their memory and nothing is saved."""

    @field_validator("vae_slicing", mode="before")
    @classmethod
    def _slice_or_leave_it(cls, value: object) -> object:
        return _switch_or_auto(value)


class PublishSpec(Spec):
    """Names in MLflow."""

    experiment: str = "casual-shoes-lora"
    """MLflow experiment that holds the runs."""
    registered_model: str = "casual-shoes-lora"
    """Registered model whose alias `champion` is the best adapter so far."""

    @field_validator("experiment", "registered_model")
    @classmethod
    def _be_a_name(cls, name: str) -> str:
        if not name or any(c in name for c in "/:") or name != name.strip():
            raise ValueError("must be a name without '/', ':' or blanks around it")
        return name


def _clock_time(text: str) -> str:
    if not re.fullmatch(r"([01][0-9]|2[0-3]):[0-5][0-9]", text):
        raise ValueError("is no time of day: write hours and minutes, such as 07:00 or 22:30")
    return text


ClockTime = Annotated[str, AfterValidator(_clock_time)]


class WindowSpec(Spec):
    """The hours that a night may take, in this machine's local time. The forecast says whether they are enough."""

    starts: ClockTime | None = None
    """Hour and minute of the start, such as 22:00; nothing means at once."""
    ends: ClockTime | None = None
    """Hour and minute at which the machine is needed again, such as 07:00; nothing means no end."""

    @model_validator(mode="after")
    def _be_open_for_some_time(self) -> Self:
        if self.starts is not None and self.starts == self.ends:
            raise ValueError(f"starts and ends are both {self.starts}: leave one of them out, or give it some hours")
        return self


class Recipe(Spec):
    """One night: which model, data and settings, and under which names it is kept."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")] = "overnight"
    """Lower case name of the recipe, shown in MLflow and Prefect."""
    model: ModelSpec = ModelSpec()
    data: DataSpec = DataSpec()
    train: TrainSpec = TrainSpec()
    eval: EvalSpec = EvalSpec()
    inference: InferenceSpec = InferenceSpec()
    publish: PublishSpec = PublishSpec()
    window: WindowSpec = WindowSpec()

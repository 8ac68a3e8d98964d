"""The training of one adapter."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from shoes.spec.base import Checkpointing, DeviceChoice, Precision, Spec


def _understand_switch(value: object) -> object:
    """The two words that gradient_checkpointing had before it had more."""
    words = {"true": "full", "1": "full", "yes": "full", "on": "full", "false": "off", "0": "off", "no": "off"}
    return words.get(str(value).lower(), value)


class TrainSpec(Spec, title="Training"):
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

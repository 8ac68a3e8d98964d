"""What a night starts from: the base model and the data set."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from shoes.spec.base import Fraction, Spec
from shoes.spec.names import ModelName, names_weights


class ModelSpec(Spec, title="Base model"):
    """The base model that the adapter is trained on."""

    pretrained_model_name_or_path: ModelName = "stable-diffusion-v1-5/stable-diffusion-v1-5"
    """A model id on the Hub, a folder in diffusers' format, or a checkpoint in a single file (.safetensors)."""
    revision: str | None = "451f4fe16113bff5a5d2269ed5ad43b0592e9a14"
    """Commit of the model on the Hub, so that every night starts from the same files."""
    variant: Literal["fp16"] | None = "fp16"
    """Which of the model's weight files to use; fp16 halves the download. A single file has but one."""

    @property
    def short_name(self) -> str:
        """What people call the model: sd15, or the last part of its name; of a folder `model` what holds it."""
        *above, last = [part for part in self.pretrained_model_name_or_path.split("/") if part]
        if names_weights(last):
            return last.rpartition(".")[0]
        known = {"stable-diffusion-v1-5": "sd15"}
        return known.get(last, above[-1] if last == "model" and above else last)

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


class DataSpec(Spec, title="Data set"):
    """The data set, and where it is imported from when it is not there yet."""

    dataset_dir: str = "data/casual_shoes"
    """The prepared data set: train, val and test, with captions.json each and one manifest.json."""
    source: str | None = None
    """What to import when `dataset_dir` is empty: a folder (the downloaded catalogue, or images with captions),
    a data set on the Hub (owner/name, hub:owner/name@revision) or on Kaggle (kaggle:owner/name)."""
    filters: dict[str, str] = Field(default={"articleType": "Casual Shoes"})
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

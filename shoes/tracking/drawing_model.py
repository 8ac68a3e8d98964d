"""The registered model: `mlflow.pyfunc.load_model("models:/…@champion").predict(["a prompt"])` draws.

MLflow keeps this file beside the adapter and runs it when the model is loaded.
"""

import base64
import io
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import pandas as pd  # type: ignore[import-untyped]
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PythonModel, PythonModelContext

if TYPE_CHECKING:
    from PIL.Image import Image

    from shoes.spec import EvalSpec

FORMATS = ("auto", "pil", "base64")
_SERVING = "_MLFLOW_IS_IN_SERVING_ENVIRONMENT"
"""What MLflow's scoring server sets in its own process."""
_OWN = ("num_inference_steps", "guidance_scale", "scheduler", "negative_prompt", "seed")
"""Parameters that are fields of a recipe's [eval], and are checked as those are."""


@dataclass(frozen=True)
class _Drawing:
    prompt: str
    seed: int


class DrawingModel(PythonModel):
    """Draws prompts with the base model and the adapter.

    In Python, a list of PIL images, in the order of the prompts:

        model = mlflow.pyfunc.load_model("models:/casual-shoes-lora@champion")
        model.predict(["a red canvas shoe"])
        model.predict(["a red canvas shoe"], params={"seed": 7, "num_inference_steps": 30, "guidance_scale": 5.0})

    Behind a server, a list of PNG files in base64:

        mlflow models serve -m models:/casual-shoes-lora@champion --env-manager local --host 127.0.0.1 --port 5002
        curl http://127.0.0.1:5002/invocations -H 'Content-Type: application/json' \\
            -d '{"inputs": ["a red canvas shoe"], "params": {"seed": 3}}'

    Parameters, all optional:
        seed: of the first image; image number i, from 0, gets seed + i.
        num_inference_steps, guidance_scale, negative_prompt, scheduler: as in a recipe's [eval], whose values
            they have where they are not given.
        format: `pil`, `base64`, or `auto`: base64 in a scoring server and PIL images elsewhere.

    The UNet computes in fp32 on every device. A parameter that can't be used is one error that names all such (HTTP
    400 behind a server). Pictures are drawn one after another, also when several requests come at once.
    """

    def load_context(self, context: PythonModelContext) -> None:
        """Find the base model, verify it, and load both."""
        from shoes.device import choose_device, measure
        from shoes.model.inference import admissible, choose_inference
        from shoes.model.load import load_pipeline
        from shoes.spec import InferenceSpec

        config = context.model_config
        import torch

        device = choose_device("auto", measure()).value
        # versions that were registered before there were options have none
        options, _ = admissible(InferenceSpec.model_validate(config.get("inference", {})), device)
        self._base_dir = _find_base(config)
        self._pipeline = load_pipeline(
            self._base_dir,
            device=device,
            dtype=torch.float32,
            scheduler=config["scheduler"],
            adapter_dir=Path(context.artifacts["adapter"]),
            inference=choose_inference(options, device, resolution=config["resolution"]),
            resolution=config["resolution"],
        )
        self._config = config
        self._drawing = threading.Lock()  # a scheduler is in the middle of one picture only

    # No return annotation: MLflow makes a signature of it, has no type for pictures, and warns at every load. With a
    # table as input it takes the signature that the model was registered with, which knows the parameters.
    def predict(  # type: ignore[no-untyped-def]
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ):
        """Draw each prompt; see the class.

        Raises:
            MlflowException: a prompt is empty, or a parameter can't be used.
        """
        del context
        given = params or {}
        spec, form = _checked(self._config, given)
        prompts = _prompts(model_input)
        with self._drawing:
            images = self._draw(prompts, spec)
        return [_base64(image) for image in images] if form == "base64" else images

    def _draw(self, prompts: list[str], spec: "EvalSpec") -> "list[Image]":
        from shoes.model.load import load_scheduler
        from shoes.sampling import draw

        self._pipeline.scheduler = load_scheduler(self._base_dir, spec.scheduler)
        drawings = [_Drawing(prompt, spec.seed + number) for number, prompt in enumerate(prompts)]
        return list(
            draw(
                self._pipeline,
                drawings,
                num_inference_steps=spec.num_inference_steps,
                guidance_scale=spec.guidance_scale,
                negative_prompt=spec.negative_prompt,
                resolution=self._config["resolution"],
            )
        )


def _find_base(config: dict[str, Any]) -> Path:
    """Folder of the base that the adapter was trained on, verified.

    Raises:
        ModelError: it is not here, or another model has its name now.
    """
    from shoes.errors import ModelError, Problem
    from shoes.model.files import diffusion_files, fetch, fetch_converted
    from shoes.settings import load_settings
    from shoes.spec import ModelSpec

    base, settings = ModelSpec.model_validate(config["model"]), load_settings()
    wanted = diffusion_files(base.pretrained_model_name_or_path, base.revision, base.variant)
    known = config.get("base_fingerprint")  # versions that were registered before have none
    if known is not None and (kept := fetch_converted(known, wanted, settings)) is not None:
        return kept  # what became of the file that it was made of does not matter
    found = fetch(wanted, settings)
    if known is not None and found.fingerprint != known:
        fix = "restore the files of the base that it was trained on"
        what = "is not the base that the adapter was trained on: its files have changed"
        raise ModelError([Problem(found.name, what, fix)])
    return found.path


def _checked(config: dict[str, Any], params: dict[str, Any]) -> "tuple[EvalSpec, str]":
    """How to draw, and in which format to answer."""
    from pydantic import ValidationError

    from shoes.spec import EvalSpec

    wanted = {"seed": 0, **{name: config[name] for name in _OWN if name in config}}
    wanted |= {name: params[name] for name in _OWN if params.get(name) is not None}
    form = params.get("format") or "auto"
    wrong = [] if form in FORMATS else [f"format: must be one of {', '.join(FORMATS)} (given: {form!r})"]
    try:
        spec = EvalSpec.model_validate(wanted)
    except ValidationError as error:
        wrong += [f"{found['loc'][0]}: {found['msg']} (given: {found['input']!r})" for found in error.errors()]
    if wrong:
        raise MlflowException.invalid_parameter_value("; ".join(wrong))
    if form == "auto":
        form = "base64" if os.environ.get(_SERVING, "").lower() == "true" else "pil"
    return spec, form


def _prompts(table: Any) -> list[str]:
    """The prompts of a table with one column; versions without a signature get what was given to `predict`."""
    prompts = table.iloc[:, 0].tolist() if isinstance(table, pd.DataFrame) else list(table)
    bad = [number for number, prompt in enumerate(prompts) if not isinstance(prompt, str) or not prompt.strip()]
    if bad or not prompts:
        which = f"number {', '.join(map(str, bad))} is empty or no text" if bad else "there is none"
        raise MlflowException.invalid_parameter_value(f"give a list of prompts as text: {which}")
    return prompts


def _base64(image: "Image") -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


mlflow.models.set_model(DrawingModel())

"""The registered model: `mlflow.pyfunc.load_model("models:/…@champion").predict(["a prompt"])` draws.

MLflow keeps this file beside the adapter and runs it when the model is loaded.
"""

from pathlib import Path
from typing import Any

import mlflow
from mlflow.pyfunc import PythonModel, PythonModelContext


class DrawingModel(PythonModel):
    """Draws prompts with the base model and the adapter."""

    def load_context(self, context: PythonModelContext) -> None:
        """Find the base model, verify it, and load both."""
        from shoes.device import choose_device, measure
        from shoes.model.files import diffusion_files, fetch
        from shoes.model.inference import admissible, choose_inference
        from shoes.model.load import load_pipeline
        from shoes.settings import load_settings
        from shoes.spec import InferenceSpec, ModelSpec

        config = context.model_config
        base = ModelSpec.model_validate(config["model"])
        wanted = diffusion_files(base.pretrained_model_name_or_path, base.revision, base.variant)
        import torch

        device = choose_device("auto", measure()).value
        # versions that were registered before there were options have none
        options, _ = admissible(InferenceSpec.model_validate(config.get("inference", {})), device)
        self._pipeline = load_pipeline(
            fetch(wanted, load_settings()).path,
            device=device,
            dtype=torch.float32,
            scheduler=config["scheduler"],
            adapter_dir=Path(context.artifacts["adapter"]),
            inference=choose_inference(options, device, resolution=config["resolution"]),
            resolution=config["resolution"],
        )
        self._config = config

    # No return annotation: MLflow makes a signature of it, has no type for pictures, and warns at every load.
    def predict(  # type: ignore[no-untyped-def]
        self, context: PythonModelContext, model_input: list[str], params: dict[str, Any] | None = None
    ):
        """Draw each prompt, seeds 0, 1, 2, …; a list of PIL images."""
        from dataclasses import dataclass

        from shoes.sampling import draw

        @dataclass(frozen=True)
        class Drawing:
            prompt: str
            seed: int

        del context, params
        drawings = [Drawing(prompt, seed) for seed, prompt in enumerate(model_input)]
        return list(
            draw(
                self._pipeline,
                drawings,
                num_inference_steps=self._config["num_inference_steps"],
                guidance_scale=self._config["guidance_scale"],
                resolution=self._config["resolution"],
            )
        )


mlflow.models.set_model(DrawingModel())

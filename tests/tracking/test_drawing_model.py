"""The registered model in Python and behind a server: parameters, formats, and what it says to bad ones."""

import base64
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageChops

from shoes.settings import PROJECT_ROOT
from shoes.tracking.mirror import connect
from shoes.tracking.registry import Candidate, Registry
from tests.champion import crown

URI = "models:/casual-shoes-lora-demo@champion"
PROMPT = "A professional product photo of black casual shoes"


@pytest.fixture(scope="module")
def store(night) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOES_DATA_DIR", str(night.data_dir))
        crown(night)
    return f"sqlite:///{night.data_dir / 'mlruns/mlflow.db'}"


@pytest.fixture(scope="module")
def model(night, store: str) -> Iterator[Any]:
    import mlflow

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOES_DATA_DIR", str(night.data_dir))
        connect(store)
        mlflow.set_registry_uri(store)
        yield mlflow.pyfunc.load_model(URI)


def equal(one: Image.Image, other: Image.Image) -> bool:
    return ImageChops.difference(one, other).getbbox() is None


def decode(text: str) -> Image.Image:
    picture = Image.open(io.BytesIO(base64.b64decode(text, validate=True)))
    assert picture.format == "PNG"
    return picture.convert("RGB")


def test_the_signature_tells_prompts_and_parameters_with_the_recipes_values(night, model) -> None:
    signature = model.metadata.signature
    assert [column.type.name for column in signature.inputs.inputs] == ["string"]
    defaults = {param.name: param.default for param in signature.params.params}
    assert defaults["seed"] == 0
    assert defaults["num_inference_steps"] == night.recipe.eval.num_inference_steps
    assert defaults["guidance_scale"] == night.recipe.eval.guidance_scale
    assert defaults["scheduler"] == "dpm-solver"
    assert defaults["format"] == "auto"


def test_image_i_has_seed_plus_i(model) -> None:
    first, second = model.predict([PROMPT, PROMPT])
    assert isinstance(first, Image.Image)
    assert not equal(first, second)
    (moved,) = model.predict([PROMPT], params={"seed": 1})
    assert equal(moved, second)
    assert np.asarray(first).shape == (64, 64, 3)


@pytest.mark.parametrize(
    "changed", [{"num_inference_steps": 4}, {"guidance_scale": 6}, {"negative_prompt": "red"}, {"scheduler": "euler"}]
)
def test_each_parameter_changes_the_picture_and_the_next_one_has_the_recipes_again(model, changed) -> None:
    plain = {"guidance_scale": 3.0}
    (before,) = model.predict([PROMPT], params=plain)
    (other,) = model.predict([PROMPT], params={**plain, **changed})
    (after,) = model.predict([PROMPT], params=plain)
    assert not equal(before, other)
    assert equal(before, after)


def test_the_three_formats(model, monkeypatch: pytest.MonkeyPatch) -> None:
    (picture,) = model.predict([PROMPT])
    (text,) = model.predict([PROMPT], params={"format": "base64"})
    assert equal(decode(text), picture)
    monkeypatch.setenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "true")
    assert model.predict([PROMPT]) == [text]
    (image,) = model.predict([PROMPT], params={"format": "pil"})
    assert equal(image, picture)


def test_everything_that_is_wrong_with_the_parameters_is_one_error(model) -> None:
    from mlflow.exceptions import MlflowException

    bad = {"num_inference_steps": 0, "scheduler": "magic", "seed": -1, "format": "gif"}
    with pytest.raises(MlflowException) as caught:
        model.predict([PROMPT], params=bad)
    for name in bad:
        assert name in caught.value.message
    assert caught.value.get_http_status_code() == 400
    with pytest.raises(MlflowException, match="number 1 is empty"):
        model.predict([PROMPT, " "])
    with pytest.raises(MlflowException):
        model.predict([3])


def test_a_version_from_before_the_parameters_still_draws(in_night, model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its configuration has neither options for drawing nor a negative prompt, and it has no signature."""
    from types import SimpleNamespace

    from shoes import judging
    from shoes.tracking.drawing_model import DrawingModel

    config = {k: v for k, v in judging.drawing_config(in_night.recipe).items() if k not in ("inference",)}
    config.pop("negative_prompt", None)
    context = SimpleNamespace(model_config=config, artifacts={"adapter": str(in_night.training.adapter_dir)})
    old = DrawingModel()
    old.load_context(context)
    (picture,) = old.predict(context, [PROMPT], None)
    assert equal(picture, model.predict([PROMPT])[0])


def test_registering_loads_no_model_and_draws_nothing(
    store: str, own_world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shoes import judging, recipes

    monkeypatch.setattr("shoes.model.load.load_pipeline", lambda *given, **how: pytest.fail("the model was loaded"))
    client = connect(store)
    run = client.create_run(client.create_experiment("trial", artifact_location=str(own_world / "artifacts")))
    (own_world / "adapter").mkdir()
    (own_world / "adapter/weights").write_bytes(b"weights")
    config = judging.drawing_config(recipes.load("demo"))
    candidate = Candidate(run.info.run_id, own_world / "adapter", "0" * 64, "1" * 16, config, tags={})
    assert Registry(store, "trial").register(candidate) == "1"


@pytest.fixture
def server(in_night, store: str) -> Iterator[str]:
    """`mlflow models serve` as the documentation gives it, on a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", URI, "--env-manager", "local"]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": store, "PYTHONPATH": str(PROJECT_ROOT)}
    environment["PATH"] = f"{os.path.dirname(sys.executable)}{os.pathsep}{environment['PATH']}"  # noqa: PTH120
    process = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        while not answers(address):
            assert process.poll() is None, process.stdout and process.stdout.read().decode()
            time.sleep(0.2)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=60)


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/ping", timeout=5) as response:
            return response.status == 200
    except OSError:
        return False


def post(address: str, body: object) -> Any:
    data = json.dumps(body).encode()
    request = urllib.request.Request(f"{address}/invocations", data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=300) as response:
        return json.load(response)


@pytest.mark.slow  # it loads everything in two more processes
def test_a_server_answers_with_pngs_and_says_what_is_wrong(server: str, model) -> None:
    found = post(server, {"inputs": [PROMPT], "params": {"seed": 3}})
    (picture,) = map(decode, found["predictions"])
    assert equal(picture, model.predict([PROMPT], params={"seed": 3})[0])
    with pytest.raises(urllib.error.HTTPError) as refused:
        post(server, {"inputs": [PROMPT], "params": {"guidance_scale": -2}})
    assert refused.value.code == 400
    assert "guidance_scale" in refused.value.read().decode()

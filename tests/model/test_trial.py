"""`shoes model try`: first pictures, what is wrong with them if something is, and all of it in MLflow."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from flows.cli import main
from shoes.model import comparison
from shoes.model.trial import known_prompts
from shoes.settings import PROJECT_ROOT
from shoes.spec import DataSpec, InferenceSpec

MODEL = PROJECT_ROOT / "data/demo/model"
FAST = ("--eval.num_inference_steps", "2")


def model_try(*words: str) -> Result:
    return CliRunner().invoke(main, ["model", "try", *FAST, *words])


def test_first_pictures(own_world: Path) -> None:
    result = model_try("--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert [p["verdict"] for p in found["pictures"]] == ["OK"] * 3
    assert [p["prompt"] for p in found["pictures"]] == list(known_prompts(DataSpec().caption_template))
    assert found["load_seconds"] > 0
    assert found["images_per_minute"] == pytest.approx(60 / found["warm_seconds"])
    assert found["peak_bytes"] >= found["baseline_bytes"] > 0
    folder = Path(found["path"])
    assert folder.parent == own_world / "data/trials"
    for name in ("picture-1.png", "picture-3.png", "grid.png", "trial.json", "manifest.json"):
        assert (folder / name).is_file()
    again = json.loads(model_try("--json").stdout)
    assert again["path"] == found["path"], "the same trial has the same place"
    assert again["run_id"] == found["run_id"]


def test_all_of_it_is_in_mlflow(own_world: Path) -> None:
    import mlflow

    found = json.loads(model_try("--json", "--prompt", "blue casual shoes").stdout)
    client = mlflow.MlflowClient(f"sqlite:///{own_world / 'data/mlruns/mlflow.db'}")
    run = client.get_run(found["run_id"])
    assert run.info.run_name == "try model"
    assert run.info.status == "FINISHED"
    assert run.data.params["prompt_1"] == "blue casual shoes"
    assert run.data.params["attention"] == "sdpa"
    assert run.data.metrics["try/warm_seconds"] == pytest.approx(found["warm_seconds"])
    assert run.data.metrics["try/bad_images"] == 0
    assert {"images", "try"} <= {file.path for file in client.list_artifacts(run.info.run_id)}
    assert "try/picture-1.png" in {file.path for file in client.list_artifacts(run.info.run_id, "try")}


def test_mlflow_away_is_a_word_and_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    result = model_try("--prompt", "blue casual shoes")
    assert result.exit_code == 0, result.stderr
    assert "[OK]" in result.stdout
    assert "MLflow could not be reached" in result.stdout


def spoil(own_world: Path, layer: str, factor: float) -> str:
    """The tiny model with a layer of its VAE's decoder multiplied, as a folder of one's own."""
    from safetensors.torch import load_file, save_file

    folder = own_world / "spoilt"
    shutil.copytree(MODEL, folder, ignore=shutil.ignore_patterns("manifest.json"))
    file = folder / "vae/diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    for name in (f"decoder.{layer}.weight", f"decoder.{layer}.bias"):
        weights[name] = weights[name].float() * factor
    save_file(weights, file)
    return str(folder)


@pytest.mark.parametrize(("verdict", "layer", "factor"), [("NaN", "conv_in", 1e37), ("blank", "conv_out", 0.0)])
def test_a_bad_picture_is_seen_and_is_exit_code_1(own_world: Path, verdict: str, layer: str, factor: float) -> None:
    name = spoil(own_world, layer, factor)  # NaN in the weights themselves would be refused
    words = ("--model.pretrained_model_name_or_path", name, "--prompt", "blue casual shoes")
    result = model_try(*words)
    assert result.exit_code == 1
    assert f"[{verdict.upper() if verdict == 'blank' else verdict}]" in result.stdout
    assert "shoes model verify" in result.stdout
    found = json.loads(model_try(*words, "--json").stdout)
    assert [p["verdict"] for p in found["pictures"]] == [verdict]
    assert found["good"] is False


def test_an_adapter_draws_other_pictures(in_night, own_world: Path) -> None:
    adapter = in_night.training.adapter_dir
    words = ("--json", "--prompt", "blue casual shoes", "--model.pretrained_model_name_or_path", "data/shallow")
    plain, adapted = (json.loads(model_try(*words, *more).stdout) for more in ((), ("--adapter", str(adapter))))
    assert plain["path"] != adapted["path"]
    first, second = (Path(found["path"], "picture-1.png").read_bytes() for found in (plain, adapted))
    assert first != second


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--adapter", "nowhere"), "holds no pytorch_lora_weights.safetensors"),
        (("--inference.attention", "xformers"), "CUDA only"),
        (("--inference.offload", "model"), "saves nothing"),
        (("--inference.vae_slicing", "perhaps"), "must be true, false or auto"),
        (("--model.pretrained_model_name_or_path", "data/nothing"), "no such folder"),
    ],
)
def test_bad_input_is_one_clear_error(own_world: Path, words: tuple[str, ...], expected: str) -> None:
    result = model_try(*words)
    assert result.exit_code == 2
    assert expected in result.stderr
    assert list(own_world.iterdir()) == []


@pytest.mark.parametrize("more", [(), pytest.param(("--compare",), marks=pytest.mark.slow)])
def test_an_adapter_that_does_not_fit(own_world: Path, more: tuple[str, ...]) -> None:
    (own_world / "adapter").mkdir()
    (own_world / "adapter/pytorch_lora_weights.safetensors").write_bytes(b"not weights")
    result = model_try("--adapter", "adapter", *more)
    assert result.exit_code == 2
    assert "adapter: does not fit data/demo/model" in result.stderr
    assert "Traceback" not in result.stderr


def test_too_little_memory_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def draw(*args: object, **options: object) -> None:
        raise RuntimeError("MPS backend out of memory (MPS allocated: 20.0 GiB)")

    monkeypatch.setattr("shoes.sampling.draw_pixels", draw)
    result = model_try()
    assert result.exit_code == 2
    assert "does not fit into the memory of cpu" in result.stderr
    assert "--inference.vae_tiling true" in result.stderr


def test_the_options_side_by_side(monkeypatch: pytest.MonkeyPatch, own_world: Path) -> None:
    kept = {name: comparison.OPTIONS[name] for name in ("plain", "vae_tiling", "offload model")}
    monkeypatch.setattr(comparison, "OPTIONS", kept)
    monkeypatch.setattr(comparison, "REPEATS", 2)
    result = model_try("--compare", "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    plain, tiling, offload = found["rows"]
    assert plain["seconds_per_image"] > 0
    assert plain["growth_bytes"] > 0
    assert plain["max_difference"] == 0
    assert tiling["max_difference"] > 0
    assert tiling["time_ratio"] == pytest.approx(tiling["seconds_per_image"] / plain["seconds_per_image"])
    assert "saves nothing" in offload["skipped"]
    assert (Path(found["path"]) / "comparison.json").is_file()
    assert found["run_id"]


def test_an_option_that_fails_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch, own_world: Path) -> None:
    monkeypatch.setattr(comparison, "OPTIONS", {"plain": InferenceSpec(), "vae_tiling": InferenceSpec(vae_tiling=True)})
    monkeypatch.setattr(comparison, "REPEATS", 1)
    real = comparison._measure

    def measure(plan, spec, folder):
        return real(plan, spec, folder) if not spec.vae_tiling else "out of memory"

    monkeypatch.setattr(comparison, "_measure", measure)
    result = model_try("--compare")
    assert result.exit_code == 0, result.stderr
    assert "vae_tiling: out of memory" in result.stdout

"""The registered model: versions of the adapter, and the alias `champion` for the best of them."""

import logging
import shutil
import tempfile
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shoes.litter import litter_in
from shoes.storage import new_folder
from shoes.tracking.failures import FORBIDDEN, failures, is_away, is_missing, is_refused, refusal, unavailable
from shoes.tracking.mirror import connect

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.models import ModelSignature

log = logging.getLogger(__name__)
ALIAS = "champion"
REQUIREMENTS = ("torch", "diffusers", "transformers", "peft", "safetensors", "pydantic-settings")


@dataclass(frozen=True)
class Champion:
    """The version that the alias points at."""

    version: str
    adapter_sha256: str
    adapter_dir: Path
    base_fingerprint: str
    beat: str | None
    """Version that was the champion when this one took its place."""


@dataclass(frozen=True)
class Candidate:
    """An adapter to register."""

    run_id: str
    adapter_dir: Path
    adapter_sha256: str
    base_fingerprint: str
    config: dict[str, Any]
    """What the registered model needs to draw: base model and sampler settings."""
    tags: dict[str, str]


class Registry:
    """One registered model in one tracking store."""

    def __init__(self, tracking_uri: str, name: str) -> None:
        self._uri, self._name = tracking_uri, name

    def champion(self, version: str | None = None) -> Champion | None:
        """The current champion, or the version asked for; none when there is none."""
        with self._reachable() as client:
            found = _by_alias(client, self._name) if version is None else _by_number(client, self._name, version)
            return _as_champion(found) if found is not None else None

    def folders(self) -> list[Path]:
        """Where the adapters of all versions were exported to, the newest version first; some may be gone."""
        with self._reachable() as client:
            found = client.search_model_versions(f"name = '{self._name}'")
            newest = sorted(found, key=lambda version: int(version.version), reverse=True)
            return [_as_champion(version).adapter_dir for version in newest]

    def download(self, version: str, target: Path) -> bool:
        """Make `target` the folder of a version's adapter, out of the store's artifacts; false if they are lost."""
        import mlflow

        with self._reachable():
            mlflow.set_registry_uri(self._uri)
            with tempfile.TemporaryDirectory() as folder:
                uri = f"models:/{self._name}/{version}/artifacts/adapter"
                try:
                    found = mlflow.artifacts.download_artifacts(
                        artifact_uri=uri, dst_path=folder, tracking_uri=self._uri
                    )
                except failures() as error:
                    if is_missing(error):
                        return False
                    raise
                with new_folder(target) as new:
                    shutil.copytree(found, new, dirs_exist_ok=True, ignore=litter_in)
        return True

    def register(self, candidate: Candidate) -> str:
        """The candidate's version; an adapter that is registered already keeps its own."""
        with self._reachable() as client:
            for version in client.search_model_versions(f"name = '{self._name}'"):
                if version.tags.get("adapter_sha256") == candidate.adapter_sha256:
                    return str(version.version)
            return self._add(client, candidate)

    def promote(self, version: str, *, beat: str | None) -> None:
        """Let the alias point at a version."""
        with self._reachable() as client:
            if beat is not None:
                client.set_model_version_tag(self._name, version, "beat", beat)
            client.set_registered_model_alias(self._name, ALIAS, version)

    def _add(self, client: "MlflowClient", candidate: Candidate) -> str:
        import mlflow

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # MLflow warns about hints in its own code
            import mlflow.pyfunc

        mlflow.set_registry_uri(self._uri)
        with mlflow.start_run(run_id=candidate.run_id), warnings.catch_warnings():
            # with an example MLflow would load the whole model here, and draw it
            warnings.filterwarnings("ignore", message=r"[\s\S]*An input example was not provided")
            info = mlflow.pyfunc.log_model(
                name="adapter",
                python_model=str(Path(__file__).with_name("drawing_model.py")),
                artifacts={"adapter": str(candidate.adapter_dir)},
                model_config=candidate.config,
                pip_requirements=list(REQUIREMENTS),
                signature=_signature(candidate.config),
            )
        with suppress(mlflow.exceptions.MlflowException):  # it is there already
            client.create_registered_model(self._name)
        tags = {
            **candidate.tags,
            "adapter_sha256": candidate.adapter_sha256,
            "base_fingerprint": candidate.base_fingerprint,
            "adapter_dir": str(candidate.adapter_dir),
        }
        version = client.create_model_version(
            self._name, source=info.model_uri, run_id=candidate.run_id, tags=tags, model_id=info.model_id
        )
        return str(version.version)

    def _reachable(self) -> "_Reachable":
        return _Reachable(self._uri)


class _Reachable:
    """A client, with its failures told as TrackingUnavailable."""

    def __init__(self, tracking_uri: str) -> None:
        self._uri = tracking_uri

    def __enter__(self) -> "MlflowClient":
        return connect(self._uri)

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if not isinstance(error, failures()):
            return
        if is_refused(error):
            raise refusal(self._uri, error) from error
        if is_away(error):
            raise unavailable(self._uri, error) from error


def _signature(config: dict[str, Any]) -> "ModelSignature":
    """What the registered model takes: a column of prompts, and parameters whose defaults are the recipe's."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    parameters = [
        ParamSpec("seed", "long", 0),
        ParamSpec("num_inference_steps", "long", config["num_inference_steps"]),
        ParamSpec("guidance_scale", "double", config["guidance_scale"]),
        ParamSpec("negative_prompt", "string", config.get("negative_prompt", "")),
        ParamSpec("scheduler", "string", config["scheduler"]),
        ParamSpec("format", "string", "auto"),
    ]
    return ModelSignature(inputs=Schema([ColSpec("string")]), params=ParamSchema(parameters))


def _by_alias(client: "MlflowClient", name: str) -> "ModelVersion | None":
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version_by_alias(name, ALIAS)
    except MlflowException as error:
        if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            return None
        # a server with users forbids to read what is not there
        if error.get_http_status_code() == FORBIDDEN and not client.search_registered_models(f"name = '{name}'"):
            return None
        raise


def _by_number(client: "MlflowClient", name: str, version: str) -> "ModelVersion | None":
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version(name, version)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def _as_champion(version: "ModelVersion") -> Champion:
    return Champion(
        version=str(version.version),
        adapter_sha256=version.tags.get("adapter_sha256", ""),
        adapter_dir=Path(version.tags.get("adapter_dir", "")),
        base_fingerprint=version.tags.get("base_fingerprint", ""),
        beat=version.tags.get("beat"),
    )

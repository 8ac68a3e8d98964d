"""Points the real client, in this process and in those that it starts, at a Hub on this machine."""

import importlib
import sys
from pathlib import Path

import pytest


def point_at(url: str, home: Path, patch: pytest.MonkeyPatch) -> None:
    """huggingface_hub reads its variables once, when it is imported: both are set."""
    from huggingface_hub import constants

    for name in ("HF_HUB_OFFLINE", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        patch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        patch.delenv(name, raising=False)
        patch.delenv(name.lower(), raising=False)
    patch.setenv("HF_ENDPOINT", url)
    patch.setenv("HF_HOME", str(home))
    patch.setattr(constants, "ENDPOINT", url)
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    patch.setattr(constants, "HF_HUB_OFFLINE", False)
    patch.setenv("HF_HUB_DISABLE_XET", "1")  # uploads go by LFS, which a server of a few lines can speak
    patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    patch.setattr(constants, "HF_HOME", str(home))
    patch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    patch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    if "datasets" in sys.modules:
        patch.setattr(importlib.import_module("datasets.config"), "HF_ENDPOINT", url)

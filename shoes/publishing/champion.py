"""The champion's files on this machine: where they were exported to, or a copy out of MLflow."""

import logging
from pathlib import Path

from shoes.publishing.export import adapter_sha256, is_exported
from shoes.tracking.registry import Champion, Registry

log = logging.getLogger(__name__)


def files_of(champion: Champion, registry: Registry, copies: Path) -> Path | None:
    """The folder of a champion's adapter, fetched from MLflow if another machine trained it; none if it is lost.

    Raises:
        TrackingUnavailable, TrackingRefused: MLflow is needed, and can't be used.
    """
    if holds(champion.adapter_dir, champion):
        return champion.adapter_dir
    copy = copies / champion.adapter_sha256[:16] / "adapter"
    if not holds(copy, champion):
        log.info("version %s of the registered model is fetched from MLflow", champion.version)
        registry.download(champion.version, copy)
    return copy if holds(copy, champion) else None


def holds(folder: Path, champion: Champion) -> bool:
    """A whole adapter with the champion's bytes: another machine may have one of its own in a folder of this name."""
    return is_exported(folder) and adapter_sha256(folder) == champion.adapter_sha256

"""A data set as MLflow describes the inputs of a run."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shoes.dataset.description import Description
from shoes.reports import DataReport

log = logging.getLogger(__name__)
DIGEST_LENGTH = 36
"""MLflow keeps no longer ones."""

CONTEXTS: Mapping[str, str] = {"train": "training", "val": "validation", "test": "testing"}
"""What a run does with each split."""

_DATA = "description.json"


def describe(data: DataReport) -> Description | None:
    """The description of a data set, where there is one: a night does not end for want of it."""
    if data.description is None:
        return None
    try:
        return Description.model_validate_json((data.description / _DATA).read_bytes())
    except (OSError, ValueError) as error:
        log.warning("the description of the data set can't be read, so MLflow gets none: %s", error)
        return None


def about(split: Path, description: Description | None) -> dict[str, Any]:
    """Source, schema and profile of a split, in MLflow's forms."""
    return {"source_type": "local", "source": _source(split, description), **_contents(split.name, description)}


def _source(split: Path, description: Description | None) -> dict[str, Any]:
    """Where the split is, and where its photos came from."""
    known = ("kind", "name", "revision", "filters")
    origin = {key: value for key, value in (description.source if description else {}).items() if key in known}
    return {"uri": str(split), **({"made_from": origin} if origin else {})}


def _contents(split: str, description: Description | None) -> dict[str, Any]:
    if description is None:
        return {}
    columns = ("image_file", "caption", *description.attributes)
    counts = {
        name: {tally.value: number for tally in tallies if (number := getattr(tally, split))}
        for name, tallies in description.attributes.items()
    }
    profile = {
        "num_rows": getattr(description.photos, split),
        "num_captions": getattr(description.captions, split),
        "resolution": description.resolution,
        "fingerprint": description.fingerprint,
        **counts,
    }
    return {
        "schema": {"mlflow_colspec": [{"name": name, "type": "string", "required": True} for name in columns]},
        "profile": profile,
    }

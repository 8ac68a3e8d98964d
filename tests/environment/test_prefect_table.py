"""The environment as a table in Prefect's dashboard, also on a night that ends there."""

import asyncio
import json

import pytest

from shoes import recipes
from shoes.environment import verify
from shoes.environment.check import ALWAYS, Check, Finding
from shoes.errors import NotReady

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::ResourceWarning")


def artifact() -> tuple[list[dict[str, str]], str]:
    from prefect.artifacts import Artifact

    found = asyncio.run(Artifact.aget("environment"))
    return json.loads(found.data), found.description


def test_a_machine_that_is_not_ready_is_shown_as_well(prefect: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.overnight import verify_environment

    found = [Finding("OK", "fine"), Finding("ERROR", "one\ntwo", "mend it")]
    checks = [Check("Disk", lambda situation: found[0], ALWAYS, 10), Check("Memory", lambda s: found[1], ALWAYS, 10)]
    monkeypatch.setitem(verify.__kwdefaults__, "checks", checks)
    with pytest.raises(NotReady, match="mend it"):
        verify_environment(recipes.load("demo"))
    table, description = artifact()
    assert [(row["status"], row["check"], row["found"]) for row in table] == [
        ("OK", "Disk", "fine"),
        ("ERROR", "Memory", "one; two"),
    ]
    assert "Not ready for training" in description

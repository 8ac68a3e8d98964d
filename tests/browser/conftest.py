"""Options of the browser tests, and a browser that talks to this machine alone."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from demo.browser import chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Route

ASSISTANT = "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1"
"""Whether MLflow's pane for a language model, which opens by itself on somebody's first visit, has done so."""
NOTICES_STAY = """
const soon = window.setTimeout
window.setTimeout = (action, delay, ...given) => soon(action, delay === 4000 ? 120000 : delay, ...given)
"""
"""Prefect's notices go after four seconds, in which a busy machine may not come to look at them."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--pictures", type=Path, help="a folder for pictures of each step, such as docs/images/operating")


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def desk(browser: "Browser") -> "BrowserContext":
    """A browser as it is on a desk, for servers of this machine; what pages ask of others is not sent."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, reduced_motion="reduce")
    context.route(lambda address: urlsplit(address).hostname != "127.0.0.1", refuse)
    context.add_init_script(f"if (window === top) localStorage.setItem('{ASSISTANT}', 'true')")
    context.add_init_script(NOTICES_STAY)
    context.set_default_timeout(60_000)
    return context


def refuse(route: "Route") -> None:
    route.abort()

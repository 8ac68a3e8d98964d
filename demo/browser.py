"""Chromium as this project drives it: the system's own, headless, and talking to nobody by itself."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--disable-gpu",
    "--disable-software-rasterizer",
)


def find() -> str | None:
    """The browser's program; None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@contextmanager
def chromium() -> "Iterator[Browser]":
    """A browser, closed at the end.

    Raises:
        FileNotFoundError: there is none on this machine.
    """
    from playwright.sync_api import sync_playwright

    program = find()
    if program is None:
        raise FileNotFoundError("Chromium is not installed: apt-get install chromium, or brew install --cask chromium")
    as_root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=[*FLAGS, *as_root])
        try:
            yield browser
        finally:
            browser.close()

"""MLflow's pages as a person uses them."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page


class Runs:
    """Experiments and their runs, one page after the other in one tab."""

    def __init__(self, page: "Page", address: str) -> None:
        self.page = page
        self.address = address

    def experiment(self, name: str) -> None:
        """An experiment's list of runs. By itself MLflow shows pages for language models, until somebody chooses."""
        self.page.goto(f"{self.address}/#/experiments")
        self.page.get_by_role("button", name="Model training").click()
        self.page.get_by_role("link", name=name, exact=True).first.click()

    def open(self, run: str) -> None:
        self.page.get_by_role("link", name=run, exact=True).first.click()
        self.tab("Overview")

    def tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name, exact=True).click()

    def file(self, folder: str, name: str) -> None:
        """Open one of a run's artifacts."""
        self.page.get_by_text(folder, exact=True).first.click()
        self.page.get_by_text(name, exact=True).first.click()

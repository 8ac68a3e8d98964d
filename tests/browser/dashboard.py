"""Prefect's dashboard as a person uses it: everything is found by what is written on it."""

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from shoes.spec import Recipe

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page


class Dashboard:
    """Its pages, one after the other in one tab."""

    def __init__(self, page: "Page", address: str) -> None:
        self.page = page
        self.address = address

    def deployments(self) -> None:
        """The list of what can be run, by its way through the menu, and all of it on one page."""
        self.page.goto(self.address)
        self.page.get_by_role("link", name="Deployments").click()
        self.page.wait_for_url("**/deployments**")
        self.page.goto(f"{self.page.url.partition('?')[0]}?limit=25")

    def form(self, deployment: str) -> None:
        """The form of a run with other values."""
        self.deployments()
        self.page.get_by_role("link", name=deployment, exact=True).first.click()
        self.page.get_by_role("button", name="Run", exact=True).click()
        self.page.get_by_role("menuitem", name="Custom run").click()
        self.field("train.max_train_steps").wait_for()

    def field(self, name: str) -> "Locator":
        """A field of the form, by its dotted name in the recipe: what it is called there is its title."""
        section, field = name.split(".")
        schema = type(getattr(Recipe(), section)).model_json_schema()
        return self.page.get_by_label(f"{schema['properties'][field]['title']} (Optional)", exact=True)

    def fill(self, values: Mapping[str, str]) -> None:
        for name, value in values.items():
            self.field(name).fill(value)

    def give_json(self, text: str) -> None:
        """The recipe as text instead of fields. An editor that has just come may put it before what was there."""
        self.page.get_by_role("button", name="Open menu").first.click()
        self.page.get_by_role("menuitem", name="Use JSON Input").click()
        editor = self.page.locator(".cm-content")
        for _ in range(20):
            editor.click()
            self.page.keyboard.press("ControlOrMeta+A")
            self.page.keyboard.insert_text(text)
            self.page.wait_for_timeout(300)
            if editor.inner_text().strip() == text:
                return
        raise AssertionError(f"the editor holds {editor.inner_text()!r}")

    def press_submit(self) -> None:
        self.page.get_by_role("button", name="Submit").click()

    def submit(self) -> None:
        """Have the server answer: it says 5xx where its database is busy, and a busy page passes over a click."""
        from playwright.sync_api import TimeoutError as NoAnswer

        for _ in range(5):
            with suppress(NoAnswer):
                with self.page.expect_response("**/create_flow_run", timeout=30_000) as answer:
                    self.press_submit()
                if answer.value.status < 500:
                    return
        raise AssertionError("nothing was submitted")

    def notice(self, text: str) -> "Locator":
        """What pops up in the corner, once it has; where it does not, what did instead is in the error."""
        from playwright.sync_api import TimeoutError as NotShown

        shown = self.page.locator("[data-sonner-toast]")
        found = shown.filter(has_text=text).first
        try:
            found.wait_for()
        except NotShown as error:
            raise AssertionError(f"no notice says {text!r}; shown are {shown.all_inner_texts()}") from error
        return found

    def run(self, run_id: str, tab: str = "Logs") -> None:
        self.page.goto(f"{self.address}/v2/runs/flow-run/{run_id}")
        self.tab(tab)

    def leave(self) -> None:
        """Close what is shown: a page of a run that goes on asks its server all the time."""
        self.page.goto("about:blank")

    def tab(self, name: str) -> "Locator":
        """One of a run's tabs; what it shows."""
        self.page.get_by_role("tab", name=name).click()
        return self.page.get_by_role("tabpanel", name=name)

    def is_in(self, state: str) -> "Locator":
        """The state beside the run's name."""
        return self.page.get_by_role("main").get_by_text(state, exact=True).first

    def choose(self, action: str) -> None:
        """One of the actions in the run's menu, which asks once more."""
        self.page.get_by_role("main").get_by_role("button", name="Open menu").first.click()
        self.page.get_by_role("menuitem", name=action).click()

    def confirm(self, action: str) -> None:
        question = self.page.get_by_role("alertdialog").or_(self.page.get_by_role("dialog"))
        question.get_by_role("button", name=action).click()

    def only_errors(self) -> None:
        """The log without what went well."""
        self.page.get_by_role("combobox").filter(has_text="Level").click()
        self.page.get_by_role("option", name="Error and above").click()

    def artifact(self, key: str) -> None:
        """The newest artifact of a name: by its card, and then the newest of its history."""
        self.page.get_by_role("tabpanel", name="Artifacts").get_by_role("link").filter(has_text=key).first.click()
        self.page.wait_for_url("**/artifacts/key/*")
        self.page.locator("a[href*='/artifacts/artifact/']").first.click()
        self.page.wait_for_url("**/artifacts/artifact/*")

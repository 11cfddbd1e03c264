"""A page used as a person uses it: by what is written on it, waiting for what is to come."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from selenium.common.exceptions import (
    ElementClickInterceptedException,
    ElementNotInteractableException,
    JavascriptException,
    StaleElementReferenceException,
)
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.remote.webelement import WebElement

FIND = Path(__file__).with_name("find.js").read_text(encoding="utf-8")
SETTLED = """const view = document.querySelector(`.view.of-${arguments[0]}`);
const none = (what) => !document.querySelector(what);
const grids = [...document.querySelectorAll(".tiles-grid")];
return view?.querySelector("h1") && none("[aria-busy=true]") && none(".tile:not([data-row])") &&
  (arguments[0] !== "map" || view.querySelector("[data-drawn]") && !none(".map-groups button")) &&
  grids.every((grid) => grid.children.length) && [...document.images].every((e) => e.complete)"""
# Into the middle of the window: at its edges are the bars.
REACH = """const it = arguments[0].labels?.[0] ?? arguments[0];
it.scrollIntoView({ block: "center", behavior: "instant" });
return it"""
# Looked at or clicked on in the middle of a change.
PASSING = (
    ElementClickInterceptedException,
    ElementNotInteractableException,
    JavascriptException,
    StaleElementReferenceException,
)
PATIENCE = 60.0
"""Seconds that anything may take: the machine may be busy with much else."""


class Page:
    """The tab in front of a browser that is driven."""

    def __init__(self, driver: Chrome, link: str, name: str) -> None:
        self.driver, self.link, self.name = driver, link, name
        # What the console may say, besides nothing: a regular expression.
        self.expected = "$^"

    # ---- looking

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        """Wait until `condition` returns something true, and return that."""

        __tracebackhide__ = True
        end = time.monotonic() + PATIENCE
        while True:
            try:
                if found := condition():
                    return found
            except PASSING:
                pass
            if time.monotonic() > end:
                raise AssertionError(
                    f"Waited {PATIENCE:.0f} s for {what}; there is: {self._summary()}"
                )
            time.sleep(0.05)

    def all(self, role: str, name: str | re.Pattern[str] | None = None, inside: Any = None) -> list:
        """The visible elements of a role (see find.js) and, if given, of a name."""
        asked = {"regex": name.pattern} if isinstance(name, re.Pattern) else name
        return self.driver.execute_script(FIND, role, asked, inside)

    def the(self, role: str, name: Any = None, inside: Any = None) -> WebElement:
        """The first such element, as soon as there is one."""
        found = self.until(lambda: self.all(role, name, inside), f"{role} {name!r}")
        return found[0]

    def has(self, text: str) -> None:
        """Wait until a text can be read on the page."""
        self.until(lambda: text in self.text(), f"the words {text!r}")

    def settled(self, view: str) -> None:
        """Wait until a view is there with its pictures."""
        self.until(lambda: self.run(SETTLED, view), f"the view {view} with its pictures")

    def text(self) -> str:
        """All that can be read."""
        return self.run("return document.body.innerText")

    def _summary(self) -> str:
        shown = "[...document.querySelectorAll('h1, dialog, .notice, .connection, .waiting')]"
        told = self.run(f"return {shown}.map((e) => e.innerText)")
        return " | ".join(filter(None, told)) + f" at {self.driver.current_url}"

    def run(self, script: str, *arguments: Any) -> Any:
        """Run a script in the page."""
        return self.driver.execute_script(script, *arguments)

    # ---- doing

    def open(self, view: str = "", uid: int | None = None, query: str = "") -> None:
        """Go to a view of the clustering by its address."""
        path = "/".join(map(str, filter(None, ("#", "c", self.name, view, uid))))
        home = self.link.partition("?")[0]
        start = home if self.driver.current_url.startswith(home) else self.link
        self.driver.get(start + path + (query and "?") + query)

    def click(self, role: str, name: Any = None, inside: Any = None) -> None:
        """Click on something as soon as it is there and nothing covers it."""

        def clicked() -> bool:
            found = self.all(role, name, inside)
            if found:
                self.run(REACH, found[0]).click()
            return bool(found)

        self.until(clicked, f"{role} {name!r} to click on")

    def write(self, text: str, name: Any = None) -> None:
        """Replace what is in a text field."""
        field = self.the("textbox", name)
        field.send_keys(Keys.CONTROL, "a")
        field.send_keys(text)

    def press(self, *keys: str) -> None:
        """Press keys one after another, wherever the focus is."""
        ActionChains(self.driver).send_keys(*keys).perform()

    def press_with(self, key: str, *held: str) -> None:
        """Press a key while others are held down."""
        chain = ActionChains(self.driver)
        for other in held:
            chain.key_down(other)
        chain.send_keys(key)
        for other in reversed(held):
            chain.key_up(other)
        chain.perform()

    def tab_to(self, role: str, name: Any) -> None:
        """Go to something with the tabulator key alone."""
        self.the(role, name)
        for _ in range(200):
            if self.driver.switch_to.active_element in self.all(role, name):
                return
            self.press(Keys.TAB)
        raise AssertionError(f"The tabulator key does not reach {role} {name!r}.")

    def new_tab(self) -> None:
        """Open the page in another tab, and go on there."""
        self.driver.switch_to.new_window("tab")
        self.open()

    def turn_to(self, tab: str) -> None:
        """Go to a tab that is open, and bring it to the front."""
        self.driver.switch_to.window(tab)
        self.driver.execute_cdp_cmd("Page.bringToFront", {})

    def sized(self, width: int, height: int, scale: int = 1) -> None:
        """Look through a window of so many points; `scale` pixels to each, as on a telephone."""
        size = {"width": width, "height": height, "deviceScaleFactor": scale}
        how = size | {"mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", how)

    def deaf(self) -> None:
        """Keep from this page what the server says by itself, from its next loading on."""
        self.driver.execute_cdp_cmd("Network.enable", {})
        self.driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": ["*/events"]})
        self.driver.refresh()

    # ---- what it left

    def errors(self) -> list[str]:
        """What went wrong by the console since it was last asked, but for what is expected."""
        said = [e["message"] for e in self.driver.get_log("browser") if e["level"] == "SEVERE"]
        return [message for message in said if not re.search(self.expected, message)]


def downloaded(page: Page, folder: Path, ending: str) -> Path:
    """The one file that the browser has stored, as soon as it is whole."""

    def whole() -> Path | None:
        files = list(folder.iterdir())
        return files[0] if len(files) == 1 and files[0].suffix == ending else None

    return page.until(whole, f"a stored file that ends in {ending}")

"""The same without a mouse: nothing here clicks, and the focus never gets lost."""

import re

from screen import cards, images
from selenium.webdriver import Keys
from using import downloaded

from imageherd.herd import Herd

SPLIT = re.compile("^Split it")


def focused(page):
    """Name of what has the focus, which must not get lost."""

    def name():
        element = page.driver.switch_to.active_element
        return element.tag_name != "body" and element.accessible_name

    return page.until(name, "something that has the focus")


def test_a_cluster_is_corrected_by_keys_alone(page, server, stored):
    before = cards(page)
    first, second = before[:2]

    page.press(Keys.TAB)
    assert focused(page) == "Skip to the pictures"
    page.tab_to("link", first.name)
    page.press(Keys.ARROW_RIGHT)
    assert focused(page) == second.name
    page.press(Keys.ENTER)
    page.the("heading", second.name)
    page.settled("cluster")
    assert focused(page) == second.name
    page.press("x", Keys.ARROW_RIGHT)
    page.press_with(Keys.ARROW_RIGHT, Keys.SHIFT)
    page.has("3 images selected")
    page.press(Keys.ESCAPE)
    page.press(Keys.HOME, "x", Keys.ARROW_RIGHT, "x", Keys.ARROW_RIGHT, Keys.SPACE)
    page.has("3 images selected")
    rows = page.run(
        "return Array.from(document.querySelectorAll(arguments[0]), (e) => +e.dataset.row)",
        "[aria-selected=true]",
    )
    page.press("m")
    page.the("textbox", "Find a cluster by its name")
    page.press(first.name, Keys.ENTER)
    page.has(f"{second.size - 3} images")
    assert focused(page) == second.name
    assert not set(rows) & set(images(page))
    page.press_with("z", Keys.CONTROL)
    page.has(f"{second.size} images")
    page.press_with("z", Keys.CONTROL, Keys.SHIFT)
    page.has(f"{second.size - 3} images")

    page.press("r")
    page.the("textbox", "Name")
    page.press(Keys.ESCAPE)
    page.until(lambda: not page.all("textbox", "Name"), "the field to close")
    assert focused(page) == second.name
    page.press("r")
    page.the("textbox", "Name")
    page.press("By keys", Keys.ENTER)
    page.the("heading", "By keys")

    page.press("p")
    page.until(lambda: page.the("button", SPLIT).is_enabled(), "a preview")
    page.tab_to("button", SPLIT)
    page.press(Keys.ENTER)
    page.the("heading", re.compile("^By keys [12]"))
    focused(page)

    page.tab_to("link", "Clusters")
    page.press(Keys.ENTER)
    page.has("400 images in 9 clusters")
    page.tab_to("link", "By keys 1")
    page.press("x")
    page.tab_to("link", "By keys 2")
    page.press("x")
    page.has("2 clusters selected")
    page.press("g")
    page.has("Merge 2 clusters")
    page.press(Keys.ARROW_DOWN, Keys.ENTER)
    page.has("400 images in 8 clusters")
    page.the("link", "By keys 2")
    focused(page)

    page.tab_to("button", "Export")
    page.press(Keys.ENTER)
    page.tab_to("link", "CSV table")
    page.press(Keys.ENTER)
    assert downloaded(page, stored, ".csv").read_text(encoding="utf-8").count("\n") == 401
    assert len(Herd(server.herd).edit(page.name).undoable()[0]) == 5


def test_a_picture_opens_large_and_closes_with_the_focus_where_it_was(page):
    name = cards(page)[0].name
    page.tab_to("link", name)
    page.press(Keys.ENTER)
    page.the("heading", name)
    page.settled("cluster")
    files = list(images(page).values())
    page.press(Keys.HOME, Keys.ENTER)
    page.the("heading", files[0], page.the("dialog"))
    page.press(Keys.ARROW_RIGHT)
    page.the("heading", files[1], page.the("dialog"))
    page.press("x", Keys.ESCAPE)
    page.until(lambda: not page.all("dialog"), "the picture to close")
    page.has("1 image selected")
    assert focused(page) == name
    page.press("s")
    page.settled("search")
    page.the("heading", "More like this")
    focused(page)

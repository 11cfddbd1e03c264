"""Everyone can use it: axe finds nothing serious, no view is wider than a telephone."""

import pytest
from doing import pick, rename
from screen import cards
from selenium.webdriver import Keys
from selenium_axe_python import Axe

VIEWS = ("clusters", "cluster", "map", "search", "compare", "history")


def violations(page):
    """What axe holds to be serious or critical, with where it is."""
    axe = Axe(page.driver)
    axe.inject()
    found = axe.run()["violations"]
    return [
        (v["id"], v["impact"], node["html"][:200], node["failureSummary"])
        for v in found
        for node in v["nodes"]
        if v["impact"] in ("serious", "critical")
    ]


def show(page, view):
    """Open a view, not an empty one, and wait for its pictures."""
    how = {
        "cluster": {"uid": 1},
        "search": {"query": "row=3"},
        "compare": {"query": "with=six"},
    }
    page.open("" if view == "clusters" else view, **how.get(view, {}))
    page.settled(view)


@pytest.fixture(params=["light", "dark"])
def painted(page, request):
    """The page in a theme, after an edit."""
    page.run("localStorage.setItem('imageherd-theme', arguments[0])", request.param)
    rename(page, cards(page)[0].name, "Renamed")
    page.the("heading", "Renamed")
    page.driver.refresh()
    page.settled("cluster")
    assert page.run("return document.documentElement.dataset.theme") == request.param
    return page


def test_axe_finds_nothing_serious(painted):
    found = {}
    for view in VIEWS:
        show(painted, view)
        found[view] = violations(painted)
    assert found == {view: [] for view in VIEWS}


def test_axe_finds_nothing_serious_in_dialogs(painted):
    page = painted
    page.press("r")
    page.the("textbox", "Name")
    assert violations(page) == [], "renaming"
    page.press(Keys.ESCAPE)
    for key, words in (("g", "Merge “"), ("p", "This is how it would be"), ("?", "Among images")):
        page.press(key)
        page.has(words)
        page.settled("cluster")
        assert violations(page) == [], words
        page.click("button", "Close")
    pick(page, 1)
    page.press("m")
    page.the("textbox", "Find a cluster by its name")
    assert violations(page) == [], "Move to …"
    page.press(Keys.ESCAPE)
    page.has("1 image selected")
    page.press(Keys.ENTER)
    page.has("How sure")
    assert violations(page) == [], "a large picture"


def test_nothing_is_wider_than_a_telephone(page):
    page.sized(390, 844, scale=2)
    for view in VIEWS:
        show(page, view)
        wide = "return [document.documentElement.scrollWidth, innerWidth]"
        assert page.run(wide) == [390, 390], view


def test_a_link_without_its_token_opens_nothing(page):
    page.expected = "status of 401"
    page.driver.delete_all_cookies()
    page.driver.get(page.link.partition("?")[0])
    page.has("token")


def test_the_link_opens_from_another_sites_page(page):
    # Of the page that is left, which may still be loading.
    page.expected = "status of 401"
    page.driver.delete_all_cookies()
    page.driver.get(f'data:text/html,<a id="l" href="{page.link}">herd</a>')
    page.driver.find_element("id", "l").click()
    page.settled("clusters")

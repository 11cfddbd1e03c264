"""Two at once, and a server that dies: nobody loses anything, and everybody is told."""

import re

from doing import open_cluster, pick, rename
from screen import cards
from selenium.webdriver import Keys

from imageherd.herd import Herd

LOST = "The connection to imageherd serve is lost"
AWAY = (
    "ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET"
)


def test_what_one_does_the_other_sees(page):
    first = cards(page)[0]
    here = page.driver.current_window_handle
    page.new_tab()
    open_cluster(page, first.name)
    there = page.driver.current_window_handle

    page.turn_to(here)
    rename(page, first.name, "From the first tab")
    page.the("heading", "From the first tab")

    page.turn_to(there)
    page.the("heading", "From the first tab")
    page.click("button", re.compile("^Undo: "))
    page.the("heading", first.name)

    page.turn_to(here)
    page.the("heading", first.name)
    page.the("button", re.compile("^Redo: "))


def test_who_comes_second_is_told_and_loses_nothing(page, server):
    page.expected = "status of 409|ERR_BLOCKED_BY_CLIENT"
    first, second = cards(page)[:2]
    # The other edit comes while this page does not hear of it, as over a slow line.
    page.deaf()
    open_cluster(page, first.name)
    rows = pick(page, 2)
    Herd(server.herd).edit(page.name, author="Ann").rename(second.uid, "Ann was here")
    page.click("button", "Fits nowhere")
    page.has("Changed meanwhile")
    page.has("Ann")
    page.click("button", "Try again all the same")
    page.has(f"{first.size - 2} images")
    done = Herd(server.herd).edit(page.name).undoable()[0]
    assert [(e.kind, e.payload.get("rows")) for e in done] == [
        ("rename", None),
        ("outlier", sorted(rows)),
    ]
    page.click("link", "Clusters")
    page.the("link", "Ann was here")


def test_a_server_that_was_killed_and_started_again(page, server):
    page.expected = AWAY
    first, second = cards(page)[:2]
    rename(page, first.name, "Before the kill")
    page.the("heading", "Before the kill")
    server.kill()
    page.has(LOST)
    page.click("button", "Rename")
    page.write("After the kill", "Name")
    page.press(Keys.ENTER)
    page.has("The server does not answer")
    server.start()
    page.until(lambda: LOST not in page.text(), "the page to go on")
    page.the("textbox", "Name")
    page.press(Keys.ENTER)
    page.the("heading", "After the kill")
    page.click("link", "Clusters")
    assert {"After the kill", second.name} < {card.name for card in cards(page)}
    log = Herd(server.herd).edit(page.name).log()
    assert [e.payload["name"] for e in log] == ["Before the kill", "After the kill"]


def test_seven_tabs_are_not_too_many(page):
    name = cards(page)[0].name
    for _ in range(6):
        page.new_tab()
        page.the("link", name)
    rename(page, name, "In the seventh tab")
    page.the("heading", "In the seventh tab")

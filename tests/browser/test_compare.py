"""Compare by keys alone; search for what is like several images, and like a file dropped."""

import re

import numpy as np
import pytest
from doing import open_cluster, pick
from screen import cards, images
from selenium.webdriver import Keys
from serving import CLOTHING

from imageherd.herd import Herd

DROP = """const [input, target] = arguments;
const carried = new DataTransfer();
carried.items.add(input.files[0]);
const how = { dataTransfer: carried, bubbles: true, cancelable: true };
target.dispatchEvent(new DragEvent("drop", how));"""


@pytest.fixture
def two(server, page):
    """The clustering of the page, and the one beside it."""
    herd = Herd(server.herd)
    return herd.clustering(page.name), herd.clustering("six")


def flow_of(page, i=0):
    """From, to and number of images of a flow, as it is written there."""
    said = page.until(
        lambda: page.run("return [...document.querySelectorAll('.flow')].map((e) => e.innerText)"),
        "what changed groups",
    )[i]
    names, size = said.replace("\n", " ").rsplit(" ", 1)
    return [name.strip() for name in names.split("→")], int(size)


def test_what_changed_groups_is_found_and_moved_by_keys_alone(page, two):
    a, b = two
    page.settled("clusters")
    page.tab_to("link", "Compare")
    page.press(Keys.ENTER)
    page.settled("compare")
    page.tab_to("choice", "Compare with")
    page.press(*"six")
    page.has("Here → six")
    names, size = flow_of(page)
    page.tab_to("link", re.compile(f"{re.escape(names[0])}.*{re.escape(names[1])}"))
    page.press(Keys.ENTER)
    page.the("heading", re.compile("→"))
    page.settled("compare")
    rows = list(images(page))
    assert len(rows) == size
    at = np.searchsorted(a.rows, rows)
    assert len(set(a.uids[at].tolist())) == len(set(b.uids[at].tolist())) == 1
    assert a.names()[a.uids[at[0]]] == names[0]
    assert b.names()[b.uids[at[0]]] == names[1]
    assert ((a.uids == a.uids[at[0]]) & (b.uids == b.uids[at[0]])).sum() == size
    page.tab_to("listbox", "Images that changed groups")
    page.press(Keys.HOME, "x", "o")
    page.has(f"{size - 1} images, here in {names[0]}")
    page.press_with("z", Keys.CONTROL)
    page.has(f"{size} images, here in {names[0]}")
    page.tab_to("link", "← Compare")
    page.press(Keys.ENTER)
    page.has("What changed groups")
    assert flow_of(page) == (names, size)


def test_edits_are_seen_beside_what_was_trained(page):
    name = cards(page)[0].name
    open_cluster(page, name)
    rows = set(pick(page, 3))
    page.press("o")
    page.click("link", "Compare")
    page.settled("compare")
    page.open("compare", query=f"with={page.name}")
    page.has("397 of 400 images are in the same group; 3 (1 %) changed.")
    assert flow_of(page) == (["Fits nowhere", name], 3)
    page.click("link", "All 3")
    page.has("3 images, in another group as it was trained")
    assert set(images(page)) == rows
    page.press_with("z", Keys.CONTROL)
    page.has("Nothing is left here.")


def test_several_images_and_a_dropped_one_are_searched_for(page):
    open_cluster(page, cards(page)[0].name)
    rows = set(pick(page, 3))
    page.press("s")
    page.the("heading", "More like these 3 images")
    page.settled("search")
    assert len(images(page)) == 60
    assert not rows & set(images(page))
    page.click("button", "Show more")
    page.has("The 240 images most alike")
    photo = CLOTHING / "photo-0011.jpg"
    # A script cannot take a file from the desktop: one that was chosen elsewhere is dropped.
    page.run("document.body.append(Object.assign(document.createElement('input'), {type: 'file'}))")
    stray = page.all("file")[-1]
    stray.send_keys(str(photo))
    page.run(DROP, stray, page.the("heading", "Search"))
    page.the("heading", f"Most like {photo.name}")
    page.until(lambda: next(iter(images(page).values()), "") == photo.name, "the picture first")
    page.click("link", "Clusters")
    page.click("link", "Search")
    page.the("heading", f"Most like {photo.name}")

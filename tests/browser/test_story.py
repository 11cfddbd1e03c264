"""From the link to the table: what a person does with a mouse; the table is what was seen."""

import csv
import re
import subprocess
import sys

import pytest
from doing import open_cluster, pick, rename
from screen import cards, images
from serving import CLOTHING
from using import downloaded

from imageherd.herd import Herd

ALERTS = """const alerts = [...document.querySelectorAll("[role=alert]")];
return alerts.map((alert) => alert.innerText).join("")"""


HURRY = """const [name, pause, done] = arguments;
const some = ["", "/cluster/1", "/map", "/cluster/2", "/search?row=3"];
const views = [...some, "/compare?with=six", "/history"];
const next = () => {
  if (!views.length) return done();
  location.hash = `#/c/${name}${views.shift()}`;
  setTimeout(next, pause);
};
next();"""
SPLIT = re.compile("^Split it")


def table_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return {int(line["row"]): line for line in csv.DictReader(file)}


def test_from_the_link_to_the_table(page, server, stored):
    before = cards(page)
    assert sum(card.size for card in before) == 400
    first, second, third, fourth = (card.name for card in before[:4])

    assert "token" not in page.driver.current_url

    rename(page, first, "Warm things")
    page.the("heading", "Warm things")

    open_cluster(page, second)
    moved = pick(page, 3)
    page.click("button", "Move to …")
    page.write("warm", "Find a cluster by its name")
    page.click("option", re.compile("Warm things"))
    page.has(f"{before[1].size - 3} images")
    assert not set(moved) & set(images(page))
    open_cluster(page, "Warm things")
    assert set(moved) < set(images(page))

    page.click("link", "Clusters")
    page.click("checkbox", f"Select {third}")
    page.click("checkbox", f"Select {fourth}")
    page.click("button", "Merge")
    page.has("Merge 2 clusters")
    page.click("button", re.compile("^Merge"), page.the("dialog"))
    page.has("400 images in 7 clusters")
    page.click("button", re.compile("^Undo: "))
    page.has("400 images in 8 clusters")
    assert {third, fourth} < {card.name for card in cards(page)}

    open_cluster(page, third)
    whole = set(images(page))
    page.click("button", "Split …")
    page.has("This is how it would be: 2 clusters.")
    page.settled("cluster")
    page.click("button", SPLIT)
    page.the("heading", re.compile(f"^{re.escape(third)} "))
    page.click("link", "Clusters")
    page.has("400 images in 9 clusters")
    parts = [card for card in cards(page) if card.name.startswith(third + " ")]
    assert len(parts) == 2
    assert sum(part.size for part in parts) == len(whole)

    page.click("link", "History")
    page.has("Warm things")

    page.click("link", "Clusters")
    seen = {}
    for card in cards(page):
        page.open("cluster", card.uid)
        page.the("heading", card.name)
        shown = images(page)
        assert len(shown) == card.size
        seen |= {row: (name, card.uid, card.name) for row, name in shown.items()}
    page.click("button", "Export")
    page.click("link", "CSV table")
    table = table_of(downloaded(page, stored, ".csv"))
    said = {
        row: (line["path"].rpartition("/")[2], int(line["uid"]), line["name"])
        for row, line in table.items()
    }
    assert said == seen
    assert all(table[row]["by_hand"] == "true" for row in moved)

    by_verb = stored / "verb.csv"
    command = [sys.executable, "-m", "imageherd", "export", str(server.herd)]
    subprocess.run([*command, str(by_verb), "--name", page.name], check=True, capture_output=True)
    assert table_of(by_verb) == table


def test_more_like_this_and_a_picture_from_elsewhere(page, server):
    open_cluster(page, cards(page)[0].name)
    (row,) = pick(page, 1)
    page.click("button", "More like this")
    page.settled("search")
    hits = page.until(lambda: images(page), "what is like it")
    expected = Herd(server.herd).search(item=row, n=len(hits), name=page.name).rows.tolist()
    assert list(hits) == expected

    photo = CLOTHING / "photo-0007.jpg"
    page.all("file")[0].send_keys(str(photo))
    page.until(
        lambda: next(iter(images(page).values()), "") == photo.name,
        "the picture itself, found first",
    )


@pytest.mark.parametrize(
    ("name", "content"), [("cut.jpg", "half"), ("notes.jpg", "words"), ("empty.jpg", "")]
)
def test_a_damaged_picture_gets_a_sentence(page, tmp_path, name, content):
    page.expected = "status of 4"
    damaged = tmp_path / name
    whole = (CLOTHING / "photo-0007.jpg").read_bytes()
    damaged.write_bytes({"half": whole[:900], "words": b"no picture", "": b""}[content])
    page.click("link", "Search")
    page.until(lambda: page.all("file"), "where to give a picture")
    page.all("file")[0].send_keys(str(damaged))
    said = page.until(lambda: page.run(ALERTS), "a sentence")
    assert said.startswith("The file cannot be read as an image: ")
    assert said.endswith(".")


def test_who_hurries_from_view_to_view_ends_in_the_last(page):
    for pause in (0, 5, 40, 150):
        page.driver.execute_async_script(HURRY, page.name, pause)
    page.the("heading", "History")
    page.settled("history")

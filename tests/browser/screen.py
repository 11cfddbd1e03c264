"""What the page shows, read off it as a person would who scrolls through everything."""

from dataclasses import dataclass

CARDS = """return [...document.querySelectorAll(".card")].map((card) => [
  card.getAttribute("aria-setsize"), card.dataset.uid, card.querySelector(".open").textContent,
  card.querySelector(".size").textContent])"""
# What is written above says how many there are; tiles of an earlier moment stay until the new come.
TILES = """const said = [...document.querySelectorAll(".view .facts-line")].at(-1)?.textContent;
const n = /[0-9,]+/.exec(said ?? "")?.[0].replace(",", "");
return [...document.querySelectorAll(`.tile[data-row][aria-setsize="${n}"]`)].map((tile) => [
  n, tile.dataset.row, tile.querySelector("bdi").textContent])"""


@dataclass(frozen=True)
class Card:
    uid: int
    name: str
    size: int


def cards(page) -> list[Card]:
    """All cards of the view of clusters, which is open."""
    page.the("heading", "Clusters")
    found = _scrolled(page, CARDS)
    return [
        Card(int(uid), name, int(size.split()[0].replace(",", ""))) for uid, name, size in found
    ]


def images(page) -> dict[int, str]:
    """Rows and file names of all images of the cluster that is open."""
    return {int(row): name for row, name in _scrolled(page, TILES)}


# On by half a window, once all that is in sight has come; from the end back to the start.
ON = """if (document.querySelector(".tile:not([data-row])")) return;
const root = document.scrollingElement;
const isEnd = root.scrollTop + innerHeight >= root.scrollHeight - 1;
root.scrollTo({ top: isEnd ? 0 : root.scrollTop + innerHeight / 2, behavior: "instant" })"""


def _scrolled(page, script: str) -> list[tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}

    def everything() -> bool:
        shown = page.run(script)
        found.update({key: (key, *facts) for _, key, *facts in shown})
        page.run(ON)
        return bool(shown) and len(found) >= int(shown[0][0])

    page.until(everything, "all that a person finds by scrolling")
    page.run("scrollTo({ top: 0, behavior: 'instant' })")
    return list(found.values())

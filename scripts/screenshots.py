"""Take the pictures of `imageherd serve` that docs/app.md shows.

    python scripts/screenshots.py

Sorts the example photographs, corrects the clusters as the guide tells, and writes docs/app/*.webp.
With a folder as the argument, every view goes there instead, light and dark, wide and narrow, to
be looked at by eye. Needs the packages of the extra dev, Chromium and its driver; two minutes.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "browser")]

from doing import pick  # noqa: E402
from serving import CLOTHING, Server, started_browser  # noqa: E402
from using import Page  # noqa: E402

from imageherd.herd import Herd  # noqa: E402

WIDE, NARROW = (1440, 900), (390, 844)
VIEWS = ("clusters", "cluster", "split", "map", "search", "compare", "history")
SHOWN = (
    ("clusters", "light", WIDE),
    ("cluster", "dark", WIDE),
    ("split", "light", WIDE),
    ("map", "dark", WIDE),
    ("search", "light", WIDE),
    ("compare", "light", WIDE),
    ("clusters", "dark", NARROW),
)
MOST = 250_000
"""Bytes of a picture."""


def sorted_and_corrected(path: Path) -> Herd:
    """Return a herd of the example photographs in two clusterings, the first with some edits."""
    herd = Herd(path)
    herd.embed(CLOTHING)
    herd.cluster(random_state=0)
    herd.cluster("kmeans", 8, name="by-kmeans")
    edits = herd.edit(author="Ann")
    clusters = sorted(edits.clustering().clusters, key=lambda c: -c.size)
    edits.rename(clusters[0].uid, "T-shirts")
    doubtful = edits.clustering()
    least = doubtful.probability.argsort()[:3]
    edits.outlier(doubtful.rows[least].tolist())
    edits.merge([clusters[0].uid, clusters[1].uid])
    edits.undo()
    return herd


def take(page: Page, view: str, theme: str, size: tuple[int, int]) -> Image.Image:
    """Open a view in a theme and a window, wait for its pictures, and return what is seen."""
    page.sized(*size)
    page.run("localStorage.setItem('imageherd-theme', arguments[0])", theme)
    how = {
        "cluster": {"uid": 1},
        "split": {"uid": 1},
        "search": {"query": "row=3"},
        "compare": {"query": "with=by-kmeans"},
    }
    opened = {"clusters": "", "split": "cluster"}.get(view, view)
    page.open(opened, **how.get(view, {}))
    page.driver.refresh()
    page.settled(opened or "clusters")
    if view == "split":
        page.click("button", "Split …")
        page.has("This is how it would be")
        page.settled("cluster")
    if view == "cluster":
        pick(page, 3)
    return Image.open(io.BytesIO(page.driver.get_screenshot_as_png())).convert("RGB")


def write(image: Image.Image, path: Path) -> None:
    """Write a picture, no larger than MOST."""
    image.save(path, quality=80, method=6)
    if path.stat().st_size > MOST:
        raise SystemExit(f"{path} has {path.stat().st_size:,} bytes; at most {MOST:,} are wanted.")
    print(path, f"{path.stat().st_size:,} bytes")


def main(folder: Path | None) -> None:
    """Write the pictures."""
    every = [(v, t, s) for s in (WIDE, NARROW) for t in ("light", "dark") for v in VIEWS]
    target = folder or ROOT / "docs" / "app"
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        herd = sorted_and_corrected(Path(temporary, "clothing.herd"))
        server = Server(herd.path, Path(temporary, "serve.log"))
        driver = started_browser(Path(temporary, "profile"))
        try:
            page = Page(driver, server.link, "default")
            page.open()
            for view, theme, size in every if folder else SHOWN:
                name = f"{view}-{theme}-{size[0]}.webp" if folder else _name(view, size)
                write(take(page, view, theme, size), target / name)
        finally:
            driver.quit()
            server.kill()


def _name(view: str, size: tuple[int, int]) -> str:
    return f"{view}-phone.webp" if size == NARROW else f"{view}.webp"


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)

"""Which pictures the report embeds, how large, and making them within a byte budget."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import zip_longest

from imageherd.cores import usable_cores
from imageherd.progress import progress

Thumbnail = Callable[[int, int], bytes | None]
Request = tuple[int, int]

# Beyond the medoids and strips: pictures of further members, for the member view and the map.
MAX_FURTHER = 2_400
MAX_FURTHER_EACH = 240
N_MEASURED = 24
# What stands around one picture in the JSON: its number, quotes, colon, comma.
KEY_BYTES = 16


@dataclass(frozen=True)
class Plan:
    """How much one cluster may show: pixels are of the longer side.

    Attributes
    ----------
    medoids, strip : int
        Pictures of that kind at most; `strip` counts for typical and doubtful each.
    large, small : int
        Pixels of a medoid and of any other picture.
    """

    medoids: int
    strip: int
    large: int
    small: int


# From the most generous down; the first whose medoids and strips fit is taken.
PLANS = (
    Plan(3, 6, 560, 224),
    Plan(3, 6, 480, 192),
    Plan(3, 6, 400, 160),
    Plan(3, 6, 320, 128),
    Plan(3, 4, 240, 112),
    Plan(1, 3, 192, 96),
    Plan(1, 2, 160, 80),
    Plan(1, 1, 112, 64),
)


def choose_plan(wanted: list[int], n_clusters: int, thumbnail: Thumbnail, budget: int) -> Plan:
    """Choose the most generous plan whose medoids and strips take two thirds of the budget.

    Parameters
    ----------
    wanted : list of int
        Images that may be shown; some of them are made to see how many bytes they take.
    n_clusters : int
        Clusters to show.
    thumbnail : callable
        As in `ReportData`.
    budget : int
        Bytes for all pictures, as base64 text.
    """
    step = max(1, len(wanted) // N_MEASURED)
    measured = [(image, PLANS[2].small) for image in wanted[::step][:N_MEASURED]]
    sizes = [len(text) for _, text in _make(measured, thumbnail) if text]
    if not sizes:
        return PLANS[0]
    per_pixel = sum(sizes) / len(sizes) / PLANS[2].small ** 2
    for plan in PLANS:
        pixels = plan.medoids * plan.large**2 + 2 * plan.strip * plan.small**2
        if n_clusters * pixels * per_pixel <= budget * 2 / 3:
            return plan
    return PLANS[-1]


def in_order_of_worth(
    medoids: list[list[int]], strips: list[list[int]], further: list[list[int]], plan: Plan
) -> list[Request]:
    """Line up what to embed so that running out of budget costs every cluster the same.

    Parameters
    ----------
    medoids, strips, further : list of list of int
        Per cluster: medoids; strip pictures, typical and doubtful taking turns; other members.
    plan : Plan
        Sizes.

    Returns
    -------
    list of (index, px)
        Each image once, at the size of its first use.
    """
    requests: dict[int, int] = {}
    for columns, px in ((medoids, plan.large), (strips, plan.small), (further, plan.small)):
        for turn in zip_longest(*columns):
            for image in turn:
                if image is not None:
                    requests.setdefault(image, px)
    return list(requests.items())


def embed(requests: list[Request], thumbnail: Thumbnail, budget: int) -> dict[int, str | None]:
    """Make thumbnails in threads, in order, until the budget is spent.

    Returns
    -------
    dict of int to (str or None)
        Base64 of each JPEG that fits, None where the picture can no longer be read.
    """
    made: dict[int, str | None] = {}
    with progress("Thumbnails", len(requests)) as advance:
        for image, text in _make(requests, thumbnail):
            advance(1)
            if text is None:
                made[image] = None
                continue
            budget -= len(text) + KEY_BYTES
            if budget < 0:
                break
            made[image] = text
    return made


def spread(images: list[int], count: int) -> list[int]:
    """Choose `count` of `images`, evenly from first to last."""
    if count >= len(images):
        return images
    return [images[i * len(images) // count] for i in range(count)]


def _make(requests: list[Request], thumbnail: Thumbnail) -> Iterator[tuple[int, str | None]]:
    def one(request: Request) -> str | None:
        try:
            jpeg = thumbnail(*request)
        except OSError:
            # The file went away between the scan and now; the report shows an empty tile.
            return None
        return base64.b64encode(jpeg).decode() if jpeg else None

    n_workers = min(8, usable_cores() + 1)
    with ThreadPoolExecutor(n_workers) as pool:
        # In batches, so that a spent budget does not leave thousands of pictures to be made.
        for batch in _batches(requests, 16 * n_workers):
            yield from zip((image for image, _ in batch), pool.map(one, batch), strict=True)


def _batches(requests: list[Request], size: int) -> Iterator[list[Request]]:
    for begin in range(0, len(requests), size):
        yield requests[begin : begin + size]

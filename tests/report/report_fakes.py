"""Reports made from nothing: photographs are noise around one colour a cluster."""

import io

import numpy as np
from PIL import Image

from imageherd.report import ReportCluster, ReportData

COLOURS = np.array([(200, 60, 50), (60, 150, 70), (60, 90, 200), (220, 180, 60), (150, 70, 170)])
HOSTILE = [
    "<script>document.documentElement.dataset.harmed = 1</script>.jpg",
    "</script><script>document.documentElement.dataset.harmed = 1</script>.jpg",
    "<img src=x onerror=document.documentElement.dataset.harmed=1>.jpg",
    '" onmouseover="document.documentElement.dataset.harmed=1" x=".jpg',
    "<!--<script>.jpg",
    "{{ 7 * 7 }}.jpg",
    "\u202egpj.exe.jpg",
    "صور/قميص أزرق 👕🐑.jpg",
    "lone \udcff surrogate.jpg",
    "line\u2028break\\x00.jpg",
    "long/" * 400 + "name.jpg",
]


def fake_photo(colour, px, seed=0):
    rng = np.random.default_rng(seed)
    size = (px * 3 // 4, px, 3)
    pixels = np.clip(colour + rng.normal(scale=12, size=size), 0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=80)
    return out.getvalue()


def fake_report(
    n=60, n_clusters=3, *, nowhere=0, unreadable=0, map_=True, names=True, paths=None, **changes
):
    rng = np.random.default_rng(0)
    labels = np.arange(n) % max(n_clusters, 1)
    labels[n - nowhere :] = -1
    probability = rng.uniform(0.3, 1, n).astype(np.float32)
    paths = list(paths or [])[:n]
    paths += [f"holiday/photo-{i:06d}.jpg" for i in range(len(paths), n)]
    clusters = []
    for uid in range(n_clusters):
        members = np.flatnonzero(labels == uid)
        surest = members[np.argsort(-probability[members], kind="stable")].tolist()
        clusters.append(
            ReportCluster(
                uid=uid,
                name=f"name {uid}" if names else None,
                runner_up="other" if names else None,
                share=0.6 if names else None,
                size=len(members),
                confidence=float(probability[members].mean()) if len(members) else float("nan"),
                medoids=surest[:3],
                typical=surest[3:9],
                doubtful=surest[::-1][:6],
                members=members.tolist(),
            )
        )
    centres = rng.normal(scale=10, size=(max(n_clusters, 1) + 1, 2))
    values = {
        "title": "holiday",
        "created": "2026-11-22 12:00 UTC",
        "settings": {"method": "tsp"},
        "counts": {"images": n, "clusters": n_clusters, "unreadable": unreadable},
        "clusters": clusters,
        "paths": paths,
        "unreadable": [(f"broken-{i}.jpg", "truncated") for i in range(unreadable)],
        "labels": labels,
        "probability": probability,
        "xy": centres[labels] + rng.normal(size=(n, 2)) if map_ else None,
        "thumbnail": lambda i, px: fake_photo(COLOURS[labels[i] % len(COLOURS)], px, seed=i),
    }
    return ReportData(**(values | changes))

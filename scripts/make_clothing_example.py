"""Make the example photographs: a few hundred CC0 photographs of clothes as a flat folder.

    python scripts/make_clothing_example.py clothing.parquet examples/clothing

The table has the columns name, label and image (a struct with the JPEG file in `bytes`): the small
version of Alexey Grigorev's clothing data set, 3,781 photographs, scaled to a short side of 240.
The classes stay as unbalanced as they are there, the JPEG files are copied byte for byte, and the
file names say nothing about the class.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

SEED = 0
N_PHOTOGRAPHS = 400
MAX_BYTES = 7_500_000
ABOUT = """\
# Example photographs: clothes

{n} photographs of clothes in {k} classes, as unbalanced as they come. `labels.csv` gives each
photograph's class; the file names do not. imageherd sorts the photographs without it and uses it
only in `imageherd evaluate`.

| class | photographs |
| --- | ---: |
{counts}

They are a sample of the small version of the clothing data set, collected by Alexey Grigorev with
volunteers and Tagias (<https://github.com/alexeygrigorev/clothing-dataset-small>), scaled to a
short side of 240 pixels.

Licence: CC0 1.0 Universal, a dedication to the public domain
(<https://creativecommons.org/publicdomain/zero/1.0/>). The photographs are not covered by this
repository's Apache licence.
"""


def shares(class_sizes: np.ndarray, n: int) -> np.ndarray:
    """Split `n` over the classes by size: largest remainders, at least one each."""
    exact = class_sizes * n / class_sizes.sum()
    taken = np.maximum(np.floor(exact).astype(int), 1)
    by_remainder = np.argsort(-(exact - taken), kind="stable")
    taken[by_remainder[: n - taken.sum()]] += 1
    return taken


def choose(names: list[str], labels: list[str], n: int) -> list[int]:
    """Draw `n` rows, each class in proportion to its size, in an order that mixes the classes.

    The draw depends on the names alone: not on the order of the rows, not on NumPy's version.
    """
    draw = [hashlib.sha256(f"{SEED}/{name}".encode()).digest() for name in names]
    classes = sorted(set(labels))
    members = {c: [i for i, label in enumerate(labels) if label == c] for c in classes}
    taken = shares(np.array([len(members[c]) for c in classes]), n)
    chosen = [
        i
        for c, k in zip(classes, taken, strict=True)
        for i in sorted(members[c], key=lambda i: draw[i])[:k]
    ]
    return sorted(chosen, key=lambda i: draw[i])


def main() -> None:
    """Write the photographs, labels.csv and README.md."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("table", type=Path, help="the Parquet file")
    parser.add_argument("folder", type=Path, help="where the photographs go; made if need be")
    arguments = parser.parse_args()

    table = pq.read_table(arguments.table)
    names, labels = table["name"].to_pylist(), table["label"].to_pylist()
    chosen = choose(names, labels, N_PHOTOGRAPHS)
    files = [table["image"][i]["bytes"].as_py() for i in chosen]
    size = sum(map(len, files))
    if size > MAX_BYTES:
        raise SystemExit(f"{size:,} bytes are too many for a repository: lower N_PHOTOGRAPHS.")

    arguments.folder.mkdir(parents=True, exist_ok=True)
    paths = [f"photo-{number:04d}.jpg" for number in range(1, len(chosen) + 1)]
    for path, data in zip(paths, files, strict=True):
        (arguments.folder / path).write_bytes(data)
    chosen_labels = [labels[i] for i in chosen]
    with (arguments.folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["path", "label"])
        rows.writerows(zip(paths, chosen_labels, strict=True))
    classes = sorted(set(chosen_labels), key=lambda c: (-chosen_labels.count(c), c))
    counts = "\n".join(f"| {c} | {chosen_labels.count(c)} |" for c in classes)
    about = ABOUT.format(n=len(chosen), k=len(classes), counts=counts)
    (arguments.folder / "README.md").write_text(about, encoding="utf-8")


if __name__ == "__main__":
    main()

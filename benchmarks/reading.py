"""Reading images: what decoding takes on one core, and what lies in a tar costs.

    python benchmarks/reading.py FOLDER       # of JPEGs, such as examples/clothing

Decoding is to the input of the bundled network: of the photographs as they are, and of eight of
them enlarged to 3,024 x 4,032 pixels. The tar holds 10,000 PNGs of 32 x 32 random pixels. Of
decoding the processor's seconds are taken, of the tar the clock's. One line of JSON.
"""

from __future__ import annotations

import argparse
import io
import json
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from imageherd.backbones import load_backbone
from imageherd.backbones.preprocess import Preprocessing
from imageherd.images.decode import decode
from imageherd.images.source import open_source

N_MEMBERS = 10_000


def enlarged(photograph: bytes) -> bytes:
    file = io.BytesIO()
    image = Image.open(io.BytesIO(photograph)).convert("RGB")
    image.resize((3024, 4032)).save(file, "JPEG", quality=90)
    return file.getvalue()


def decoding(files: list[bytes], preprocessing: Preprocessing) -> dict[str, float]:
    start = time.process_time()
    for data in files:
        preprocessing.apply(decode(data, min_side=preprocessing.size).image)
    seconds = time.process_time() - start
    return {
        "images": len(files),
        "kB": round(sum(map(len, files)) / len(files) / 1000, 1),
        "images_per_s": round(len(files) / seconds, 1),
    }


def tar(folder: Path) -> dict[str, float]:
    path, rng = folder / "a.tar", np.random.default_rng(0)
    with tarfile.open(path, "w") as archive:
        for number in range(N_MEMBERS):
            file = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(file, "PNG")
            member = tarfile.TarInfo(f"{number:05d}.png")
            member.size = file.tell()
            file.seek(0)
            archive.addfile(member, file)
    start = time.perf_counter()
    source = open_source(path)
    entries = source.scan()
    listed = time.perf_counter()
    n_bytes = sum(len(source.read(entry.key)) for entry in entries)
    read = time.perf_counter()
    assert n_bytes == sum(entry.size for entry in entries)
    return {
        "images": len(entries),
        "MB": round(path.stat().st_size / 1e6, 1),
        "list_s": round(listed - start, 2),
        "read_us_an_image": round((read - listed) / len(entries) * 1e6, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="of JPEGs")
    photographs = [path.read_bytes() for path in sorted(parser.parse_args().folder.glob("*.jpg"))]
    preprocessing = load_backbone().preprocessing
    with tempfile.TemporaryDirectory() as folder:
        found = {
            "photographs": decoding(photographs, preprocessing),
            "enlarged": decoding([enlarged(data) for data in photographs[:8]] * 4, preprocessing),
            "tar": tar(Path(folder)),
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main()

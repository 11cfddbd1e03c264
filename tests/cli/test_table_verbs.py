"""The verbs on tables and arrays: which column holds the images, and which the labels."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from imageherd.herd import Herd


def jpegs(n):
    for i in range(n):
        out = io.BytesIO()
        Image.new("RGB", (8, 8), (20 * i, 0, 255 * (i % 2))).save(out, "JPEG")
        yield out.getvalue()


def test_a_table_from_its_images_to_its_labels(run):
    large = list(jpegs(10))
    columns = {"small": large[:1] * 10, "large": large, "side": ["left", "right"] * 5}
    pq.write_table(pa.table(columns), "clothes.parquet", row_group_size=3)
    unclear = run("embed", "clothes.parquet")
    assert unclear.exit_code == 2
    assert "Several columns" in unclear.output
    assert "--image-column small" in unclear.output
    made = run("embed", "clothes.parquet", "--image-column", "large")
    assert made.exit_code == 0, made.output
    assert "10 images in clothes.parquet, a table with the images in column large." in made.output
    herd = Herd("clothes.herd")
    herd.cluster("kmeans", 3)
    judged = run("evaluate", "clothes.herd", "--labels", "column:side", "--json")
    found = json.loads(judged.stdout)
    assert found["classes"] == ["left", "right"]
    assert found["n_images"] == 10
    wrong = run("evaluate", "clothes.herd", "--labels", "column:sides")
    assert wrong.exit_code == 2
    assert "there are side." in wrong.output


def test_an_array_says_what_it_is_taken_for(run):
    np.savez("digits.npz", x=np.zeros((4, 9, 8), np.uint8), y=[1, 2, 1, 2])
    made = run("embed", "digits.npz")
    assert made.exit_code == 0, made.output
    assert "4 images in digits.npz, the array x of images of 8 x 9 pixels." in made.output
    refused = run("embed", "digits.npz", "--image-column", "z")
    assert refused.exit_code == 2
    assert "no array z; it has x, y." in refused.output

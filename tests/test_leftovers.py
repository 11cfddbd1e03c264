"""What is removed from a herd, and what never is."""

import os
import time

import numpy as np
import pytest

from imageherd.derived import rows_digest
from imageherd.files import write_json
from imageherd.leftovers import remove_leftovers

ROWS = np.arange(7)
NOW, ONCE = rows_digest(ROWS[:5]), rows_digest(ROWS[:3])


@pytest.fixture
def herd(tmp_path):
    # Rows 5 and 6 have no vector in this set.
    shard = {"rows": 5, "missing": []}
    write_json(
        tmp_path / "features" / "net-1" / "manifest.json",
        {"format_version": 1, "shape": [5, 4], "shards": [shard]},
    )
    return tmp_path


def put(herd, names, days=0.0):
    for name in names:
        path = herd / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
        os.utime(path, (time.time() - days * 86_400,) * 2)
    return {herd / name for name in names}


def left(herd):
    return {p for p in herd.rglob("*") if p.is_file() and p.name != "manifest.json"}


def test_what_belongs_to_rows_of_once_goes(herd):
    kept = put(
        herd,
        [
            f"neighbors/net-1/k50-{NOW}.safetensors",
            f"neighbors/net-1/k60-{NOW}.safetensors",
            f"report/map-net-1-{NOW}.npy",
            f"checkpoints/ssc-omp-{NOW}-{ONCE}",
        ],
    )
    put(
        herd,
        [
            f"neighbors/net-1/k50-{ONCE}.safetensors",
            f"neighbors/net-2/k50-{NOW}.safetensors",
            f"report/map-net-1-{ONCE}.npy",
            f"checkpoints/tsp-{ONCE}-{NOW}",
        ],
    )
    remove_leftovers(herd, ROWS)
    assert left(herd) == kept


def test_half_written_files_go_but_not_a_report_that_is_being_written(herd):
    put(herd, [".herd.json.17.tmp", f"neighbors/net-1/.k50-{NOW}.safetensors.17.tmp"])
    put(herd, ["clusterings/default/.v0002.17.tmp/head.safetensors", "checkpoints/.tsp.17.tmp"])
    put(herd, ["report/.index.html.18.tmp"], days=2)
    kept = put(herd, ["report/.index.html.17.tmp"])
    remove_leftovers(herd, ROWS)
    assert left(herd) == kept
    assert not list(herd.glob("clusterings/default/.*"))


def test_what_a_person_put_there_stays(herd):
    kept = put(
        herd,
        [
            "notes.tmp",
            ".notes.tmp",
            "report/index.html",
            "report/map.npy",
            "report/my-map-net-1-old.npy",
            "neighbors/net-1/k50-mine.safetensors",
            "neighbors/net-1/README",
            "checkpoints/tsp-best",
            "clusterings/default/v0001/head.safetensors",
            "clusterings/default/names.json",
            f"k50-{ONCE}.safetensors",
        ],
    )
    remove_leftovers(herd, ROWS)
    assert left(herd) == kept


def test_a_damaged_feature_set_is_no_hindrance(herd):
    put(herd, [f"neighbors/net-1/k50-{NOW}.safetensors"])
    (herd / "features" / "net-1" / "manifest.json").write_text("{")
    remove_leftovers(herd, ROWS)
    assert left(herd) == set()

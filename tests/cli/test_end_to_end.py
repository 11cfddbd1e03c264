"""The real thing on sixty small photographs and on everything that should not be among them."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from imageherd.cli import app

CLOTHING = Path(__file__).parents[2] / "examples" / "clothing"
CLASSES = ("pants", "shoes", "hat", "dress")
PER_CLASS = 15
# The quickest head: which one it is makes no difference to the command line.
SORT = ("--n-clusters", "4", "--method", "kmeans")


@pytest.fixture(scope="module")
def labels() -> dict[str, str]:
    """Fifteen photographs of each of four classes."""
    with (CLOTHING / "labels.csv").open(encoding="utf-8") as file:
        rows = [(row["path"], row["label"]) for row in csv.DictReader(file)]
    return {
        path: label
        for wanted in CLASSES
        for path, label in [r for r in rows if r[1] == wanted][:PER_CLASS]
    }


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, labels: dict[str, str]) -> Path:
    """The photographs at 160 pixels, and what a real folder holds besides."""
    folder = tmp_path_factory.mktemp("end to end") / "photos"
    folder.mkdir()
    for path in labels:
        image = Image.open(CLOTHING / path)
        image.thumbnail((160, 160))
        image.save(folder / path)
    (folder / "empty.jpg").touch()
    (folder / "letter.jpg").write_text("Dear photograph,")
    (folder / "x.jpg").mkdir()
    (folder / "dangling.jpg").symlink_to("nowhere.jpg")
    some = (folder / next(iter(labels))).read_bytes()
    (folder / "cut off.jpg").write_bytes(some[: len(some) // 2])
    (folder / "notes.txt").write_text("not an image, not meant as one")
    Image.new("RGB", (90, 160), "navy").save(folder / "Straße 🐑 \u202e[red].png")
    Path(os.fsdecode(os.fsencode(folder) + b"/h\xe4user.jpg")).write_bytes(some)
    return folder


@pytest.fixture(scope="module")
def home(photos: Path) -> Path:
    """The herd of the photographs, sorted by a program of its own, as a user would."""
    done = program("sort", photos, *SORT, cwd=photos.parent)
    assert done.returncode == 0, done.stderr
    home = photos.parent / "photos.herd"
    (home.parent / "first.txt").write_text(done.stdout)
    return home


def program(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "imageherd", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def assignments(home: Path) -> list[tuple[str, int]]:
    """Path and cluster of each image, in row order."""
    version = json.loads((home / "clusterings/default/current.json").read_text())["version"]
    table = pq.read_table(home / "clusterings/default" / version / "assignments.parquet")
    paths = pq.read_table(home / "items").sort_by("row")["path"].to_pylist()
    rows, uids = table["row"].to_pylist(), table["uid"].to_pylist()
    return [(paths[row], uid) for row, uid in zip(rows, uids, strict=True)]


def contents(home: Path) -> dict[str, bytes]:
    """Every file of a herd but the report and the lock."""
    return {
        str(p.relative_to(home)): p.read_bytes()
        for p in sorted(home.rglob("*"))
        if p.is_file() and p.name != ".lock" and "report" not in p.parts
    }


def test_sort_says_what_it_found_and_ends_with_the_report(home, photos):
    lines = (home.parent / "first.txt").read_text().splitlines()
    assert lines[0].startswith("64 images in ")
    assert "about" in lines[1]
    report = home.parent / lines[-1]
    assert report == home / "report" / "index.html"
    assert "<html" in report.read_text(encoding="utf-8")
    out = "\n".join(lines)
    assert "\x1b" not in out
    assert "5 files could not be read:" in out
    for name in ("empty.jpg", "letter.jpg", "x.jpg", "dangling.jpg", "cut off.jpg"):
        assert name in out
    assert "notes.txt" not in out


def test_names_of_any_bytes_are_sorted_too(home):
    found = dict(assignments(home))
    assert len(found) == 62
    assert r"h\xe4user.jpg" in found
    assert "Straße 🐑 \u202e[red].png" in found


def test_sorting_again_is_quick_and_changes_nothing(home, photos):
    before, report = contents(home), (home / "report" / "index.html").stat().st_mtime_ns
    started = time.monotonic()
    value = json.loads(run("sort", photos, "--herd", home, *SORT, "--json"))
    # 2 s on an idle machine; what is told apart is doing it all again on a busy one.
    assert time.monotonic() - started < 20
    assert value["images"]["n_embedded"] == 0
    assert contents(home) == before
    assert (home / "report" / "index.html").stat().st_mtime_ns == report


def test_evaluate(home, labels, tmp_path):
    by_csv = tmp_path / "labels.csv"
    with by_csv.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerows([("path", "label"), *labels.items()])
    value = json.loads(run("evaluate", home, "--labels", by_csv, "--json"))
    assert value["n_images"] == len(labels)
    assert value["n_unlabelled"] == 2
    # Chance is 0.25; pants, shoes, hats and dresses are not hard to tell apart.
    assert value["scores"]["ACC"] > 0.6
    assert np.sum(value["confusion"]) == len(labels)
    out = run("evaluate", home, "--labels", by_csv)
    assert "ACC" in out
    assert "shoes" in out


def test_sort_with_nothing_but_a_folder(home, photos, tmp_path):
    # The herd is copied for its features: counting and the default method are what is tried.
    copy = tmp_path / "copy.herd"
    subprocess.run(["cp", "-a", home, copy], check=True)
    value = json.loads(run("sort", photos, "--herd", copy, "--no-report", "--json"))
    assert value["clustering"]["method"] == "tsp"
    assert value["clustering"]["version"] == "v0002"
    assert 2 <= value["clustering"]["n_clusters"] <= 31
    assert sum(c["size"] for c in value["clustering"]["clusters"]) == 62


def test_rename_shows_in_the_report(home, tmp_path):
    value = json.loads(run("name", home, "--json"))
    uid = value["clustering"]["clusters"][0]["uid"]
    assert "Trousers & co" in run("name", home, "--rename", f"{uid}=Trousers & co")
    page = Path(run("report", home, "--output", tmp_path / "r.html").strip())
    assert "Trousers" in page.read_text(encoding="utf-8")
    assert "Trousers & co" in run("cluster", home, *SORT), "a name does not outlive a refit"


def test_assign_places_copies_where_their_originals_are(home, photos, labels, tmp_path):
    # Copies of the herd and of some images: the other tests want the herd as it is.
    copy, new = tmp_path / "copy.herd", tmp_path / "new"
    subprocess.run(["cp", "-a", home, copy], check=True)
    new.mkdir()
    originals = list(labels)[::10]
    for path in originals:
        Image.open(photos / path).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(new / path)
    placed = tmp_path / "placed.csv"
    out = run("assign", copy, new, "--reject", "0", "--output", placed)
    assert "new images" in out
    with placed.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == sorted(originals)
    old = dict(assignments(home))
    agree = [int(row["uid"]) == old[row["path"]] for row in rows]
    assert np.mean(agree) >= 0.8
    assert "Nothing new" in run("assign", copy, new)


def test_export(home, tmp_path):
    table = Path(run("export", home, tmp_path / "clusters.csv").strip())
    with table.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 67
    assert sum(row["status"] == "ok" for row in rows) == 62
    folders = Path(
        run("export", home, tmp_path / "sorted", "--to", "folders", "--link", "symlink").strip()
    )
    assert sum(1 for p in folders.rglob("*") if p.is_symlink() and p.exists()) == 62
    again = CliRunner().invoke(app, ["export", str(home), str(table)])
    assert again.exit_code == 2
    assert "never overwrites" in again.stderr


def test_json_of_sort(home, photos):
    value = json.loads(run("sort", photos, "--herd", home, *SORT, "--json"))
    assert Path(value["report"]).is_file()
    assert value["clustering"]["n_images"] == 62
    assert sum(c["count"] for c in value["unreadable"]) == 5


SLOW = """
import sys, time
from pathlib import Path
import imageherd.makers
from imageherd.cli import main

load = imageherd.makers.load_backbone

def slow(*arguments, **options):
    net = load(*arguments, **options)
    embed = net.embed
    def embed_slowly(batch):
        caller = sys._getframe(1).f_code.co_filename
        if not caller.endswith("estimate.py"):
            Path("begun").touch()
            time.sleep(2)
        return embed(batch)
    object.__setattr__(net, "embed", embed_slowly)
    return net

imageherd.makers.load_backbone = slow
main()
"""


def test_stopped_in_the_middle_of_embedding_the_next_run_ends_the_same(home, photos, tmp_path):
    stopped = subprocess.Popen(
        [sys.executable, "-c", SLOW, "sort", str(photos), *SORT],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "begun").exists():
        assert stopped.poll() is None, stopped.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    stopped.send_signal(signal.SIGINT)
    _, err = stopped.communicate(timeout=30)
    assert stopped.returncode == 130
    assert "photos.herd is kept" in err
    assert f"imageherd sort '{photos}' --n-clusters 4 --method kmeans" in err
    assert "Traceback" not in err

    run("sort", photos, "--herd", tmp_path / "photos.herd", "--no-report", *SORT)
    assert assignments(tmp_path / "photos.herd") == assignments(home)

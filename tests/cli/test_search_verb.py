"""``imageherd search`` on a dozen photographs: the table, JSON, the sheet, and what is refused."""

import base64
import html
import io
import json
import re
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from imageherd.cli import app
from imageherd.herd import Herd
from imageherd.search_space import Hits

CLOTHING = Path(__file__).parents[2] / "examples" / "clothing"
# A name that would be markup, and the picture that is stored lying on its side.
NASTY, SIDEWAYS = "<img src=x onerror=alert(1)>.jpg", "sideways.jpg"


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("search") / "photos"
    folder.mkdir()
    for i, path in enumerate(sorted(CLOTHING.glob("*.jpg"))[:12]):
        image = Image.open(path)
        image.thumbnail((160, 160))
        image.save(folder / (NASTY if i == 3 else f"{i:02}.jpg"))
    tall = Image.new("RGB", (60, 120), "navy")
    tall.paste("red", (0, 0, 60, 30))
    exif = Image.Exif()
    exif[0x0112] = 6
    tall.transpose(Image.Transpose.ROTATE_90).save(folder / SIDEWAYS, exif=exif)
    home = folder.with_name("photos.herd")
    Herd(home).embed(folder)
    return home


@pytest.fixture(scope="module")
def clustered(home) -> Path:
    Herd(home).cluster("kmeans", 3, name="three")
    return home


def search(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["search", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_features_are_enough_to_search(home):
    lines = search(home, "--item", 2, "-n", 3).splitlines()
    assert lines[0].split() == ["rank", "similarity", "path"]
    assert [line.split()[0] for line in lines[1:]] == ["1", "2", "3"]
    hits = Herd(home).search(item=2, n=3)
    paths = Herd(home).items()["path"].take(hits.rows).to_pylist()
    for line, path, similarity in zip(lines[1:], paths, hits.similarity, strict=True):
        assert line.rstrip().endswith(path)
        assert f" {similarity:.3f} " in line


def test_the_table_names_the_clusters(clustered):
    lines = search(clustered, "--item", "00.jpg", "--name", "three", "-n", 12).splitlines()
    assert lines[0].split() == ["rank", "similarity", "cluster", "path"]
    assert len(lines) == 13
    clustering = Herd(clustered).clustering("three")
    names = clustering.names()
    hits = Herd(clustered).search(item=0, n=12)
    for line, row in zip(lines[1:], hits.rows.tolist(), strict=True):
        assert names[clustering.uids[row]] in line


def test_json_says_it_all(clustered, tmp_path):
    sheet = tmp_path / "found.html"
    image = clustered.with_name("photos") / "05.jpg"
    out = search(
        clustered, "--image", image, "-n", 2, "--name", "three", "--sheet", sheet, "--json"
    )
    value = json.loads(out)
    assert (value["by"], value["recall"], value["sheet"]) == ("features", None, str(sheet))
    first, second = value["images"]
    assert (first["rank"], first["path"], first["similarity"]) == (1, "05.jpg", 1.0)
    assert second["similarity"] < 1
    assert isinstance(second["row"], int)
    assert isinstance(second["cluster"], str)
    assert sheet.is_file()


def pictures(page: str) -> list[Image.Image]:
    found = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    return [Image.open(io.BytesIO(base64.b64decode(text))) for text in found]


def test_the_sheet_holds_the_pictures_upright_and_fetches_nothing(home, tmp_path):
    sheet = tmp_path / "found.html"
    assert search(home, "--item", SIDEWAYS, "--sheet", sheet).splitlines()[-1] == str(sheet)
    page = sheet.read_text(encoding="utf-8")
    asked, *found = pictures(page)
    assert asked.size == (160, 320) or asked.height > asked.width
    red, green, blue = asked.convert("RGB").getpixel((asked.width // 2, 5))
    assert red > 200 > green + blue
    assert len(found) == 12
    assert max(max(picture.size) for picture in found) <= 320
    # No name becomes markup, nothing is fetched, no script runs.
    assert "<img src=x" not in page
    assert html.escape(NASTY) in page
    assert not re.search(r"<script|(?:src|href)=\"(?!data:)", page)
    assert "default-src &#39;none&#39;; img-src data:" in page


def test_the_sheet_of_photographs_that_are_gone_says_so(home, tmp_path):
    sheet, photos = tmp_path / "found.html", home.with_name("photos")
    moved = photos.rename(photos.with_name("moved"))
    try:
        search(home, "--item", 0, "--sheet", sheet)
    finally:
        moved.rename(photos)
    page = sheet.read_text(encoding="utf-8")
    assert pictures(page) == []
    assert page.count("no picture") == 12


def test_the_recall_of_an_index_is_printed(home, monkeypatch):
    found = Herd(home).search(item=0, n=3)
    monkeypatch.setattr(
        Herd, "search", lambda *args, **options: Hits(found.rows, found.similarity, "key", 0.9634)
    )
    out = search(home, "--item", 0)
    assert "of the exact nearest 64 it finds 96.3%" in out
    assert "it finds" not in search(home, "--item", 0, "--quiet")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "one of --image, --text and --item"),
        (["--item", "1", "--text", "hat"], "one of --image, --text and --item"),
        (["--item", "1", "--by", "feature"], "Did you mean features?"),
        (["--item", "99"], "The herd has no row 99"),
        (["--item", "1", "--name", "none"], "has no clustering 'none'"),
        (["--item", "1", "--by", "head"], "has no clustering 'default'"),
        (["--item", "1", "--sheet", "."], "is a folder; name a file"),
        (["--item", "1", "--sheet", "05.jpg"], "let it end in .html"),
        (["--text", "a red shoe"], "--backbone openai/clip-vit-base-patch32"),
        (["--image", "no.jpg"], "There is no image file no.jpg"),
    ],
)
def test_what_cannot_be_searched_is_said_in_a_sentence(run, home, arguments, expected):
    result = run("search", home, *arguments)
    assert result.exit_code == 2
    assert expected in " ".join(result.stderr.split())
    assert result.stdout == ""


def test_no_herd_no_search(run):
    result = run("search", "nothing.herd", "--item", "1")
    assert result.exit_code == 2
    assert "nothing.herd does not exist. To make a herd: imageherd sort PHOTOS" in " ".join(
        result.stderr.split()
    )


def test_the_names_repeated_for_a_quick_help_are_the_real_ones():
    from imageherd.cli import search as verb
    from imageherd.search import BY
    from imageherd.search_space import OWN_SPACE

    assert verb.BY == BY
    assert ", ".join(OWN_SPACE) in " ".join(
        CliRunner().invoke(app, ["search", "--help"]).stdout.split()
    )

"""The papers' figures are what the papers print, and a recipe runs from images to a comparison."""

import io
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.bench_fakes import do_here, fill, picture
from imageherd.bench import grid, papers
from imageherd.bench.comparison import cells, compare, reasons, to_csv, to_markdown
from imageherd.bench.datasets import DATASETS, prepare, superclass
from imageherd.bench.featuresets import HerdRows
from imageherd.bench.papers import BACKBONES, RECIPES, assemble, figures, notes, recipe
from imageherd.bench.presets import presets
from imageherd.errors import ImageherdError
from imageherd.heads import HEADS

PACKAGE = Path(papers.__file__).parent
METRICS = {"ACC", "NMI", "ARI", "AMI"}


def test_every_figure_is_whole():
    for figure in figures():
        assert figure.paper in {"tsp", "temi", "cpp", "scp", "lsdc"}
        assert figure.table.isdigit()
        assert figure.metric in METRICS
        assert 0 < figure.value < 100
        assert figure.std is None or 0 < figure.std < 10
        assert figure.dataset in {*DATASETS, "mnist", "reuters10k"}
        assert figure.protocol.startswith(("fit on train", "fit and score", "not said"))
        assert figure.row == figure.row.strip() != ""


def test_no_figure_is_there_twice():
    places = Counter(
        (f.paper, f.table, f.row, f.dataset, f.backbone, f.protocol, f.metric) for f in figures()
    )
    assert [place for place, n in places.items() if n > 1] == []


@pytest.mark.parametrize(
    ("table", "row", "dataset", "metric", "value", "std"),
    [
        ("tsp:1", "TSP-ViT1", "cifar10", "ACC", 92.1, 0.8),
        ("tsp:1", "TSP-ViT1", "cifar20", "ARI", 40.8, 2.1),
        ("tsp:1", "TSP-ViT2", "stl10", "NMI", 95.8, 2.0),
        ("tsp:1", "TSP-ResNet", "stl10", "ACC", 78.9, 4.8),
        ("tsp:1", "TSP K-means", "cifar20", "ACC", 50.9, 2.8),
        ("temi:1", "k-means", "cifar100", "ACC", 56.99, None),
        ("temi:1", "WMI, 1 head", "imagenet", "ACC", 56.5, 0.41),
        ("temi:1", "TEMI, 50 heads", "cifar100", "ACC", 67.1, 1.3),
        ("temi:2", "TEMI MSN ViT-L/16", "imagenet", "ARI", 48.4, None),
        ("temi:3", "TEMI DINO ResNet-50", "imagenet", "AMI", 51.8, 0.1),
        ("temi:4", "TEMI", "cifar20", "ACC", 63.2, None),
        ("cpp:1", "CPP", "cifar20", "NMI", 72.5, None),
        ("cpp:2", "EnSC", "cifar100", "ACC", 66.6, None),
        ("cpp:2", "Spectral Clustering", "imagenet", "ACC", 55.8, None),
        ("cpp:6", "Random", "cifar20", "ACC", 57.4, None),
        ("scp:2", "SCP-CLIP", "imagenet-dogs", "ACC", 59.6, None),
        ("scp:2", "SCP-DINO", "stl10", "ACC", 98.4, None),
        ("scp:3", "SCP-MIX", "cifar100", "ACC", 73.8, None),
        ("lsdc:2", "LSD-C", "stl10", "ACC", 66.4, 3.2),
        ("lsdc:3", "LSD-C", "reuters10k", "ACC", 79.0, 4.3),
        ("lsdc:4", "no composition", "cifar10", "ACC", 53.7, None),
        ("lsdc:6", "two-layer classifier", "cifar20", "ACC", 38.6, None),
    ],
)
def test_figures_known_from_elsewhere(table, row, dataset, metric, value, std):
    found = [f for f in figures(table) if (f.row, f.dataset, f.metric) == (row, dataset, metric)]
    assert [(f.value, f.std) for f in found] == [(value, std)]


def test_backbones_of_one_row_are_told_apart():
    found = {f.backbone: f.value for f in figures("cpp:3") if (f.row, f.metric) == ("CPP", "ACC")}
    assert found["MAE ViT-L/16"] == 24.2
    assert found["DINO ViT-B/8"] == 61.9


@pytest.mark.parametrize("table", RECIPES)
def test_a_recipe_names_rows_methods_parameters_and_backbones_there_are(table):
    mine = recipe(table)
    assert {f.row for f in mine} == set(RECIPES[table])
    for figure in mine:
        step = RECIPES[table][figure.row]
        known = HEADS[step.method](n_clusters=2).get_params()
        assert set(papers._params(step, figure.dataset)) <= set(known)
        for part in (figure.backbone or "").split(" + "):
            assert part in BACKBONES or figure.row == "TSP K-means"


def test_papers_settings_apply():
    assert papers._params(RECIPES["tsp:2"]["5 neighbors"], "cifar10") == {
        **presets("tsp")["paper"],
        "n_neighbors": 5,
    }


def test_tables_without_a_recipe_say_so():
    with pytest.raises(ImageherdError, match="lsdc:2 is a table we have the figures of, but no"):
        recipe("lsdc:2")
    with pytest.raises(ImageherdError, match=r"tsp1 is not known. Did you mean tsp:1\?"):
        recipe("tsp1")
    with pytest.raises(ImageherdError, match="tsp:1 has no dataset imagenet; it has cifar10, cif"):
        recipe("tsp:1", "imagenet")


def test_cifar_100_in_superclasses():
    coarse = {superclass("cifar20", str(i)) for i in range(100)}
    assert len(coarse) == 20
    for fine, group in (
        ("beaver", "aquatic mammals"),
        ("maple tree", "trees"),
        ("99", "non-insect invertebrates"),
        ("0", "fruit and vegetables"),
        ("Lawn_Mower", "vehicles 2"),
    ):
        assert superclass("cifar20", fine) == group
    with pytest.raises(ImageherdError, match="'airplane' is not a class of cifar100"):
        superclass("cifar20", "airplane")


def test_a_folder_in_its_place_is_used_where_it_is(tmp_path):
    for split in ("train", "test"):
        fill(tmp_path / "data" / "stl10" / split, ["cat", "ship"])
    assert prepare("stl10", tmp_path / "data", tmp_path / "out") == tmp_path / "data" / "stl10"
    assert not (tmp_path / "out").exists()


def test_part_of_imagenet_is_linked_to(tmp_path):
    wnids = json.loads((PACKAGE / "data" / "datasets.json").read_text())["imagenet10"]["classes"]
    assert len(wnids) == 10
    for split in ("train", "val"):
        fill(tmp_path / "data" / "imagenet" / split, [], n=1)
        for wnid in [*wnids, "n00000000"]:
            (tmp_path / "data" / "imagenet" / split / wnid).mkdir(parents=True)
    for _ in range(2):
        folder = prepare("imagenet10", tmp_path / "data", tmp_path / "out")
    assert sorted(p.name for p in (folder / "test").iterdir()) == sorted(wnids)
    target = tmp_path / "data" / "imagenet" / "val" / wnids[0]
    assert (folder / "test" / wnids[0]).resolve() == target


def save_parquet(path: Path, *, columns: tuple[str, ...] = ("image", "label", "split")) -> None:
    rows = []
    for split, n in (("train", 3), ("test", 2), ("unlabeled", 1)):
        for color, label in enumerate(("cat", "dog/wolf")):
            for i in range(n):
                data = io.BytesIO()
                picture(color, i).save(data, "PNG")
                image = {"bytes": data.getvalue(), "path": None}
                rows.append({"image": image, "label": label, "split": split})
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows).select(list(columns)), path)


def test_parquet_is_unpacked_once(tmp_path):
    save_parquet(tmp_path / "data" / "cifar10.parquet")
    folder = prepare("cifar10", tmp_path / "data", tmp_path / "out")
    images = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.png"))
    assert len(images) == 12
    assert len([i for i in images if i.startswith("train/dog_wolf/")]) == 3
    (folder / images[0]).unlink()
    prepare("cifar10", tmp_path / "data", tmp_path / "out")
    assert not (folder / images[0]).exists()
    save_parquet(tmp_path / "data" / "cifar10.parquet")
    prepare("cifar10", tmp_path / "data", tmp_path / "out")
    assert (folder / images[0]).exists()


def test_what_is_missing_of_a_dataset_is_said(tmp_path):
    data = tmp_path / "data"
    save_parquet(data / "stl10.parquet", columns=("image", "label"))
    (data / "tiny-imagenet" / "val" / "images").mkdir(parents=True)
    (data / "tiny-imagenet" / "train" / "n1").mkdir(parents=True)
    (data / "cifar10.parquet").write_text("no")
    for dataset, expected in (
        ("cifar20", f"cifar20 is not there: put its images in {data}/cifar100/train/CLASS/"),
        ("imagenet-dogs", "or its 15 classes alone in .*imagenet-dogs"),
        ("imagenet", "or a Parquet file with the columns image, label and split at .*imagenet.par"),
        ("stl10", "stl10.parquet has no column split; it needs image, label and split, and has"),
        ("tiny-imagenet", "has no folder of images in train or test"),
        ("cifar10", "cifar10.parquet is no Parquet file"),
    ):
        with pytest.raises(ImageherdError, match=expected):
            prepare(dataset, data, tmp_path / "out")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """temi:4 from images to figures, on the bundled backbone: CIFAR-100's images and no others."""
    root = tmp_path_factory.mktemp("paper")
    for split in ("train", "test"):
        # Two of them are trees.
        fill(root / "data" / "cifar100" / split, ["beaver", "oak_tree", "pine_tree"])
    quick = {"epochs": 1, "min_steps": 0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grid, "_in_a_process", do_here)
        patch.setitem(
            RECIPES,
            "temi:4",
            {"TSP": papers.Step("tsp", quick), "TEMI": papers.Step("kmeans", {"n_init": 1})},
        )
        made = assemble(
            *("temi:4", root / "data", root / "out"),
            seeds=[0, 1],
            backbone="efficientnet-lite0",
            device="cpu",
        )
        return made, grid.run_grid(made.runs, root / "out", device="cpu")


def test_a_recipe_from_images_to_figures(table):
    made, results = table
    assert [r["status"] for r in results] == ["ok"] * 4
    assert {(r["n"], r["n_scored"], r["n_clusters"]) for r in results} == {(12, 12, 2)}
    assert {r["features"] for r in results} == {"cifar20, efficientnet-lite0"}
    found = {(c.figure.row, c.figure.dataset): c for c in compare(made, results)}
    assert found["TSP", "cifar20"].ours.mean == np.mean(
        [r["scores"]["ACC"] for r in results if r["method"] == "TSP"]
    )
    assert found["TSP", "cifar10"].ours is None
    assert "put its images in" in found["TSP", "cifar10"].reason


def test_the_protocol_decides_what_is_scored(tmp_path, monkeypatch):
    embedded = []

    def key(self, dataset, backbone):
        embedded.append((dataset, backbone))
        return "h.herd", backbone

    monkeypatch.setattr(papers._Embedder, "_key", key)
    monkeypatch.setattr(papers, "_params", lambda step, dataset: {})
    monkeypatch.setattr(papers, "plan", lambda entries, features, *rest: features)
    made = assemble("scp:3", tmp_path, tmp_path, seeds=[0], dataset="cifar20")
    clip, dino = BACKBONES["CLIP ViT-L/14"], BACKBONES["DINO ViT-B/8"]
    train, test = (
        HerdRows("h.herd", (clip, dino), "class", split, "cifar20") for split in ("train", "test")
    )
    assert (made.runs[-1].fit, made.runs[-1].score) == (train, test)
    made = assemble("cpp:6", tmp_path, tmp_path, seeds=[0], dataset="cifar100")
    assert made.runs[0].fit == HerdRows("h.herd", (clip,), "class", "train")
    assert made.runs[0].score is None


def test_with_one_backbone_rows_that_differ_in_theirs_are_one_run(tmp_path, monkeypatch):
    monkeypatch.setattr(papers._Embedder, "_key", lambda self, dataset, backbone: ("h", "key"))
    monkeypatch.setattr(papers, "_params", lambda step, dataset: {})
    monkeypatch.setattr(
        papers, "plan", lambda entries, sets, seeds, k: [(*entries, *sets, s) for s in seeds]
    )
    made = assemble("cpp:3", tmp_path, tmp_path, seeds=[0, 1], backbone="efficientnet-lite0")
    assert [(entry.name, seed) for entry, _, seed in made.runs] == [
        *(("CPP", 0), ("CPP", 1)),
        *(("KMeans", 0), ("KMeans", 1)),
    ]
    assert len(made.features) == 16


def test_the_papers_backbone_may_lie_beside_the_datasets(tmp_path, monkeypatch):
    from imageherd.herd import Herd

    for split in ("train", "test"):
        fill(tmp_path / "data" / "stl10" / split, ["cat", "ship"], n=1)
    asked = []

    def embed(self, folder, *, backbone, device):
        asked.append(backbone)
        raise ImageherdError(f"{backbone} is not there.")

    monkeypatch.setattr(Herd, "embed", embed)
    where = tmp_path / "data" / "backbones" / "dino-vitb16"

    def made():
        return assemble("temi:4", tmp_path / "data", tmp_path / "out", seeds=[0], dataset="stl10")

    assert set(made().missing.values()) == {
        f"facebook/dino-vitb16 is not there. For this table alone: put it at {where}."
    }
    where.mkdir(parents=True)
    made()
    assert asked == ["facebook/dino-vitb16", str(where)]


def test_a_dataset_elsewhere_is_another_herd(tmp_path, monkeypatch):
    from imageherd.bench.papers import _Embedder

    for data in ("a", "b"):
        for split in ("train", "val"):
            fill(tmp_path / data / "cifar100" / split, ["beaver"], n=1)
    (tmp_path / "a" / "cifar100" / "val" / "beaver" / "x.png").write_text("no picture")
    first = _Embedder(tmp_path / "a", tmp_path / "out a", "cpu")
    with pytest.warns(UserWarning, match="Left out of cifar.*: 1 that cannot be read, such as "):
        kept = [first._key(name, "efficientnet-lite0") for name in ("cifar20", "cifar100")]
    assert kept[0] == kept[1]
    herd, key = kept[0]
    other = _Embedder(tmp_path / "b", tmp_path / "out b", "cpu")
    assert other._key("cifar100", "efficientnet-lite0")[0] != herd
    assert HerdRows(herd, (key,), "class", "test").facts().n == 1


def test_without_a_backbone_in_the_paper_one_must_be_named(tmp_path):
    made = assemble("tsp:1", tmp_path, tmp_path, seeds=[0], dataset="stl10")
    assert made.runs == []
    assert "stl10 is not there" in made.missing[made.figures[0]]
    assert "name one with --backbone" in made.missing[made.figures[-1]]


def test_ours_stands_beside_theirs(table):
    made, results = table
    comparisons = compare(made, results)
    rows = cells(comparisons)
    assert ("TSP", "cifar10", "DINO ViT-B/16", "ACC", "94.0", "–") in rows
    (ours,) = [row[-1] for row in rows if row[:2] == ("TEMI", "cifar20")]
    assert " ± " in ours
    missing = reasons(comparisons)
    assert len(missing) == 2
    assert missing[0].startswith("TSP on cifar10, TEMI on cifar10: cifar10 is not there")
    text = to_csv(comparisons)
    assert text.splitlines()[0].startswith("row,dataset,backbone,protocol,metric,paper,paper_std")
    assert len(text.splitlines()) == 7
    said = notes("temi:4", "efficientnet-lite0")
    assert "not on the backbones the table names" in said[-1]
    page = to_markdown(comparisons, results, said, "imageherd bench")
    assert "| row | dataset | backbone | metric | paper | ours |" in page
    assert "`imageherd bench`" in page
    assert "torch" in page

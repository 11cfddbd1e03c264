"""The one file says of photographs what the herd says of them, and says what it is."""

import copy
import json
import re
import shutil
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from PIL import Image
from typer.testing import CliRunner

from backbones.tiny_families import SIDE, save_family
from backbones.tiny_onnx import mean_colour
from imageherd import onnx_graph, onnx_model
from imageherd.backbones.preprocess import Preprocessing
from imageherd.cli import app
from imageherd.clustering import by_cluster
from imageherd.errors import ImageherdError
from imageherd.herd import Herd
from imageherd.images.decode import decode
from imageherd.onnx_model import write_onnx
from imageherd.versions import versions_of

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples" / "clothing"


def session(path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def head_of(herd):
    return versions_of(herd.path, "default").head(herd.clustering().version, device="cpu")


def pixels_of(photos, herd, rows, how):
    """What imageherd itself makes of the images, before mean and standard deviation."""
    raw = Preprocessing(**how, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    paths = herd.items()["path"].take(rows).to_pylist()
    data = [(photos / path).read_bytes() for path in paths]
    return np.stack([raw.apply(decode(d, min_side=raw.resize).image) for d in data])


def in_batches(model, pixels, size):
    parts = [model.run(None, {"pixels": pixels[i : i + size]}) for i in range(0, len(pixels), size)]
    return [np.concatenate(found) for found in zip(*parts, strict=True)]


def assert_says_what_the_herd_says(herd, photos, path, batch, n=None, atol=1e-5):
    about, found = json.loads(path.with_suffix(".json").read_bytes()), herd.clustering()
    data = herd.features()
    pixels = pixels_of(photos, herd, data.rows[:n], about["resize"])
    expected = by_cluster(head_of(herd).predict_proba(data.X[:n]), found.config["uids"])
    P, clusters = in_batches(session(path), pixels, batch)
    np.testing.assert_allclose(P, expected, atol=atol)
    np.testing.assert_array_equal(clusters, found.uids[:n])
    assert (P.dtype, clusters.dtype) == (np.float32, np.int64)
    return about


@pytest.fixture(scope="module")
def sorted_once(template, tmp_path_factory) -> Path:
    """The herd of 48 photographs in six clusters, and its model."""
    folder = tmp_path_factory.mktemp("onnx")
    herd = Herd(shutil.copytree(template, folder / "clothes.herd"))
    herd.cluster("tsp", 6, epochs=2, min_steps=30)
    herd.rename(herd.clustering().clusters[0].uid, "Größte 👕")
    write_onnx(herd.path, folder / "sorter.onnx")
    return folder


@pytest.fixture
def six(sorted_once, tmp_path) -> Herd:
    return Herd(shutil.copytree(sorted_once / "clothes.herd", tmp_path / "six.herd"))


# ---- what it says


@pytest.mark.parametrize(("batch", "n"), [(1, 3), (5, 12), (48, 48)])
def test_photographs_in_batches_of_any_size(sorted_once, photos, batch, n):
    herd, path = Herd(sorted_once / "clothes.herd"), sorted_once / "sorter.onnx"
    assert assert_says_what_the_herd_says(herd, photos, path, batch, n)["batch"] is None


def test_merged_clusters(six, photos, tmp_path):
    merged = six.merge(3)
    path = write_onnx(six.path, tmp_path / "three.onnx")
    about = assert_says_what_the_herd_says(six, photos, path, 10, 10)
    assert sorted(about["uids"]) == sorted(c.uid for c in merged.clusters)
    assert [merged.names()[uid] for uid in about["uids"]] == about["names"]


def test_new_photographs_go_where_assign_puts_them(six, sorted_once, tmp_path):
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    for path in sorted(EXAMPLES.glob("*.jpg"))[100:110]:
        shutil.copy(path, fresh)
    # Large enough to be decoded at a fraction, and lying on its side.
    picture = Image.open(EXAMPLES / sorted(p.name for p in EXAMPLES.glob("*.jpg"))[131])
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.resize((1500, 1100)).save(fresh / "sideways.jpg", exif=exif)
    # A strip, of which only the middle is resized.
    picture.resize((40, 900)).save(fresh / "strip.png")
    placed = six.assign(fresh, reject=0)
    about = json.loads((sorted_once / "sorter.json").read_bytes())
    pixels = pixels_of(fresh, six, placed.rows, about["resize"])
    P, clusters = session(sorted_once / "sorter.onnx").run(None, {"pixels": pixels})
    np.testing.assert_array_equal(clusters, placed.uids)
    np.testing.assert_allclose(P.max(1), placed.probability, atol=1e-5)


def test_the_example_of_the_guide(sorted_once, photos, tmp_path, monkeypatch, capsys):
    guide = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", guide.split("## 7. Use it elsewhere")[1], re.S)
    herd = Herd(sorted_once / "clothes.herd")
    found = herd.clustering()
    paths = herd.items()["path"].take(found.rows[:2]).to_pylist()
    for path, name in zip(paths, ("a.jpg", "b.jpg"), strict=True):
        shutil.copy(photos / path, tmp_path / name)
    for name in ("sorter.onnx", "sorter.json"):
        shutil.copy(sorted_once / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    values: dict = {}
    exec(compile(code, "guide.md", "exec"), values)
    np.testing.assert_array_equal(values["clusters"], found.uids[:2])
    np.testing.assert_allclose(values["probabilities"].max(1), found.probability[:2], atol=1e-5)
    assert found.names()[int(found.uids[0])] in capsys.readouterr().out
    # Word for word what imageherd does, of every photograph and not of these two alone.
    rows = herd.features().rows
    ours = pixels_of(photos, herd, rows, values["about"]["resize"])
    for path, one in zip(herd.items()["path"].take(rows).to_pylist(), ours, strict=True):
        np.testing.assert_array_equal(values["pixels"](photos / path), one)


def test_on_the_command_line(small, tmp_path, monkeypatch):
    def run(*arguments):
        return CliRunner().invoke(app, ["export", str(small), *arguments])

    monkeypatch.chdir(tmp_path)
    done = run("sorter.onnx", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["to"] == "onnx"
    assert session("sorter.onnx").get_inputs()[0].name == "pixels"
    assert run("sorter.onnx").exit_code == 2
    assert "let its name end in .onnx" in run("sorter", "--to", "onnx").stderr
    assert "--review gives a table or folders" in run("few.onnx", "--review", "3").stderr
    assert "--to onnx" in run("sorter").stderr


# ---- what it is


def test_it_says_what_it_is(sorted_once):
    path = sorted_once / "sorter.onnx"
    herd = Herd(sorted_once / "clothes.herd")
    found, about = herd.clustering(), json.loads((sorted_once / "sorter.json").read_bytes())
    model = onnx.load(path)
    onnx.checker.check_model(model)
    inside = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert inside == about
    assert about["clustering"] == {"name": "default", "version": found.version, "method": "tsp"}
    assert about["backbone"]["model"] == "efficientnet-lite0"
    assert about["resize"] == {
        "size": 224,
        "resize": 224,
        "mode": "crop",
        "interpolation": "bicubic",
    }
    assert "Größte 👕" in about["names"]
    assert "224 * width // short" in " ".join(about["preparation"])
    (entry,) = model.opset_import
    assert (entry.version, model.producer_name) == (about["opset"], "imageherd")
    (one,), outputs = session(path).get_inputs(), session(path).get_outputs()
    assert (one.name, one.shape) == ("pixels", ["batch", 3, 224, 224])
    assert [(o.name, o.shape[1:]) for o in outputs] == [("probabilities", [6]), ("cluster", [])]
    # ImageNet's 1,000 classes are not taken along.
    assert all("logits" not in name for node in model.graph.node for name in node.output)


def test_a_squashed_image_in_words():
    text = " ".join(onnx_model._in_words(Preprocessing(32, 32, "squash", "lanczos")))
    assert "Resize it to 32 x 32 pixels, with Pillow's lanczos filter" in text
    assert "short" not in text.replace("short side", "")


# ---- other backbones


def of_backbone(photos, tmp_path, name, method="kmeans", **params) -> Herd:
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted((photos / "left").glob("*.jpg"))[:12]:
        if path.stat().st_size:
            shutil.copy(path, few)
    herd = Herd(tmp_path / "few.herd")
    herd.embed(few, backbone=str(name), device="cpu")
    herd.cluster(method, 3, **params)
    return herd


def network(path, content, side=SIDE):
    path.write_bytes(content)
    how = Preprocessing(side, side + 4, mean=(120, 110, 100), std=(50, 60, 70))
    path.with_suffix(".json").write_text(json.dumps(how.to_dict()))
    return path


def test_an_onnx_file_of_fixed_batch_whose_names_are_ours(photos, tmp_path):
    """Its batch stays; that its input is called as ours is does no harm."""
    content = mean_colour(shape=(4, 3, SIDE, SIDE), outputs=(("cluster", (4, 3)),))
    net = onnx.load_from_string(content.replace(b"images", b"pixels"))
    assert net.graph.input[0].name == "pixels"
    path = network(tmp_path / "own.onnx", net.SerializeToString())
    herd = of_backbone(photos, tmp_path, path)
    written = write_onnx(herd.path, tmp_path / "sorter.onnx")
    about = json.loads((tmp_path / "sorter.json").read_bytes())
    assert about["batch"] == 4
    data = herd.features()
    pixels = pixels_of(tmp_path / "few", herd, data.rows, about["resize"])
    P, clusters = in_batches(session(written), pixels[:8], 4)
    np.testing.assert_allclose(P, head_of(herd).predict_proba(data.X)[:8], atol=1e-5)
    np.testing.assert_array_equal(clusters, herd.clustering().uids[:8])


@pytest.mark.parametrize("opset", [9, 20])
def test_an_old_and_a_new_opset(photos, tmp_path, opset):
    axes = [2, 3]
    kind = {"axes": axes} if opset < 18 else {}
    sides = helper.make_tensor("axes", TensorProto.INT64, [2], axes)
    graph = helper.make_graph(
        [
            helper.make_node(
                "ReduceMean", ["x", *([] if kind else ["axes"])], ["y"], keepdims=0, **kind
            )
        ],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [] if kind else [sides],
    )
    ir = 3 if opset == 9 else 8
    net = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)
    herd = of_backbone(
        photos,
        tmp_path,
        network(tmp_path / "own.onnx", net.SerializeToString()),
        "tsp",
        epochs=1,
        min_steps=20,
    )
    written = write_onnx(herd.path, tmp_path / "sorter.onnx")
    about = assert_says_what_the_herd_says(herd, tmp_path / "few", written, 5)
    assert about["opset"] == max(opset, 13)


def test_weights_beside_the_file_come_into_it(photos, tmp_path):
    weight = np.random.default_rng(0).normal(size=(3 * SIDE * SIDE, 6)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["x"], ["flat"]),
            helper.make_node("MatMul", ["flat", "w"], ["features"]),
        ],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 6])],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    net = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = network(tmp_path / "own.onnx", b"")
    onnx.save(net, path, save_as_external_data=True, location="own.onnx.data")
    herd = of_backbone(photos, tmp_path, path)
    written = write_onnx(herd.path, tmp_path / "sorter.onnx")
    assert_says_what_the_herd_says(herd, tmp_path / "few", written, 11, atol=1e-4)


@pytest.mark.parametrize("runtime", ["torch", "onnx"])
def test_a_model_of_transformers_takes_any_number_of_images(photos, tmp_path, monkeypatch, runtime):
    monkeypatch.setenv("IMAGEHERD_CACHE", str(tmp_path / "cache"))
    save_family(tmp_path / "tiny", "dinov2")
    herd = of_backbone(photos, tmp_path, f"{tmp_path / 'tiny'},runtime={runtime}")
    written = herd.export(tmp_path / "sorter.onnx", to="onnx")
    for batch in (1, 3):
        about = assert_says_what_the_herd_says(herd, tmp_path / "few", written, batch)
    assert about["batch"] is None
    assert about["backbone"].get("runtime", "torch") == runtime
    assert session(written).get_inputs()[0].shape[0] == "batch"


def test_what_cannot_be_written_for_any_number_takes_one_and_says_so(photos, tmp_path):
    # It draws at random which patches it sees, for as many images as it was traced with.
    save_family(tmp_path / "tiny", "vit_mae")
    herd = of_backbone(photos, tmp_path, tmp_path / "tiny")
    with pytest.warns(UserWarning, match="one image at a time: .*tiny cannot be written for any"):
        written = write_onnx(herd.path, tmp_path / "sorter.onnx")
    assert assert_says_what_the_herd_says(herd, tmp_path / "few", written, 1)["batch"] == 1


def test_in_eight_bits_it_takes_one_image(photos, tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGEHERD_CACHE", str(tmp_path / "cache"))
    save_family(tmp_path / "tiny", "vit")
    herd = of_backbone(photos, tmp_path, f"{tmp_path / 'tiny'},runtime=onnx-int8")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        written = write_onnx(herd.path, tmp_path / "sorter.onnx")
    about = assert_says_what_the_herd_says(herd, tmp_path / "few", written, 1)
    assert about["batch"] == 1
    assert about["backbone"]["runtime"] == "onnx-int8"


def test_options_of_tables_do_not_go_with_a_model(small, tmp_path):
    with pytest.raises(TypeError, match="review"):
        Herd(small).export(tmp_path / "sorter.onnx", to="onnx", review=3)


# ---- what cannot be written


@pytest.fixture(scope="module")
def small(photos, tmp_path_factory) -> Path:
    """A herd of twelve photographs and their mean colours."""
    folder = tmp_path_factory.mktemp("small")
    return of_backbone(photos, folder, network(folder / "own.onnx", mean_colour())).path


def test_written_twice_it_is_the_same(small, tmp_path):
    once, again = (write_onnx(small, tmp_path / name) for name in ("a.onnx", "b.onnx"))
    assert once.read_bytes() == again.read_bytes()


@pytest.mark.parametrize("taken", ["sorter.onnx", "sorter.json"])
def test_nothing_is_overwritten(small, tmp_path, taken):
    (tmp_path / taken).write_text("mine")
    with pytest.raises(ImageherdError, match=f"{taken} exists already"):
        write_onnx(small, tmp_path / "sorter.onnx")
    assert [p.name for p in tmp_path.iterdir()] == [taken]


def test_a_name_that_says_something_else(small, tmp_path):
    with pytest.raises(ImageherdError, match=r"let its name end in \.onnx"):
        write_onnx(small, tmp_path / "sorter.json")


def test_the_extra_is_named(small, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_model, "find_spec", lambda package: None)
    with pytest.raises(ImageherdError, match=r'pip install "imageherd\[onnx\]"'):
        write_onnx(small, tmp_path / "sorter.onnx")


def test_too_large_for_one_file(small, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_graph, "MOST_BYTES", 100)
    with pytest.raises(ImageherdError, match="holds at most 2 GB"):
        write_onnx(small, tmp_path / "sorter.onnx")
    assert not list(tmp_path.iterdir())


def test_a_file_that_says_something_else_is_not_written(small, tmp_path, monkeypatch):
    def turned(net, head, uids):
        other = copy.deepcopy(head)
        other.network_.centers.copy_(other.network_.centers.flip(0))
        return tail(net, other, uids)

    tail = onnx_graph._tail
    monkeypatch.setattr(onnx_graph, "_tail", turned)
    with pytest.raises(ImageherdError, match="does not answer as the herd does"):
        write_onnx(small, tmp_path / "sorter.onnx")
    assert not list(tmp_path.iterdir())


def test_several_feature_spaces(small, tmp_path):
    herd = Herd(shutil.copytree(small, tmp_path / "small.herd"))
    herd.cluster("kmeans", 3, blocks=(1, 2))
    with pytest.raises(ImageherdError, match="2 feature spaces side by side"):
        write_onnx(herd.path, tmp_path / "sorter.onnx")


def test_vectors_that_no_network_makes(tmp_path):
    np.save(tmp_path / "clip.npy", np.random.default_rng(0).normal(size=(40, 8)).astype("f"))
    herd = Herd(tmp_path / "v.herd")
    herd.embed(tmp_path / "clip.npy")
    herd.cluster("kmeans", 3)
    with pytest.raises(ImageherdError, match="vectors that were given: no backbone makes them"):
        write_onnx(herd.path, tmp_path / "sorter.onnx")


def test_another_network_under_the_same_name(photos, tmp_path):
    path = network(tmp_path / "own.onnx", mean_colour())
    herd = of_backbone(photos, tmp_path, path)
    network(path, mean_colour(outputs=(("other", ("batch", 3)),)))
    with pytest.raises(ImageherdError, match="another weights and output"):
        write_onnx(herd.path, tmp_path / "sorter.onnx")

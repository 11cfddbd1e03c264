import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from imageherd.backbones import load_backbone
from imageherd.candidates import kept_text_features, read_texts
from imageherd.cli import app
from imageherd.clip_naming import best_texts, embed_rows, typical
from imageherd.errors import ImageherdError
from imageherd.herd import Herd
from imageherd.images.decode import decode
from imageherd.naming import vote_names

sys.path.append(str(Path(__file__).parent / "backbones"))

from tiny_clip import save_clip, save_siglip

WORDS = ["cat", "dog", "red shoe", "hat", "jeans", "T-shirt", "gown"]


@pytest.fixture(scope="session")
def clip(tmp_path_factory) -> str:
    return str(save_clip(tmp_path_factory.mktemp("models") / "tiny-clip"))


@pytest.fixture
def words(tmp_path) -> str:
    path = tmp_path / "words.txt"
    path.write_text("\n".join(WORDS) + "\n")
    return str(path)


def test_algorithm_2_by_hand():
    # Cosines with the six texts are the images' own numbers, since the texts are unit vectors.
    texts = np.eye(6, 7, dtype=np.float32) * 3
    images = np.array(
        [
            [0.5, 0.1, 0.4, 0.3, 0.2, 0.0],
            [0.0, 0.6, 0.1, 0.5, 0.2, 0.3],
            [0.6, 0.0, 0.1, 0.2, 0.3, 0.4],
        ],
        dtype=np.float32,
    )
    rest = np.sqrt(1 - (images**2).sum(1, keepdims=True))
    images = np.hstack([images, rest]) * np.array([[2], [5], [0.5]], dtype=np.float32)
    best, cosines = best_texts(images, texts)
    assert best.tolist() == [[0, 2, 3, 4, 1], [1, 3, 5, 4, 2], [0, 5, 4, 3, 2]]
    assert cosines[1] == pytest.approx([0.6, 0.5, 0.3, 0.2, 0.1], abs=1e-6)
    named = vote_names(best, cosines, np.array([0, 0, 0]), WORDS[:6])
    # V = 1.1, 0.7, 0.6, 1.0, 0.7, 0.7; the text that an image likes least gets nothing from it.
    assert named[0].name == "cat"
    assert named[0].share == pytest.approx(1.1 / 4.8)
    assert (named[0].runner_up, named[0].runner_up_share) == ("hat", pytest.approx(1 / 4.8))
    assert (named[0].voters, named[0].evidence) == (2, [2, 0])


@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 2**32 - 1), st.booleans())
def test_the_best_texts_are_those_of_a_full_sort(n, m, seed, soft):
    rng = np.random.default_rng(seed)
    images, texts = rng.normal(size=(n, 4)), rng.normal(size=(m, 4))
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (images, texts)]
    scores = unit[0] @ unit[1].T
    order = np.argsort(-scores, axis=1, kind="stable")[:, :5]
    if soft:
        scores = np.exp(100 * scores - (100 * scores).max(1, keepdims=True))
        scores /= scores.sum(1, keepdims=True)
    best, weights = best_texts(
        images.astype(np.float32), texts.astype(np.float32), weights="softmax" if soft else "cosine"
    )
    assert np.array_equal(best, order)
    assert weights == pytest.approx(np.take_along_axis(scores, order, axis=1), abs=1e-4)


def test_blocks_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    images, texts = (rng.normal(size=(n, 8)).astype(np.float32) for n in (50, 20))
    whole = best_texts(images, texts)
    monkeypatch.setattr("imageherd.clip_naming.CELLS", 60)
    for one, other in zip(whole, best_texts(images, texts), strict=True):
        assert one == pytest.approx(other, abs=1e-6)


def test_typical_members_are_the_most_central():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(60, 5)).astype(np.float32)
    uids = rng.integers(-1, 3, size=60).astype(np.int32)
    found = typical(X, uids, 4)
    expected = []
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    for uid in range(3):
        members = np.flatnonzero(uids == uid)
        mean = (unit[members] @ unit[members].T).mean(1)
        expected += members[np.argsort(-mean)[:4]].tolist()
    assert found.tolist() == sorted(expected)
    assert typical(X, uids, 1000).tolist() == np.flatnonzero(uids >= 0).tolist()


@pytest.mark.parametrize("save", [save_clip, save_siglip])
def test_names_are_those_of_transformers_and_a_plain_loop(herd, tmp_path, words, save):
    folder = save(tmp_path / "tiny")
    found = herd.name(str(folder), texts=words, prompt="a photo of {}", prototypes=5, device="cpu")

    model = transformers.AutoModel.from_pretrained(folder)
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    siglip = save is save_siglip
    prompts = [f"a photo of {word}" for word in WORDS]
    tokens = tokenizer(
        [p.lower() for p in prompts] if siglip else prompts,
        **{"padding": "max_length", "max_length": 12, "truncation": True, "return_tensors": "pt"},
        return_attention_mask=not siglip,
    )
    kind = transformers.SiglipImageProcessorPil if siglip else transformers.CLIPImageProcessorPil
    processor = kind.from_pretrained(folder)
    paths = herd.items()["path"].to_pylist()
    (photos,) = (Path(uri.partition(":")[2]) for uri in read_sources(herd))
    X = herd.features().X
    X = X / np.linalg.norm(X, axis=1, keepdims=True)
    rows = herd.features().rows
    with torch.no_grad():
        t = model.get_text_features(**tokens).pooler_output
    votes = {}
    for cluster in found.clusters:
        members = found.rows[found.uids == cluster.uid]
        own = X[np.searchsorted(rows, members)]
        order = np.argsort(-(own @ own.T).mean(1), kind="stable")[:5]
        V = np.zeros(len(WORDS))
        for row in members[order]:
            image = decode((photos / paths[row]).read_bytes()).image
            pixels = processor(image, return_tensors="pt")["pixel_values"]
            with torch.no_grad():
                z = model.get_image_features(pixel_values=pixels).pooler_output
            scores = torch.nn.functional.cosine_similarity(z, t).numpy()
            top = np.argsort(-scores)[:5]
            V[top] += scores[top]
        votes[cluster.uid] = V
    for cluster in found.clusters:
        V = votes[cluster.uid]
        positive = np.maximum(V, 0)
        share = positive[WORDS.index(cluster.winner)] / positive.sum()
        assert cluster.share == pytest.approx(share, abs=2e-3)
        assert WORDS[int(V.argmax())] in (cluster.winner, cluster.runner_up)
        assert set(cluster.evidence) <= set(found.rows[found.uids == cluster.uid].tolist())
    assert len({cluster.name for cluster in found.clusters}) == 4


def read_sources(herd):
    return json.loads((herd.path / "herd.json").read_text())["sources"]


def test_features_of_the_very_model_let_all_images_vote(herd, photos, clip, words, monkeypatch):
    herd.embed(photos, backbone=clip, device="cpu")
    monkeypatch.setattr("imageherd.clip_naming.embed_rows", None)
    found = herd.name(clip, texts=words, device="cpu")
    assert found.config["naming"]["images"] == "all"
    backbone = load_backbone(clip, device="cpu")
    assert found.config["naming"]["by"] == backbone.key
    data = herd.features(backbone.key)
    assert np.array_equal(data.rows, found.rows)
    vectors = kept_text_features(herd.path, backbone, WORDS)
    expected = vote_names(*best_texts(data.X, vectors), found.uids, WORDS, rows=found.rows)
    assert {c.uid: c.winner for c in found.clusters} == {u: n.winner for u, n in expected.items()}
    assert {c.uid: c.voters for c in found.clusters} == {u: n.voters for u, n in expected.items()}


def test_names_given_by_a_person_stay(herd, clip, words):
    before = herd.clustering()
    first, second = before.clusters[:2]
    herd.rename(first.uid, "favourites")
    by_clip = herd.name(clip, texts=words, prototypes=2, device="cpu")
    assert by_clip.version == "v0002"
    assert by_clip.cluster(first.uid).name == "favourites"
    assert by_clip.cluster(first.uid).winner in WORDS
    assert by_clip.cluster(second.uid).winner in WORDS
    assert herd.clustering().clusters == by_clip.clusters
    again = herd.name()
    assert again.cluster(first.uid).name == "favourites"
    assert "naming" not in again.config
    named = {c.uid: replace(c, name="") for c in again.clusters}
    assert named == {c.uid: replace(c, name="") for c in before.clusters}
    assert again.cluster(second.uid).name == second.name


def test_a_vote_changes_names_only(herd, clip, words):
    herd.cluster("tsp", 3, epochs=2, min_steps=20)
    folder = herd.path / "clusterings" / "default"
    herd.name(clip, texts=words, prototypes=2, device="cpu")
    for name in ("assignments.parquet", "head.safetensors", "history.parquet"):
        assert (folder / "v0002" / name).read_bytes() == (folder / "v0003" / name).read_bytes()


def test_unreadable_prototypes_do_not_vote(herd, photos, clip, words, tmp_path):
    project = herd.path / "herd.json"
    text = project.read_text()
    project.write_text(text.replace(str(photos), str(tmp_path / "gone")))
    with pytest.raises(ImageherdError, match="None of the 8 images that were to vote can be read"):
        Herd(herd.path).name(clip, texts=words, prototypes=2, device="cpu")
    project.write_text(text)
    items = herd.items()
    backbone = load_backbone(clip, device="cpu")
    # Row 0 or another is left/empty.jpg.
    bad = items["path"].to_pylist().index("left/empty.jpg")
    rows = np.array([bad, (bad + 1) % 49, (bad + 2) % 49])
    readable, features = embed_rows(herd.path, items, rows, backbone)
    assert (readable.tolist(), features.shape) == ([1, 2], (2, backbone.dim))


def test_features_of_texts_are_kept_and_made_again_when_damaged(herd, clip, monkeypatch):
    backbone = load_backbone(clip, device="cpu")
    first = kept_text_features(herd.path, backbone, WORDS)
    (path,) = (herd.path / "texts").iterdir()
    whole = path.read_bytes()

    with monkeypatch.context() as without_model:
        without_model.setattr("imageherd.backbones.text.encode_texts", None)
        assert np.array_equal(kept_text_features(herd.path, backbone, WORDS), first)
    for damaged in (b"", whole[:-5], whole[:-1] + bytes([whole[-1] ^ 1]), b"\xff" * 100):
        path.write_bytes(damaged)
        assert np.array_equal(kept_text_features(herd.path, backbone, WORDS), first)
        assert path.read_bytes() == whole

    kept_text_features(herd.path, backbone, WORDS, "{}")
    kept_text_features(herd.path, backbone, WORDS[:2])
    kept_text_features(herd.path, backbone, ["cat\ndog", "x"])
    kept_text_features(herd.path, backbone, ["cat", "dog\nx"])
    assert len(list((herd.path / "texts").iterdir())) == 5
    with pytest.raises(ImageherdError, match=r'has no "\{\}"'):
        kept_text_features(herd.path, backbone, WORDS, "a photo")


def test_candidates_from_a_file(tmp_path):
    path = tmp_path / "words.txt"
    path.write_bytes("\ufeffcat\r\n\r\n  a  red shoe \ncat\nGrandma's {hat}\n".encode())
    assert read_texts(str(path)) == ["cat", "a red shoe", "Grandma's {hat}"]


def test_candidates_from_wordnet(tmp_path):
    (tmp_path / "index.noun").write_text(
        "  1 This software and database is being provided to you, the LICENSEE, by\n"
        "  2 Princeton University under the following license.\n"
        "abacus n 2 3 @ ~ + 2 0 02666196 02666062  \n"
        "ad_hoc n 1 1 @ 1 0 00000001  \n"
    )
    assert read_texts(f"wordnet:{tmp_path}") == ["abacus", "ad hoc"]
    assert read_texts(f"wordnet:{tmp_path}/index.noun") == ["abacus", "ad hoc"]
    assert len(read_texts("imagenet")) == 998


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "No such file"), (b" \n\n", "holds no candidate"), (b"\xff\xfe\x00", "no text in UTF")],
)
def test_candidates_that_cannot_be_read_are_explained(tmp_path, content, says):
    path = tmp_path / "words.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ImageherdError, match=says):
        read_texts(str(path))
    with pytest.raises(ImageherdError, match="Is a directory"):
        read_texts(str(tmp_path))


def run(*arguments):
    return CliRunner().invoke(app, ["name", *map(str, arguments)])


def test_the_command_line_votes_and_says_why(herd, clip, words, monkeypatch):
    uid = herd.clustering().clusters[0].uid
    result = run(herd.path, "--clip", clip, "--texts", words, "--prototypes", 3, "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert result.stdout.split("\n")[0].split() == [
        *("uid", "name", "images", "share", "lift", "runner-up"),
    ]
    why = run(herd.path, "--why", uid)
    cluster = herd.clustering().cluster(uid)
    assert why.stdout.startswith(f"{cluster.winner}: {cluster.share:.0%} of the votes, ")
    paths = herd.items()["path"].to_pylist()
    assert [line.strip() for line in why.stdout.splitlines()[-len(cluster.evidence) :]] == [
        paths[row] for row in cluster.evidence
    ]
    value = json.loads(run(herd.path, "--why", uid, "--json").stdout)
    assert [entry["row"] for entry in value["why"]["evidence"]] == cluster.evidence
    assert value["why"]["naming"]["texts"] == words
    assert value["clustering"]["clusters"][0]["lift"] == cluster.lift
    run(herd.path, "--rename", f"{uid}=Mine")
    assert "Mine is a name given by hand" in run(herd.path, "--why", uid).stdout
    assert run(herd.path, "--anew").exit_code == 0
    assert "naming" not in herd.clustering().config


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--texts", "words.txt"], "--texts is for a vote with --clip"),
        (["--anew", "--clip", "x/y"], "give one of them"),
        (["--clip", "x/y", "--weights", "cosin"], "Did you mean cosine"),
        (["--clip", "efficientnet-lite0"], "reads no texts"),
        (["--clip", "nowhere"], "no backbone 'nowhere'"),
        (["--clip", "efficientnet-lite0", "--texts", "no.txt"], "cannot be read from no.txt"),
        (["--why", "77"], "no cluster 77"),
    ],
)
def test_what_cannot_be_done_is_said_and_changes_nothing(herd, arguments, says):
    result = run(herd.path, *arguments)
    assert result.exit_code == 2
    assert says in result.stderr
    assert herd.clustering().version == "v0001"

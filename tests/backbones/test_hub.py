"""What the hub answers, by a stand-in: weights that wait as a pull request of its converter."""

import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import huggingface_hub
import pytest
from tiny_families import save_family

from imageherd.backbones import load_backbone
from imageherd.backbones.hub import CONVERTER, is_cached
from imageherd.errors import ImageherdError

NAME, SHA = "someone/old", "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub whose main version is pickled; pull request 3, by the converter, is not."""
    cache = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    save_family(tmp_path / "model", "dinov2")
    asked = []

    class Hub:
        offers = (SimpleNamespace(num=2), SimpleNamespace(num=3))

        def model_info(self, name, *, revision=None, timeout):
            weights = "model.safetensors" if revision == "refs/pr/3" else "pytorch_model.bin"
            return SimpleNamespace(sha="main", siblings=[SimpleNamespace(rfilename=weights)])

        def get_repo_discussions(self, name, *, author, discussion_type, discussion_status):
            assert (author, discussion_type, discussion_status) == (
                *(CONVERTER, "pull_request"),
                "open",
            )
            return self.offers

    real = huggingface_hub.snapshot_download

    def snapshot_download(name, *, revision=None, local_files_only=False, **rest):
        if not local_files_only:
            asked.append(revision)
            repository = cache / "models--someone--old"
            shutil.copytree(tmp_path / "model", repository / "snapshots" / SHA)
            (repository / "refs/refs/pr").mkdir(parents=True)
            (repository / "refs" / revision).write_text(SHA)
        return real(name, revision=revision, local_files_only=True, cache_dir=cache)

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return SimpleNamespace(asked=asked, kind=Hub)


def test_the_hubs_own_conversion_is_taken_and_kept(hub):
    assert not is_cached(NAME)
    first = load_backbone(NAME, device="cpu")
    assert (hub.asked, first.identity["revision"]) == (["refs/pr/3"], SHA)
    assert is_cached(NAME)
    assert load_backbone(NAME, device="cpu").key == first.key
    assert hub.asked == ["refs/pr/3"]


def test_pickled_weights_without_a_conversion_are_refused(hub, monkeypatch):
    monkeypatch.setattr(hub.kind, "offers", (SimpleNamespace(num=2),))
    with pytest.raises(ImageherdError, match="no safetensors weights, and pickled ones"):
        load_backbone(NAME, device="cpu")


def test_the_cache_is_looked_into_by_a_process_that_has_imported_nothing_else(tmp_path):
    code = "from imageherd.backbones.hub import is_cached; print(is_cached('some/net'))"
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment
    )
    assert done.stdout == "False\n", done.stderr

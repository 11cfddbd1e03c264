"""Where a Hugging Face model lies on this machine, or how to get it here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from imageherd.errors import ImageherdError

INDEX = "model.safetensors.index.json"
FILES = [
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "model*.safetensors",
    INDEX,
]
CONVERTER = "SFconvertbot"
# A network that drops packets must not look like a program that hangs.
TIMEOUT_SECONDS = 10.0


class ModelFolder(NamedTuple):
    """A model on this machine: its folder, its commit if from the hub, its weight files."""

    folder: Path
    revision: str | None
    weights: list[Path]


def find_model(name: str, *, gated: bool = False) -> ModelFolder:
    """Find a model as a folder, else in the Hugging Face cache, else download it there.

    Parameters
    ----------
    name : str
        A folder, or a hub name such as "facebook/dinov2-small". A cached model is taken as it is:
        the network is asked only for what is not there.
    gated : bool, default=False
        Whether its makers are known to give it out on request only, which an error then says.

    Raises
    ------
    ImageherdError
        If the folder lacks a part, the hub does not have the model or will not give it, or the
        hub cannot be reached.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return ModelFolder(folder, None, weight_files(folder))
    found = _cached(name) or _download(name, gated=gated)
    return ModelFolder(found, found.name, weight_files(found))


def is_cached(name: str) -> bool:
    """Whether the Hugging Face cache holds a whole model; no network is asked."""
    return _cached(name) is not None


def _cached(name: str) -> Path | None:
    """Return a whole model in the Hugging Face cache: the hub's main version, or a conversion."""
    repository = f"models--{name.replace('/', '--')}"
    converted = Path(constants.HF_HUB_CACHE, repository, "refs", "refs", "pr")
    others = sorted(path.name for path in converted.iterdir()) if converted.is_dir() else []
    for revision in (None, *(f"refs/pr/{number}" for number in others)):
        try:
            folder = _snapshot(name, revision=revision, local_files_only=True)
            weight_files(folder)
        except (OSError, ImageherdError):
            continue
        return folder
    return None


def weight_files(folder: Path) -> list[Path]:
    """List the safetensors files of a model folder, after checking that nothing is missing.

    Raises
    ------
    ImageherdError
        If ``config.json`` or a weight file is not there, or the weights are pickled only.
    """
    names = ["model.safetensors"]
    index = folder / INDEX
    if index.is_file():
        try:
            names = sorted(
                set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            )
        except (ValueError, KeyError, AttributeError) as error:
            raise ImageherdError(f"{index} is damaged; get it again.") from error
    missing = [part for part in ("config.json", *names) if not (folder / part).is_file()]
    if (
        "config.json" not in missing
        and any(folder.glob("*.bin"))
        and "model.safetensors" in missing
    ):
        raise _pickled(str(folder))
    if missing:
        raise ImageherdError(f"{folder} is not a whole model: {', '.join(missing)} is not there.")
    return [folder / part for part in names]


def _snapshot(name: str, *, revision: str | None = None, local_files_only: bool = False) -> Path:
    folder = huggingface_hub.snapshot_download(
        name,
        revision=revision,
        allow_patterns=FILES,
        etag_timeout=TIMEOUT_SECONDS,
        local_files_only=local_files_only,
    )
    return Path(str(folder))


def hub_file(repo: str, filename: str) -> Path:
    """Find one file of a hub repository in the Hugging Face cache, else download it there.

    Raises
    ------
    ImageherdError
        If it is not there and the hub does not have it, will not give it or cannot be reached.
    """
    try:
        return Path(huggingface_hub.hf_hub_download(repo, filename, local_files_only=True))
    except OSError:
        pass
    try:
        return Path(huggingface_hub.hf_hub_download(repo, filename, etag_timeout=TIMEOUT_SECONDS))
    except Exception as error:  # every HTTP library the hub's client has used has its own errors
        # The one that says the hub could not be asked is a kind of the one that says it has none.
        if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
            raise ImageherdError(
                f"{repo} has no {filename} on the Hugging Face hub, and pickled weights are never "
                "opened, since they can run code."
            ) from error
        raise ImageherdError(
            f"{filename} of {repo} is not on this machine and {_no_hub()}: run `hf download {repo} "
            f"{filename} --local-dir .` on a machine with a network, copy the file here and give "
            "it after an @ at the end of the name."
        ) from error


def _no_hub() -> str:
    offline = constants.HF_HUB_OFFLINE
    return "HF_HUB_OFFLINE is set" if offline else "the Hugging Face hub cannot be reached"


def _download(name: str, *, gated: bool) -> Path:
    hub = huggingface_hub.HfApi()
    try:
        found = hub.model_info(name, timeout=TIMEOUT_SECONDS)
        if _has_safetensors(found):
            return _snapshot(name, revision=found.sha)
        return _snapshot(name, revision=_conversion(hub, name))
    except ImageherdError:
        raise
    except GatedRepoError as error:
        raise ImageherdError(
            f"{name} is given out only to people who accepted its terms: accept them at "
            f"https://huggingface.co/{name}, run `hf auth login`, and try again."
        ) from error
    except RepositoryNotFoundError as error:
        raise ImageherdError(
            f"The Hugging Face hub has no model {name}, or it is private (`hf auth login`)."
        ) from error
    except Exception as error:  # every HTTP library the hub's client has used has its own errors
        first = f" (access must be granted at https://huggingface.co/{name} first)" if gated else ""
        raise ImageherdError(
            f"{name} is not on this machine and {_no_hub()}: run `hf download {name} --local-dir "
            f"{name.split('/')[-1]}` on a machine with a network{first}, copy that folder here and "
            "give its path instead of the name."
        ) from error


def _has_safetensors(found: Any) -> bool:
    return any(file.rfilename.endswith(".safetensors") for file in found.siblings or [])


def _conversion(hub: Any, name: str) -> str:
    """Find the weights as the hub's own converter offers them, where the makers' are pickled.

    Its pull requests wait, unmerged, in many an old repository, CLIP's ViT-B/32 among them.

    Raises
    ------
    ImageherdError
        If there is none.
    """
    offers = hub.get_repo_discussions(
        name, author=CONVERTER, discussion_type="pull_request", discussion_status="open"
    )
    for offer in offers:
        revision = f"refs/pr/{offer.num}"
        if _has_safetensors(hub.model_info(name, revision=revision, timeout=TIMEOUT_SECONDS)):
            return revision
    raise _pickled(name)


def _pickled(where: str) -> ImageherdError:
    return ImageherdError(
        f"{where} has no safetensors weights, and pickled ones (.bin) are never opened, since "
        "they can run code; load it with transformers where you trust it and save it again with "
        "save_pretrained."
    )

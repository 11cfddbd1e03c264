"""What models of other libraries (timm, open_clip) have in common here: importing and loading."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from imageherd.backbones.hub import hub_file
from imageherd.backbones.preprocess import INTERPOLATIONS, Mode, Preprocessing
from imageherd.errors import ImageherdError


def import_extra(module: str, extra: str) -> Any:
    """Import a library that an extra installs.

    Raises
    ------
    ImageherdError
        If it, or torchvision, which it needs, is missing or does not fit the installed torch.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ImageherdError(
            f'This backbone needs {error.name}: pip install "imageherd[{extra}]"'
        ) from error
    except Exception as error:  # a torchvision made for another torch raises RuntimeError
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ImageherdError(
            f"{module} is installed but cannot be imported ({first}); most often torchvision was "
            "made for another torch: install the two together, as pytorch.org says."
        ) from error


def weights_file(name: str, given: str, repo: str | None, filename: str) -> tuple[Path, str | None]:
    """Find a model's safetensors file: the one given, else in the Hugging Face cache or the hub.

    Returns
    -------
    path : Path
        The file.
    revision : str or None
        The hub's commit; None for a file of one's own.

    Raises
    ------
    ImageherdError
        If there is none.
    """
    if given:
        path = Path(given).expanduser()
        if path.suffix != ".safetensors" or not path.is_file():
            raise ImageherdError(
                f"{name}: {given} is not a safetensors file; give one after the @."
            )
        return path, None
    if not repo:
        raise ImageherdError(
            f"{name} has no weights on the Hugging Face hub; give a safetensors file: {name}@FILE"
        )
    path = hub_file(repo, filename)
    return path, path.parent.name


def preprocessing_of(
    name: str,
    *,
    size: Any,
    resize: int | None,
    mode: Mode,
    interpolation: str,
    mean: Any,
    std: Any,
) -> Preprocessing:
    """Build a `Preprocessing` from a library's numbers: means and deviations on the scale 0 to 1.

    Raises
    ------
    ImageherdError
        If the input is not square or the filter is not one of Pillow's.
    """
    sides = [size, size] if isinstance(size, int) else list(size)
    if len(sides) != 2 or sides[0] != sides[1]:
        raise ImageherdError(f"{name} takes images of {sides}; imageherd prepares square ones.")
    if interpolation not in INTERPOLATIONS:
        raise ImageherdError(f"{name} resizes by {interpolation!r}, which imageherd cannot.")
    mean, std = ([255 * float(number) for number in numbers] for numbers in (mean, std))
    return Preprocessing(
        size=int(sides[0]),
        resize=int(sides[0]) if resize is None else resize,
        mode=mode,
        interpolation=interpolation,
        mean=(mean[0], mean[1], mean[2]),
        std=(std[0], std[1], std[2]),
    )

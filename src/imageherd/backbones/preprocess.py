"""From a decoded image to the numbers a network wants."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imageherd.errors import ImageherdError

Mode = Literal["crop", "squash"]
MODES = ("crop", "squash")
INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

# Short sides that the long side of an image may measure before its ends are cut off.
LONGEST_SIDE = 16


@dataclass(frozen=True)
class Preprocessing:
    """Resize, centre crop, normalise: all that lies between an image and the network's input.

    Parameters
    ----------
    size : int
        Side of the square input in pixels.
    resize : int
        What the image is resized to before the crop, at least `size`: its short side for "crop",
        both sides for "squash".
    mode : {"crop", "squash"}, default="crop"
        "crop" keeps the proportions and loses the ends of a long image; "squash" keeps the whole
        image (where `resize` equals `size`) and loses its proportions.
    interpolation : {"nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"}
        Pillow's filter; all but "nearest" average over the source pixels when shrinking.
        Default "bicubic".
    mean, std : tuple of 3 floats
        Per channel, on the scale 0 to 255: the network gets ``(pixel - mean) / std``.

    Raises
    ------
    ImageherdError
        If a value is out of its range; the message names it.
    """

    size: int
    resize: int
    mode: Mode = "crop"
    interpolation: str = "bicubic"
    mean: tuple[float, float, float] = (127.5, 127.5, 127.5)
    std: tuple[float, float, float] = (127.5, 127.5, 127.5)

    def __post_init__(self) -> None:
        for name in ("size", "resize"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise _error(name, value, "a whole number of pixels, 1 or more")
        if self.resize < self.size:
            raise _error("resize", self.resize, f"at least the input size, {self.size}")
        for name, choices in (("mode", MODES), ("interpolation", tuple(INTERPOLATIONS))):
            if getattr(self, name) not in choices:
                raise _error(name, getattr(self, name), f"one of {', '.join(choices)}")
        for name in ("mean", "std"):
            object.__setattr__(self, name, _three_floats(name, getattr(self, name)))
        if min(self.std) <= 0:
            raise _error("std", self.std, "above 0")

    def apply(self, image: Image.Image) -> NDArray[np.float32]:
        """Turn one image into one input.

        Parameters
        ----------
        image : PIL.Image.Image
            Mode RGB, any size.

        Returns
        -------
        ndarray of float32, shape (3, size, size)
        """
        if self.mode == "crop":
            image = _shorten(image)
        resized = image.resize(self._resized(*image.size), INTERPOLATIONS[self.interpolation])
        left, top = ((side - self.size) // 2 for side in resized.size)
        square = resized.crop((left, top, left + self.size, top + self.size))
        pixels = np.asarray(square).transpose(2, 0, 1).astype(np.float32, order="C")
        pixels -= np.array(self.mean, dtype=np.float32)[:, None, None]
        pixels /= np.array(self.std, dtype=np.float32)[:, None, None]
        return pixels

    def with_mode(self, mode: Mode | None) -> Preprocessing:
        """Return the same for another way of becoming square; None changes nothing.

        A squashed image is resized to the input's size, so that all of it is seen.
        """
        if mode in (None, self.mode):
            return self
        resize = self.size if mode == "squash" else self.resize
        return dataclasses.replace(self, mode=mode, resize=resize)

    def _resized(self, width: int, height: int) -> tuple[int, int]:
        if self.mode == "squash":
            return self.resize, self.resize
        short = min(width, height)
        return self.resize * width // short, self.resize * height // short

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain JSON values."""
        values = dataclasses.asdict(self)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocessing:
        """Read what `to_dict` wrote: all six fields, since a wrong default would go unseen.

        Raises
        ------
        ImageherdError
            If a field is missing, unknown or out of its range.
        """
        if not isinstance(values, Mapping):
            raise ImageherdError("Preprocessing must be an object with named fields.")
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ImageherdError(
                f"Preprocessing has unknown fields: {', '.join(unknown)}. "
                f"Known are: {', '.join(sorted(known))}."
            )
        if missing := sorted(known - set(values)):
            raise ImageherdError(f"Preprocessing lacks {', '.join(missing)}.")
        return cls(**values)


def _shorten(image: Image.Image) -> Image.Image:
    """Cut the ends off a strip, which the centre crop would do after resizing it at great cost."""
    width, height = image.size
    longest = LONGEST_SIDE * min(width, height)
    if max(width, height) <= longest:
        return image
    left, top = max(0, width - longest) // 2, max(0, height - longest) // 2
    return image.crop((left, top, left + min(width, longest), top + min(height, longest)))


def _three_floats(name: str, values: Any) -> tuple[float, float, float]:
    try:
        red, green, blue = (float(value) for value in values)
    except (TypeError, ValueError):
        raise _error(name, values, "3 numbers on the scale 0 to 255") from None
    if not np.isfinite([red, green, blue]).all():
        raise _error(name, values, "3 finite numbers")
    return red, green, blue


def _error(name: str, value: Any, allowed: str) -> ImageherdError:
    return ImageherdError(f"Preprocessing {name}={value!r} is not possible: it must be {allowed}.")

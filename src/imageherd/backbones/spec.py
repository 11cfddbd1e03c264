"""The name of a backbone: a model, and what is done with it, in one line."""

from __future__ import annotations

from typing import NamedTuple

from imageherd.errors import ImageherdError

OUTPUTS = ("cls", "pooled", "mean-patch")
RUNTIMES = ("torch", "onnx", "onnx-int8")


class Spec(NamedTuple):
    """A backbone as asked for: ``dinov2-base,output=cls+mean-patch,runtime=onnx`` taken apart.

    Attributes
    ----------
    model : str
        A preset, hub name, folder, file, ``timm:NAME`` or ``open_clip:NAME/TAG``.
    output : str or None
        What stands for an image; None is the family's default.
    runtime : str
        What computes: "torch", "onnx" or "onnx-int8".
    """

    model: str
    output: str | None = None
    runtime: str = "torch"

    @property
    def name(self) -> str:
        """The same in one line, what is left at its default left out."""
        output = "" if self.output is None else f",output={self.output}"
        runtime = "" if self.runtime == "torch" else f",runtime={self.runtime}"
        return f"{self.model}{output}{runtime}"


def parse_spec(name: str, *, output: str | None = None, runtime: str | None = None) -> Spec:
    """Read a backbone's name.

    Parameters
    ----------
    name : str
        A model, alone or followed by ``,output=...`` and ``,runtime=...``.
    output, runtime : str, optional
        The same, said apart from the name.

    Raises
    ------
    ImageherdError
        If an output or runtime is not known, or the name and the argument say different things.
    """
    said = {"output": output, "runtime": runtime}
    model = name
    while True:
        before, _, last = model.rpartition(",")
        option, equals, value = last.partition("=")
        if not (before and equals and option in said):
            break
        if said[option] not in (None, value):
            raise ImageherdError(
                f"{name} says {option}={value}, but {option} {said[option]} was asked for; say one."
            )
        model, said[option] = before, value
    if said["output"] is not None:
        parse_output(said["output"])
    if said["runtime"] not in (None, *RUNTIMES):
        raise ImageherdError(
            f"The runtime {said['runtime']!r} is not known; choose {', '.join(RUNTIMES)}."
        )
    return Spec(model, said["output"], said["runtime"] or "torch")


def parse_output(text: str) -> tuple[str, ...]:
    """Split "cls+mean-patch" into its parts.

    Raises
    ------
    ImageherdError
        If a part is not known or named twice.
    """
    parts = tuple(text.split("+"))
    if unknown := [part for part in parts if part not in OUTPUTS]:
        raise ImageherdError(
            f"The output {unknown[0]!r} is not known; choose {', '.join(OUTPUTS)}, or several "
            "joined by +, such as cls+mean-patch."
        )
    if len(set(parts)) < len(parts):
        raise ImageherdError(f"The output {text!r} names a part twice.")
    return parts

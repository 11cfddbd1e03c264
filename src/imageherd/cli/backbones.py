"""``imageherd backbones``: what turns images into features, and how fast it is here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from imageherd.cli import checks, options
from imageherd.cli.screen import Screen
from imageherd.cli.session import running

if TYPE_CHECKING:
    from imageherd.backbones.presets import Preset

EXAMPLES = """\b
Examples:
  imageherd backbones
  imageherd backbones dinov2-base
  imageherd backbones --measure dinov2-small dinov2-small,runtime=onnx"""


def backbones(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...",
            help="Tell all that is known of these; with --measure any that --backbone takes.",
            show_default="all, in a table",
        ),
    ] = None,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure",
            help="Embed random pixels for a few seconds each, those named or else all that are on "
            "this machine, and remember how fast it went.",
        ),
    ] = False,
    device: options.Device = "auto",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """List what can turn images into features."""
    with running(as_json=as_json, quiet=quiet, debug=debug) as screen:
        checks.device_name(device)
        from imageherd.backbones.bundled import BUNDLED_NAME
        from imageherd.backbones.presets import PRESETS

        known = [BUNDLED_NAME, *_own(), *PRESETS]
        wanted = names or []
        if measure:
            _measure(screen, wanted or [name for name in known if _here(name)], device)
        else:
            wanted = [checks.one_of("The backbone", _short_name(name), known) for name in wanted]
        facts = [_facts(name) for name in wanted or known]
        if wanted and not measure:
            for fact in facts:
                if "family" in fact:
                    _tell(screen, fact)
                else:
                    screen.line(
                        f"{fact['name']}: a network of your own, made by {fact['method']}: "
                        f"{fact['dim']} numbers, input {fact['size']} x {fact['size']} pixels"
                    )
        else:
            _table(screen, facts)
        screen.result({"backbones": facts})


def _measure(screen: Screen, names: list[str], device: str) -> None:
    from imageherd.backbones.speed import measure
    from imageherd.progress import progress

    with progress("Measuring", len(names), "backbones") as advance:
        for name in names:
            speed = measure(name, device=device)
            advance(1)
            screen.remark(f"{name}: {_rate(speed)} images/s")


def _own() -> list[str]:
    """List the networks of `imageherd pretrain` that have a name."""
    from imageherd.pretraining.places import networks_dir

    if not networks_dir().is_dir():
        return []
    # Imports torch, which takes seconds.
    from imageherd.backbones.own import own_names

    return own_names()


def _own_facts(name: str) -> dict[str, Any]:
    from imageherd.files import read_json
    from imageherd.pretraining.places import networks_dir
    from imageherd.pretraining.saving import CONFIG, WEIGHTS

    folder = networks_dir() / name
    config = read_json(folder / CONFIG)
    return {
        **{key: config[key] for key in ("dim", "method", "preprocessing")},
        "size": config["preprocessing"]["size"],
        "megabytes": round((folder / WEIGHTS).stat().st_size / 1e6),
        **{"here": True, "licence": "yours"},
    }


def _here(name: str) -> bool:
    """Whether a backbone is on this machine."""
    from imageherd.backbones.hub import is_cached
    from imageherd.backbones.presets import PRESETS

    return name not in PRESETS or is_cached(PRESETS[name].repo)


def _facts(name: str) -> dict[str, Any]:
    """Collect what is known of a backbone without loading it; only its speed if it is no preset."""
    from imageherd.backbones import Preprocessing
    from imageherd.backbones.bundled import BUNDLED_FILE, BUNDLED_NAME, BUNDLED_PREPROCESSING
    from imageherd.backbones.presets import PRESETS
    from imageherd.backbones.processor_config import parse_preprocessing
    from imageherd.backbones.speed import measured

    facts: dict[str, Any] = {"name": name, "speed": measured(name)}
    preparing: Preprocessing
    if name == BUNDLED_NAME:
        preparing = BUNDLED_PREPROCESSING
        facts |= {
            **{"dim": 1280, "size": preparing.size, "licence": "apache-2.0"},
            **{"megabytes": round(BUNDLED_FILE.stat().st_size / 1e6), "here": True},
            **{"output": "pooled", "family": "efficientnet (ONNX)", "gated": False},
        }
    elif name in PRESETS:
        preset: Preset = PRESETS[name]
        preparing = parse_preprocessing(preset.processor)
        facts |= {key: value for key, value in preset._asdict().items() if key != "processor"}
        facts |= {"output": preset.output, "here": _here(name), "url": preset.url}
        facts |= {"config_url": preset.config_url}
    else:
        return facts | (_own_facts(name) if name in _own() else {})
    return facts | {"preprocessing": preparing.to_dict()}


def _table(screen: Screen, facts: list[dict[str, Any]]) -> None:
    columns = ("name", "numbers", "pixels", "MB", "here", "images/s", "licence")
    screen.table(
        columns,
        (
            (
                fact["name"],
                fact.get("dim", ""),
                fact.get("size", ""),
                f"{fact['megabytes']:,}" if "megabytes" in fact else "",
                ("yes" if fact["here"] else "ask" if fact["gated"] else "no")
                if "here" in fact
                else "",
                _rate(fact["speed"]["images_per_second"]) if fact["speed"] else "",
                _short(fact.get("licence", "")),
            )
            for fact in facts
        ),
        left=("name", "licence"),
    )
    screen.remark()
    screen.remark("All that is known of one, and where that is from: imageherd backbones NAME")


def _tell(screen: Screen, fact: dict[str, Any]) -> None:
    """Print all facts of one backbone, and where they are from."""
    how = fact["preprocessing"]
    mean, std = (", ".join(f"{number / 255:.4g}" for number in how[key]) for key in ("mean", "std"))
    becomes = "its short side" if how["mode"] == "crop" else "both sides, proportions lost,"
    crop = f", the middle {how['size']} of it" if how["size"] != how["resize"] else ""
    speed = fact["speed"]
    lines = {
        "model": fact.get("url", "comes with imageherd"),
        "family": fact["family"],
        "features": f"{fact['dim']:,} numbers, output {fact['output']}",
        "input": f"{how['size']} x {how['size']} pixels",
        "preparing": f"{becomes} to {how['resize']} ({how['interpolation']}){crop}; mean {mean}, "
        f"deviation {std} of pixels from 0 to 1",
        "as said in": fact.get("config_url"),
        "read from": fact.get("evidence"),
        "on disk": f"{fact['megabytes']:,} MB",
        "licence": fact["licence"],
        "here": "yes" if fact["here"] else "no; downloaded when first used",
        "speed": speed
        and f"{_rate(speed['images_per_second'])} images/s (--device {speed['device']}, "
        f"{speed['cores']} cores, {speed['date']})",
    }
    if fact["gated"]:
        lines["access"] = f"must be granted at {fact['url']}; then `hf auth login`"
    screen.line(fact["name"])
    for key, value in lines.items():
        if value:
            screen.line(f"  {key:<11}{value}")


def _short_name(name: str) -> str:
    """Return the short name of a preset that was given by its name on the hub."""
    from imageherd.backbones.presets import PRESETS

    return next((short for short, preset in PRESETS.items() if preset.repo == name), name)


def _short(licence: str) -> str:
    plain, more, _ = licence.partition(" (")
    return f"{plain} (*)" if more else plain


def _rate(speed: float) -> str:
    return f"{speed:,.0f}" if speed >= 10 else f"{speed:.1f}"

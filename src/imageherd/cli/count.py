"""``imageherd count``: how many clusters there are, and what says so."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imageherd.cli import checks, options
from imageherd.cli.screen import Screen, counted, shown
from imageherd.cli.session import running
from imageherd.errors import ImageherdError

if TYPE_CHECKING:
    from imageherd.clustering import Clustering
    from imageherd.counting import Count
    from imageherd.herd import Herd

EXAMPLES = """\b
Examples:
  imageherd count holiday.herd
  imageherd count holiday.herd --rule all --k-max 60 --figure how-many.png"""

ALL = "all"
_FORMATS = (".png", ".svg", ".pdf")
_WIDEST_BAR = 40
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def count(
    herd: options.HerdArgument,
    rule: Annotated[
        str | None,
        typer.Option(
            "--rule",
            metavar="NAME|all",
            help="Ask this rule only, or draw the curve of each; by default the curve of the one "
            "that --n-clusters auto goes by, and what the others say.",
            show_default=False,
        ),
    ] = None,
    k_min: Annotated[int, typer.Option("--k-min", metavar="N", help="The least number.")] = 2,
    k_max: Annotated[
        int | None,
        typer.Option(
            "--k-max",
            metavar="N",
            help="The greatest number.",
            show_default="30, or a 20th of the images if that is less",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            metavar="NAME",
            help="Count by the features that this clustering, made with --method cpp, has learnt.",
            show_default=False,
        ),
    ] = None,
    figure: Annotated[
        Path | None,
        typer.Option("--figure", metavar="FILE", help="Save the curves as .png, .svg or .pdf."),
    ] = None,
    seed: options.Seed = 0,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Say how many clusters there are, and by which rule.

    Nothing is trained and nothing is changed. Rules differ: take the answer for a start.
    """
    with running(as_json=as_json, quiet=quiet, debug=debug, herd=herd) as screen:
        checks.existing_herd(herd)
        if figure is not None and figure.suffix.lower() not in _FORMATS:
            raise ImageherdError(
                f"--figure {shown(figure)} does not say a format; end it in .png, .svg or .pdf."
            )
        if k_min < 2:
            raise ImageherdError(f"--k-min {k_min} is too few; give at least 2.")
        if k_max is not None and k_max < k_min:
            raise ImageherdError(
                f"--k-max {k_max} is less than --k-min {k_min}; give a greater one."
            )

        from imageherd.herd import Herd

        if name is not None:
            counts = {"coding-length": _by_clustering(Herd(herd), name, rule, k_min, k_max)}
            drawn = list(counts)
        else:
            counts, drawn = _by_features(Herd(herd), rule, k_min, k_max, seed)
        chosen = counts[drawn[0]]
        screen.line(f"{chosen.reason}.")
        _remarks(screen, chosen, k_max)
        if len(chosen.ks) > 1:
            for which in drawn:
                _curve(screen, counts[which])
            if len(counts) > 1:
                _table(screen, counts)
        if figure is not None:
            _save(figure, [counts[which] for which in drawn])
            screen.remark()
            screen.line(shown(figure))
        screen.result(
            {
                "herd": herd,
                "n_clusters": chosen.n_clusters,
                "reason": chosen.reason,
                "compared": len(chosen.ks) > 1,
                "rules": {which: found.as_dict() for which, found in counts.items()},
                "figure": figure,
            }
        )


def why(clustering: Clustering) -> str | None:
    """Return why a clustering has as many clusters as it has, if they were counted for it."""
    reason: str | None = clustering.config.get("counted", {}).get("reason")
    return reason


def _by_features(
    herd: Herd, rule: str | None, k_min: int, k_max: int | None, seed: int
) -> tuple[dict[str, Count], list[str]]:
    """Return counts, and the rules whose curves are to be drawn: the one that decides first."""
    from imageherd.counting import DEFAULT_RULE, count_by_rules
    from imageherd.counting_rules import RULES

    asked = (DEFAULT_RULE, *(which for which in RULES if which != DEFAULT_RULE))
    if rule not in (None, ALL):
        asked = (checks.one_of("--rule", rule, [*asked, ALL]),)
    features = herd.features()
    least = max(k_min, 2)
    if len(features.rows) < least:
        n_images = counted(len(features.rows), "image")
        raise ImageherdError(f"{n_images} cannot make {least} clusters.")
    counts = count_by_rules(features.X, k_min, k_max, rules=asked, random_state=seed)
    if rule == ALL:
        return counts, list(asked)
    return counts, [asked[0]]


def _by_clustering(herd: Herd, name: str, rule: str | None, k_min: int, k_max: int | None) -> Count:
    if rule not in (None, "coding-length"):
        raise ImageherdError(
            f"--rule {rule} is of no use with --name: a CPP counts by its coding-length."
        )
    from imageherd.counting import count_by_head
    from imageherd.versions import versions_of

    head: Any = versions_of(herd.path, name).head(herd.clustering(name).version)
    if not hasattr(head, "coding_length_curve"):
        raise ImageherdError(
            f"Clustering {name!r} was not made with --method cpp, so it has learnt no features to "
            "count by; leave --name out."
        )
    return count_by_head(head, k_min, k_max)


def _remarks(screen: Screen, count: Count, k_max: int | None) -> None:
    if len(count.ks) > 1 and count.n_clusters == count.ks[-1]:
        screen.remark(f"That is the greatest number tried; try --k-max {2 * count.ks[-1]}.")


def _curve(screen: Screen, count: Count) -> None:
    """Draw a bar for each number; what is drawn is the distance from the worst score."""
    from imageherd.counting_rules import RULES, lowest

    sign = -1 if RULES[count.rule].read is lowest else 1
    flipped = [sign * score for score in count.scores]
    low, extent = min(flipped), max(flipped) - min(flipped)
    screen.remark()
    screen.table(
        ("clusters", count.rule, "", ""),
        (
            (k, f"{score:.3f}", _bar((height - low) / extent if extent else 1.0), _mark(k, count))
            for k, score, height in zip(count.ks, count.scores, flipped, strict=True)
        ),
        left=("",),
    )


def _mark(k: int, count: Count) -> str:
    if k == count.n_clusters:
        return "best"
    return "next" if count.runners_up and k == count.runners_up[0][0] else ""


def _bar(share: float) -> str:
    eighths = max(1, round(share * _WIDEST_BAR * 8))
    return (_EIGHTHS[8] * (eighths // 8) + _EIGHTHS[eighths % 8]).rstrip()


def _table(screen: Screen, counts: dict[str, Count]) -> None:
    screen.remark()
    screen.table(
        ("rule", "clusters", "runners-up"),
        (
            (which, found.n_clusters, ", ".join(str(k) for k, _ in found.runners_up))
            for which, found in counts.items()
        ),
        left=("rule", "runners-up"),
    )


def _save(path: Path, counts: list[Count]) -> None:
    from imageherd.files import write_atomically
    from imageherd.report.count_plot import count_figure

    figure: Any = count_figure(counts)
    suffix = path.suffix[1:].lower()
    write_atomically(path, lambda file: figure.savefig(file, format=suffix, dpi=150))

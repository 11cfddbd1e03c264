"""``imageherd evaluate``: how well a clustering agrees with labels."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Annotated

import typer

from imageherd.cli import checks, options
from imageherd.cli.screen import Screen, counted
from imageherd.cli.session import running
from imageherd.project import read_project

if TYPE_CHECKING:
    from imageherd.evaluation import Evaluation

EXAMPLES = """\b
Examples:
  imageherd evaluate holiday.herd --labels labels.csv
  imageherd evaluate holiday.herd --labels folder
  imageherd evaluate train.herd --labels column:label"""

# More columns than this are not readable as a matrix, whatever the terminal.
WIDEST = 20
LONGEST_NAME = 24


def evaluate(
    herd: options.HerdArgument,
    labels: Annotated[
        str,
        typer.Option(
            "--labels",
            metavar="CSV|folder|column:NAME",
            help="A CSV file with the columns path and label; the word folder if each image lies "
            "in a folder named after its class; or a column that came with them, such as label.",
        ),
    ],
    name: options.ClusteringName = "default",
    as_trained: options.AsTrained = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Compare a clustering with known labels.

    Prints ACC, NMI, ARI and AMI in percent, what can be said without labels, and the confusion
    matrix.
    """
    with running(as_json=as_json, quiet=quiet, debug=debug, herd=herd) as screen:
        checks.existing_herd(herd)

        from imageherd.herd import Herd
        from imageherd.sources import noun_of

        found = Herd(herd).evaluate(labels, name=name, as_trained=as_trained)
        noun = noun_of(read_project(herd)["sources"])
        screen.table(("score", "%"), ((key, f"{100 * s:.1f}") for key, s in found.scores.items()))
        _print_left_out(screen, found, noun)
        _print_measures(screen, found, noun)
        screen.line("")
        if len(found.clusters) <= _columns_that_fit(screen, found):
            _print_matrix(screen, found, noun)
        else:
            _print_lists(screen, found, noun)
        screen.result(
            {
                "herd": herd,
                "scores": found.scores,
                "neighbor_consistency": found.consistency,
                "entropies": found.entropies,
                "n_images": found.n_images,
                "n_unlabelled": found.n_unlabelled,
                "n_nowhere": found.n_nowhere,
                "classes": found.classes,
                "clusters": found.clusters,
                "confusion": found.confusion,
            }
        )


def _print_left_out(screen: Screen, found: Evaluation, noun: str) -> None:
    screen.remark(f"On {counted(found.n_images, noun)}.")
    if found.n_unlabelled:
        screen.remark(f"{counted(found.n_unlabelled, noun)} without a label left out.")
    if found.n_nowhere:
        screen.remark(f"{counted(found.n_nowhere, f'labelled {noun}')} that fit nowhere left out.")


def _print_measures(screen: Screen, found: Evaluation, noun: str) -> None:
    """Print neighbour consistency and entropies, each with a line that says what it means."""
    screen.line("")
    screen.table(
        ("neighbor consistency", "%"),
        ((f"of the {what}", f"{100 * share:.1f}") for what, share in found.consistency.items()),
        left=("neighbor consistency",),
    )
    _explain(
        screen,
        f"How many of the {noun}s nearest to one are in its cluster, or have its label. If the "
        "labels' figure is low, it is the features that do not tell these classes apart.",
    )
    screen.line("")
    screen.table(
        ("entropy", "nats"),
        (
            ("of the clusters", f"{found.entropies['clusters']:.2f}"),
            (f"of each {noun}'s cluster", f"{found.entropies['images']:.2f}"),
        ),
        left=("entropy",),
    )
    _explain(
        screen,
        f"The first is {found.entropies['most']:.2f} if all clusters are of one size, the second 0 "
        f"if the method is sure of every {noun}.",
    )


def _explain(screen: Screen, text: str) -> None:
    screen.remark(textwrap.fill(text, screen.out.width))


def _columns_that_fit(screen: Screen, found: Evaluation) -> int:
    cell = max(len(str(found.confusion.max())), len(str(len(found.clusters)))) + 2
    label = min(LONGEST_NAME, max(map(len, found.classes))) + 2
    return min(WIDEST, (screen.out.width - label) // cell)


def _print_matrix(screen: Screen, found: Evaluation, noun: str) -> None:
    """Print the matrix with numbered columns, and below it what the numbers stand for."""
    screen.line(f"{noun.capitalize()}s of each class (rows) in each cluster (columns):")
    columns = [str(j + 1) for j in range(len(found.clusters))]
    screen.table(
        ("class", *columns),
        (
            (_short(label), *(n or "·" for n in counts.tolist()))
            for label, counts in zip(found.classes, found.confusion, strict=True)
        ),
        left=("class",),
    )
    screen.line("")
    screen.table(("cluster", "name"), zip(columns, found.clusters, strict=True), left=("name",))


def _print_lists(screen: Screen, found: Evaluation, noun: str) -> None:
    """Print for each class where most of its images are: a matrix too wide, read row by row."""
    screen.line(f"Where the {noun}s of each class are, largest part first:")

    def parts(counts: list[int]) -> str:
        largest = sorted(range(len(counts)), key=lambda j: (-counts[j], j))[:3]
        shown = [f"{found.clusters[j]} {counts[j]:,}" for j in largest if counts[j]]
        rest = sum(counts) - sum(counts[j] for j in largest)
        return ", ".join(shown + ([f"elsewhere {rest:,}"] if rest else []))

    screen.table(
        ("class", f"{noun}s", "in clusters"),
        (
            (_short(label), f"{sum(counts):,}", parts(counts))
            for label, counts in zip(found.classes, found.confusion.tolist(), strict=True)
        ),
        left=("class", "in clusters"),
    )
    screen.remark("The whole matrix is in the output of --json.")


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_NAME else text[: LONGEST_NAME - 1] + "…"

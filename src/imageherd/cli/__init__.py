"""The command line: one file a verb, and what the verbs share."""

from __future__ import annotations

import json
import os
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from imageherd.cli import (
    assign,
    backbones,
    bench,
    cluster,
    count,
    embed,
    evaluate,
    export,
    merge,
    name,
    pretrain,
    pull,
    push,
    report,
    search,
    serve,
    sort,
    train_lsdc,
)

VERBS = {
    "sort": sort,
    "embed": embed,
    "count": count,
    "cluster": cluster,
    "merge": merge,
    "name": name,
    "report": report,
    "search": search,
    "serve": serve,
    "assign": assign,
    "evaluate": evaluate,
    "export": export,
    "push": push,
    "pull": pull,
    "bench": bench,
    "backbones": backbones,
    "pretrain": pretrain,
    "train-lsdc": train_lsdc,
}

# What typer itself raises for anything mistyped; it has no public name of its own there.
UsageError: Any = typer.BadParameter.__base__


class _Verbs(TyperGroup):
    """The verbs; with --json, what was mistyped is told as JSON too, like every other error."""

    def invoke(self, ctx: Any) -> Any:
        typed = [*ctx.args, *getattr(ctx, "_protected_args", [])]
        try:
            return super().invoke(ctx)
        except UsageError as error:
            if "--json" in typed:
                typer.echo(json.dumps({"error": error.format_message()}))
            raise


app = typer.Typer(
    cls=_Verbs,
    name="imageherd",
    help="From a folder of unlabelled images to counted, named, browsable groups.",
    epilog="Start with: imageherd sort PHOTOS\n\nEach verb explains itself: imageherd sort --help",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Plain help is narrower and calmer than boxes, and wraps well on a small terminal.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _verb, _module in VERBS.items():
    # Named alone, every verb but one lacks what it is about.
    _alone = _verb == "backbones"
    app.command(_verb, epilog=_module.EXAMPLES, no_args_is_help=not _alone)(
        getattr(_module, _verb.replace("-", "_"))
    )


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"imageherd {version('imageherd')}")
        raise typer.Exit


@app.callback()
def _global(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line and exit with its code.

    0: done. 1: a bug in imageherd. 2: something the user can put right. 3: done, but some runs of
    `bench` failed. 130, 143: stopped by Ctrl-C or SIGTERM. 141: the reader of the output went away.
    """
    # OpenMP's threads burn processor time while they wait for each other: on a machine that does
    # something else too, exact k-NN took twice as long that way. Read when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    app(prog_name="imageherd")

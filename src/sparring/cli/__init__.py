"""The verbs for the shell. No logic of its own: every command is one call of `sparring.api`.

The library is imported inside the commands: `--help` must not wait for torch.
"""

from __future__ import annotations

from typing import Annotated

import typer

from sparring.cli.data import check, prepare
from sparring.cli.exploring import directions, project
from sparring.cli.measuring import compare, evaluate, metrics
from sparring.cli.outcome import obey
from sparring.cli.recipes import recipes
from sparring.cli.sampling import export, generate
from sparring.cli.training import finetune, resume, train
from sparring.cli.translating import translate

app = typer.Typer(
    name="sparring",
    help="Train, sample and measure generative adversarial networks.",
    epilog="Exit codes: 0 done, 1 a defect of ours, 2 something you can mend (one line says what), 130 interrupted (state saved).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
VERBS = (
    train, resume, finetune, generate, translate, project, directions, evaluate, compare, export, metrics, recipes,
)  # fmt: skip
for verb in VERBS:
    app.command()(verb)

data_app = typer.Typer(help="Look at data sets and prepare them.", no_args_is_help=True)
for command in (check, prepare):
    data_app.command()(command)
app.add_typer(data_app, name="data")


def _version(wanted: bool) -> None:
    if wanted:
        from sparring import __version__

        print(__version__)
        raise typer.Exit


@app.callback()
def sparring(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Train, sample and measure generative adversarial networks."""


def main() -> None:
    """The entry point."""
    obey(app)


__all__ = ["app", "main"]

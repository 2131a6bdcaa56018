"""The command `tollbook`: each module of commands registers its own; nothing is decided here."""

import sys
from importlib import metadata
from typing import Annotated

import click
import typer

from infra.embedded.errors import StackError
from ingest.without_pandas import keep_out_pandas
from tollbook import (
    billing_commands,
    clock_commands,
    customer_commands,
    cut_commands,
    dead_letter_commands,
    event_commands,
    ingest_commands,
    key_commands,
    log_commands,
    meter_commands,
    quarantine_commands,
    replacement_commands,
    stack_commands,
    subscription_commands,
    usage_commands,
    wallet_commands,
)
from tollbook.bench import commands as bench_commands
from tollbook.demo import commands as demo_commands
from tollbook.drill import commands as drill_commands
from tollbook.metavars import name_values

_MODULES = [
    stack_commands,
    ingest_commands,
    meter_commands,
    usage_commands,
    event_commands,
    replacement_commands,
    dead_letter_commands,
    quarantine_commands,
    cut_commands,
    log_commands,
    key_commands,
    billing_commands,
    subscription_commands,
    customer_commands,
    clock_commands,
    wallet_commands,
    demo_commands,
    bench_commands,
    drill_commands,
]


def build() -> typer.Typer:
    """Return the command line with all its commands."""
    app = typer.Typer(
        name="tollbook",
        help="Usage metering and billing: exact quantities, versioned prices, balanced books.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
    )
    app.callback()(_options)
    for module in _MODULES:
        module.register(app)
    name_values(app)
    return app


def _print_version(asked: bool) -> None:
    if asked:
        print(f"tollbook {metadata.version('tollbook')}")
        raise typer.Exit


def _options(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    """Usage metering and billing: exact quantities, versioned prices, balanced books."""


def main() -> None:
    """Run one command; an expected error is one line and status 1, without a traceback."""
    keep_out_pandas()
    try:
        build()(prog_name="tollbook")
    except StackError as error:
        click.secho(f"tollbook: {error}", fg="red", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()

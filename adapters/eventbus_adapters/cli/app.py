"""The commands, put together."""

from __future__ import annotations

import typer

from eventbus_adapters.cli.db import db
from eventbus_adapters.cli.demo import demo
from eventbus_adapters.cli.publish import publish

app = typer.Typer(
    name="eventbus",
    help="An event bus that loses no failure: see it work, feed it, keep its tables.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(demo)
app.command()(publish)
app.add_typer(db)

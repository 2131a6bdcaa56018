"""Groups of commands that several modules add to, such as `tollbook usage`."""

import typer


def group(app: typer.Typer, name: str, about: str) -> typer.Typer:
    """Return the group of a name, made when it is first asked for."""
    for known in app.registered_groups:
        if known.name == name and known.typer_instance is not None:
            return known.typer_instance
    made = typer.Typer(name=name, help=about, no_args_is_help=True)
    app.add_typer(made, name=name)
    return made

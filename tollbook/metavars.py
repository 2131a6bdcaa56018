"""How the values of commands are called in their help: METER, FILE, NUMBER, in capitals."""

import inspect
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import typer
from typer.models import ArgumentInfo, OptionInfo, ParameterInfo

_BY_NAME = {
    "start": "INSTANT",
    "end": "INSTANT",
    "at": "INSTANT",
    "as_of": "DATE",
    "through": "DATE",
    "after": "POSITION",
    "period": "MONTH",
    "window": "SIZE",
    "time_zone": "ZONE",
    "group_by": "NAME",
    "where": "DIMENSION=VALUE",
    "event_type": "TYPE",
    "event_time": "TIME",
    "file_format": "FORMAT",
    "data_dir": "FOLDER",
}
"""Where neither the type nor the last word of the name says it."""


def name_values(app: typer.Typer) -> None:
    """Give every argument and option that takes a value a name in capitals, where it has none."""
    for callback in _callbacks(app):
        hints = get_type_hints(callback, include_extras=True)
        for name in inspect.signature(callback).parameters:
            if get_origin(hints[name]) is not Annotated:
                continue
            kind, *extras = get_args(hints[name])
            for info in extras:
                if isinstance(info, ParameterInfo) and info.metavar is None:
                    info.metavar = _metavar(name, _plain(kind), info)


def _callbacks(app: typer.Typer) -> Iterator[Callable[..., Any]]:
    for command in app.registered_commands:
        if command.callback is not None:
            yield command.callback
    for group in app.registered_groups:
        if group.typer_instance is not None:
            yield from _callbacks(group.typer_instance)


def _metavar(name: str, kind: Any, info: ParameterInfo) -> str | None:
    is_choice = isinstance(kind, type) and issubclass(kind, Enum)
    if kind is bool or (is_choice and isinstance(info, OptionInfo)):
        return None
    if name in _BY_NAME:
        return _BY_NAME[name]
    if isinstance(info, ArgumentInfo):
        return name.removesuffix("s").rpartition("_")[2].upper()
    if kind is int:
        return "NUMBER"
    if kind is Path:
        return "FILE"
    return name.rpartition("_")[2].upper()


def _plain(kind: Any) -> Any:
    """Return the type of one value: of `list[str] | None` it is str."""
    while get_origin(kind) in {list, Union, UnionType}:
        kind = next(each for each in get_args(kind) if each is not type(None))
    return kind

"""Forms with external data: each file becomes a temporary table of the query that it came with."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import Message

from infra.embedded.gateway.chdb_engine import EngineConnection, quote_name
from infra.embedded.gateway.errors import GatewayError
from infra.embedded.gateway.options import Options


@dataclass(slots=True)
class Form:
    """The parts of a multipart body."""

    values: dict[str, str] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)


def is_form(content_type: str) -> bool:
    """True where a body is a multipart form."""
    return content_type.lower().startswith("multipart/form-data")


def read_form(content_type: str, chunks: Iterator[bytes], bytes_max: int) -> Form:
    """Returns the form in a body.

    Raises:
        GatewayError: It is not a form, or larger than `bytes_max`.
    """
    head = Message()
    head["Content-Type"] = content_type
    boundary = head.get_boundary()
    if not boundary:
        raise _bad_form("it names no boundary")
    body = b"\r\n" + read_all(chunks, bytes_max)
    parts = body.split(b"\r\n--" + boundary.encode("latin-1"))
    if len(parts) < 2 or not parts[-1].startswith(b"--"):
        raise _bad_form("it does not end with its boundary")
    form = Form()
    for part in parts[1:-1]:
        _add_part(form, part)
    return form


def read_all(chunks: Iterator[bytes], bytes_max: int) -> bytes:
    """Returns a whole body.

    Raises:
        GatewayError: It is larger than `bytes_max`.
    """
    body = bytearray()
    for chunk in chunks:
        body += chunk
        if len(body) > bytes_max:
            message = f"The body is larger than {bytes_max} bytes"
            raise GatewayError(229, "QUERY_IS_TOO_LARGE", message)
    return bytes(body)


def add_tables(connection: EngineConnection, form: Form, options: Options) -> list[str]:
    """Makes a temporary table of each file, and returns their names."""
    names: list[str] = []
    for name, data in form.files.items():
        data_format = options.settings.pop(f"{name}_format", "TabSeparated")
        types = options.settings.pop(f"{name}_types", "")
        structure = options.settings.pop(f"{name}_structure", "")
        if types and not structure:
            structure = ", ".join(f"_{i} {t}" for i, t in enumerate(_split_types(types), 1))
        if not structure:
            message = f"Neither structure nor types have been provided for external table {name}"
            raise GatewayError(36, "BAD_ARGUMENTS", message)
        table = quote_name(name)
        connection.execute(f"CREATE TEMPORARY TABLE {table} ({structure})")
        names.append(name)
        connection.insert(f"INSERT INTO {table} ".encode(), data_format, iter((data,)))
    return names


def _add_part(form: Form, part: bytes) -> None:
    head, gap, body = part.partition(b"\r\n\r\n")
    if not gap:
        raise _bad_form("a part has no header")
    message = Message()
    for line in head.decode("utf-8", errors="replace").split("\r\n"):
        key, _, text = line.partition(":")
        if key.strip():
            message[key.strip()] = text.strip()
    name = message.get_param("name", header="content-disposition")
    if not isinstance(name, str) or not name:
        raise _bad_form("a part has no name")
    if message.get_filename() is None:
        form.values[name] = body.decode("utf-8", errors="replace")
    else:
        form.files[name] = body


def _split_types(types: str) -> list[str]:
    """Splits at commas outside brackets: Decimal(10, 2) is one type."""
    found, depth, start = [], 0, 0
    for at, symbol in enumerate(types):
        depth += (symbol == "(") - (symbol == ")")
        if symbol == "," and depth == 0:
            found.append(types[start:at].strip())
            start = at + 1
    return [*found, types[start:].strip()]


def _bad_form(why: str) -> GatewayError:
    return GatewayError(36, "BAD_ARGUMENTS", f"The multipart form cannot be read: {why}")

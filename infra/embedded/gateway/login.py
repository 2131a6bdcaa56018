"""Who may ask: one user, one password, compared in constant time."""

import base64
import binascii
import hmac
from collections.abc import Mapping

from infra.embedded.gateway.errors import GatewayError
from infra.embedded.gateway.request import Request

USER = "owner"


def check_login(request: Request, password: str) -> None:
    """Passes when the request brings the owner's password, in any of ClickHouse's three ways.

    Raises:
        GatewayError: It does not (516); the answer never says which part was wrong.
    """
    user, given = _read_credentials(request)
    is_user = hmac.compare_digest(user.encode(), USER.encode())
    is_password = hmac.compare_digest(given.encode(), password.encode())
    if not (is_user and is_password):
        message = "Authentication failed: password is incorrect, or there is no user with such name"
        raise GatewayError(516, "AUTHENTICATION_FAILED", message)


def _read_credentials(request: Request) -> tuple[str, str]:
    headers, params = request.headers, request.params
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            text = base64.b64decode(token.strip(), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return "", ""
        user, _, password = text.partition(":")
        return user, password
    if scheme:
        return "", ""
    if "x-clickhouse-user" in headers or "x-clickhouse-key" in headers:
        return _header(headers, "x-clickhouse-user"), _header(headers, "x-clickhouse-key")
    return params.get("user", ""), params.get("password", "")


def _header(headers: Mapping[str, str], name: str) -> str:
    """Returns a header as UTF-8, which HTTP carries as if it were Latin-1."""
    return headers.get(name, "").encode("latin-1").decode(errors="replace")

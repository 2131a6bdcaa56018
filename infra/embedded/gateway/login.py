"""Who asks: the owner, by one password compared in constant time, or an analyst of one tenant."""

import base64
import binascii
import hmac
from collections.abc import Mapping
from dataclasses import dataclass

from infra.embedded.gateway.errors import GatewayError
from infra.embedded.gateway.postgres_keys import AnalystKeys
from infra.embedded.gateway.request import Request

OWNER = "owner"


@dataclass(frozen=True, slots=True)
class Logins:
    """Everybody who may ask; without keys only the owner."""

    password: str
    keys: AnalystKeys | None = None

    def tenant_of(self, request: Request) -> str | None:
        """Return the tenant whose analyst asks, or None where the owner does.

        The credentials come in any of ClickHouse's three ways.

        Raises:
            GatewayError: Nobody is known by them (516); the answer never says which part was wrong.
        """
        user, given = _read_credentials(request)
        is_user = hmac.compare_digest(user.encode(), OWNER.encode())
        is_password = hmac.compare_digest(given.encode(), self.password.encode())
        if is_user and is_password:
            return None
        tenant = None if self.keys is None or is_user else self.keys.tenant_of(user, given)
        if tenant is None:
            message = (
                "Authentication failed: password is incorrect, or there is no user with such name"
            )
            raise GatewayError(516, "AUTHENTICATION_FAILED", message)
        return tenant


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

"""`tollbook wallet`: credit that customers bought or were given, and what became of it."""

import getpass
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from pydantic import BaseModel, ValidationError

from infra.embedded.errors import StackError
from tollbook.command_group import group
from tollbook.screen import count_of, show
from tollbook.stack_file import DEFAULT_DATA_DIR, read_stack

if TYPE_CHECKING:
    from billing.postgres_facts import Connection
    from billing.postgres_wallets import WalletWriter

DataDir = Annotated[Path, typer.Option("--data-dir", help="The stack to work on.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Wallet = Annotated[str, typer.Argument(help="Key of a wallet.")]
GrantKey = Annotated[str, typer.Argument(help="Key of a grant; the same again is the same grant.")]
HoldKey = Annotated[str, typer.Argument(help="Key of a hold; the same again is the same hold.")]
Amount = Annotated[str, typer.Option(help="In the wallet's currency, such as 12.50.")]
Reason = Annotated[str, typer.Option(help="Why, for its history.")]
Expires = Annotated[
    str | None, typer.Option(help="The instant, or the customer's day, from which it is gone.")
]

_LISTED_MAX = 1_000_000
_Model = TypeVar("_Model", bound=BaseModel)


def register(app: typer.Typer) -> None:
    """Add these commands."""
    wallets = group(app, "wallet", "Wallets: credit that was bought or given, drawn by invoices.")
    for command in (create, show_one, grant, void, hold, settle, release, history, check):
        name = "show" if command is show_one else command.__name__
        wallets.command(name)(command)
    wallets.command("list")(list_all)
    wallets.command("top-up")(top_up)


def create(
    key: Wallet,
    customer: Annotated[str, typer.Option(help="Whose it is.")],
    currency: Annotated[str, typer.Option(help="It pays for invoices in this one.")],
    data_dir: DataDir = DEFAULT_DATA_DIR,
    *,
    below: Annotated[
        str | None, typer.Option(help="Ask for a top-up where less than this is available.")
    ] = None,
    by: Annotated[str | None, typer.Option(help="How much a top-up is of.")] = None,
    tax_at: Annotated[str, typer.Option(help="purchase or use: when tax is due.")] = "use",
    as_json: AsJson = False,
) -> None:
    """Make a wallet for a customer: one in each currency."""
    from billing.postgres_wallet_grants import create_wallet  # noqa: PLC0415
    from billing.wallet_terms import WalletTerms  # noqa: PLC0415
    from tollbook.wallet_tables import wallet_table  # noqa: PLC0415

    limits = {name: value for name, value in (("below", below), ("amount", by)) if value}
    given = {"key": key, "customer": customer, "currency": currency, "tax_at": tax_at}
    terms = _read(WalletTerms, given | ({"top_up": limits} if limits else {}))
    found = _write(data_dir, lambda writer: create_wallet(writer, terms))
    _print(found, wallet_table([found]), as_json=as_json)


def list_all(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    *,
    customer: Annotated[str | None, typer.Option(help="Only those of this customer.")] = None,
    as_json: AsJson = False,
) -> None:
    """List wallets with what is left, held, used and not invoiced yet, and available."""
    from billing.postgres_wallet_reports import list_wallets  # noqa: PLC0415
    from tollbook.wallet_tables import wallet_table  # noqa: PLC0415

    found = _ask(data_dir, lambda c, tenant: list_wallets(c, tenant, "", _LISTED_MAX, customer))
    _print(found, wallet_table(found) if found else "There are no such wallets.", as_json=as_json)


def show_one(key: Wallet, data_dir: DataDir = DEFAULT_DATA_DIR, *, as_json: AsJson = False) -> None:
    """Show a wallet, its grants, and the holds that are not on an invoice yet."""
    from billing import postgres_wallet_reports as reports  # noqa: PLC0415
    from tollbook import wallet_tables as tables  # noqa: PLC0415

    def read(connection: "Connection", tenant: str) -> dict[str, Any] | None:
        found = reports.find_wallet(connection, tenant, key)
        if found is None:
            return None
        holds = reports.list_holds(connection, tenant, key, "", _LISTED_MAX)
        return found | {
            "grants": reports.list_grants(connection, tenant, key, 0, _LISTED_MAX),
            "holds": [one for one in holds if one["state"] in ("open", "settled")],
        }

    found = _ask(data_dir, read)
    if found is None:
        raise StackError(f"there is no wallet {key}", "See `tollbook wallet list`.")
    if as_json:
        print(json.dumps(found))
        return
    show(tables.wallet_table([found]))
    for name, table in (("grants", tables.grant_table), ("holds", tables.hold_table)):
        if found[name]:
            show("", table(found[name]))


def history(key: Wallet, data_dir: DataDir = DEFAULT_DATA_DIR, *, as_json: AsJson = False) -> None:
    """Show every movement of a wallet: when, by whom, and for what."""
    from billing.postgres_wallet_reports import list_movements  # noqa: PLC0415
    from tollbook.wallet_tables import movement_table  # noqa: PLC0415

    found = _ask(data_dir, lambda c, tenant: list_movements(c, tenant, key, 0, _LISTED_MAX))
    _print(found, movement_table(found) if found else f"Nothing in {key} moved.", as_json=as_json)


def grant(
    wallet: Wallet,
    key: GrantKey,
    amount: Amount,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    *,
    payment: Annotated[str | None, typer.Option(help="Reference of what paid for it.")] = None,
    invoice: Annotated[str | None, typer.Option(help="Number of the invoice that sold it.")] = None,
    line: Annotated[int, typer.Option(help="Which line of it did.")] = 1,
    cost: Annotated[str | None, typer.Option(help="What was paid, where that is less.")] = None,
    priority: Annotated[int, typer.Option(help="From 0 to 100; the lowest is drawn first.")] = 50,
    since: Annotated[
        str | None, typer.Option("--from", help="Since when it pays, where not from now on.")
    ] = None,
    expires: Expires = None,
    charge: Annotated[list[str] | None, typer.Option(help="Pays for this charge.")] = None,
    product: Annotated[list[str] | None, typer.Option(help="Pays for this product.")] = None,
    meter: Annotated[list[str] | None, typer.Option(help="Pays for usage of this meter.")] = None,
    reason: Reason = "granted",
    as_json: AsJson = False,
) -> None:
    """Put credit into a wallet: bought, where --payment or --invoice says how, else given."""
    from billing.postgres_wallet_grants import grant as write  # noqa: PLC0415
    from billing.wallet_terms import GrantTerms  # noqa: PLC0415

    given: dict[str, Any] = {
        "key": key, "amount": amount, "cost": cost, "priority": priority, "reason": reason,
        "kind": "prepaid" if payment or invoice else "promotional", "payment": payment,
        "paid_by": None if invoice is None else {"invoice": invoice, "line": line},
        "effective_at": since, "expires_at": expires,
        "scope": {"charges": charge or [], "products": product or [], "meters": meter or []},
    }  # fmt: skip
    terms = _read(GrantTerms, given)
    _print_grant(_write(data_dir, lambda writer: write(writer, wallet, terms)), as_json=as_json)


def top_up(
    wallet: Wallet,
    payment: Annotated[str, typer.Option(help="Reference of what paid for it.")],
    data_dir: DataDir = DEFAULT_DATA_DIR,
    *,
    as_json: AsJson = False,
) -> None:
    """Grant the top-up that a wallet asks for, now that it is paid."""
    from billing.postgres_wallet_grants import top_up as write  # noqa: PLC0415

    _print_grant(_write(data_dir, lambda writer: write(writer, wallet, payment)), as_json=as_json)


def void(
    wallet: Wallet,
    key: GrantKey,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    *,
    reason: Reason = "voided",
    as_json: AsJson = False,
) -> None:
    """Take back what is left of a grant; what was paid for it goes back where it came from."""
    from billing.postgres_wallet_grants import void as write  # noqa: PLC0415

    found = _write(data_dir, lambda writer: write(writer, wallet, key, reason))
    _print_grant(found, as_json=as_json)


def hold(
    wallet: Wallet,
    key: HoldKey,
    amount: Amount,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    *,
    charge: Annotated[str | None, typer.Option(help="It is for this charge.")] = None,
    product: Annotated[str | None, typer.Option(help="It is for this product.")] = None,
    meter: Annotated[str | None, typer.Option(help="It is for usage of this meter.")] = None,
    expires: Expires = None,
    as_json: AsJson = False,
) -> None:
    """Reserve credit for a use that may come: all of it, or none and status 1."""
    from billing.postgres_wallet_holds import hold as write  # noqa: PLC0415
    from billing.wallet_terms import HoldTerms  # noqa: PLC0415

    given = {"key": key, "amount": amount, "charge": charge, "product": product, "meter": meter}
    terms = _read(HoldTerms, given | {"expires_at": expires})
    _print_hold(_write(data_dir, lambda writer: write(writer, wallet, terms)), as_json=as_json)


def settle(
    wallet: Wallet,
    key: HoldKey,
    amount: Amount,
    source: Annotated[str, typer.Option(help="Source of the events that used it.")],
    event: Annotated[list[str], typer.Option(help="Id of such an event; may be repeated.")],
    data_dir: DataDir = DEFAULT_DATA_DIR,
    *,
    as_json: AsJson = False,
) -> None:
    """Say what was used of a hold, and by which events; the rest of it is free again."""
    from billing.postgres_wallet_holds import settle as write  # noqa: PLC0415
    from billing.wallet_terms import Settlement  # noqa: PLC0415

    events = [{"source": source, "id": one} for one in event]
    terms = _read(Settlement, {"amount": amount, "events": events})
    _print_hold(_write(data_dir, lambda writer: write(writer, wallet, key, terms)), as_json=as_json)


def release(
    wallet: Wallet, key: HoldKey, data_dir: DataDir = DEFAULT_DATA_DIR, *, as_json: AsJson = False
) -> None:
    """Free what a hold reserves."""
    from billing.postgres_wallet_holds import release as write  # noqa: PLC0415

    _print_hold(_write(data_dir, lambda writer: write(writer, wallet, key)), as_json=as_json)


def check(data_dir: DataDir = DEFAULT_DATA_DIR, *, as_json: AsJson = False) -> None:
    """Compare all wallets with the books; status 1 where the two differ."""
    from billing.postgres_wallet_reports import reconcile  # noqa: PLC0415

    found = _ask(data_dir, reconcile)
    faults = found["faults"]
    text = f"Wallets and books agree on {count_of(len(found['accounts']), 'balance')}."
    _print(found, "\n".join(faults) or text, as_json=as_json)
    if faults:
        raise typer.Exit(1)


def _read(schema: type[_Model], given: dict[str, Any]) -> _Model:
    try:
        return schema.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(step) for step in first["loc"])
        text = str(first["msg"]).removeprefix("Value error, ")
        raise StackError(f"{where}: {text}" if where else text, "See its --help.") from error


def _ask(data_dir: Path, question: "Callable[[Connection, str], Any]") -> Any:
    from tollbook.billing_wiring import open_database  # noqa: PLC0415

    stack = read_stack(data_dir.resolve())
    with open_database(stack) as connection:
        return question(connection, stack.tenant)


def _write(data_dir: Path, verb: "Callable[[WalletWriter], dict[str, Any]]") -> dict[str, Any]:
    from billing.postgres_clock import read_clock  # noqa: PLC0415
    from billing.postgres_wallets import WalletWriter  # noqa: PLC0415
    from billing.wallet_terms import WalletError  # noqa: PLC0415

    def write(connection: "Connection", tenant: str) -> dict[str, Any]:
        at = read_clock(connection, tenant, datetime.now(UTC)).at
        return verb(WalletWriter(connection, tenant, getpass.getuser(), at))

    try:
        written: dict[str, Any] = _ask(data_dir, write)
    except (WalletError, LookupError) as error:
        raise StackError(str(error.args[0]), "See `tollbook wallet show WALLET`.") from error
    return written


def _print_grant(found: dict[str, Any], *, as_json: bool) -> None:
    from tollbook.wallet_tables import grant_table  # noqa: PLC0415

    _print(found, grant_table([found]), as_json=as_json)


def _print_hold(found: dict[str, Any], *, as_json: bool) -> None:
    from tollbook.wallet_tables import hold_table  # noqa: PLC0415

    _print(found, hold_table([found]), as_json=as_json)


def _print(found: Any, text: Any, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(found))
    else:
        show(text)

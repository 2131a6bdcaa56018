"""What is done to a subscription: each command writes terms, or shows what that would bill."""

import getpass
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from infra.embedded.errors import StackError
from tollbook.stack_file import DEFAULT_DATA_DIR, read_stack
from tollbook.subscription_shown import print_preview, print_subscription

if TYPE_CHECKING:
    from billing.postgres_verbs import Writer

DataDir = Annotated[Path, typer.Option("--data-dir", help="The stack to work on.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Key = Annotated[str, typer.Argument(help="Key of a subscription.")]
At = Annotated[str, typer.Option(help="now, period_end, or a day such as 2013-02-01.")]
Reason = Annotated[str, typer.Option(help="Why, for its history.")]
Version = Annotated[
    int | None, typer.Option("--version", help="Refuse, unless it is at this version.")
]

Preview = Annotated[
    bool, typer.Option("--preview", help="Change nothing: show what it would bill.")
]
Through = Annotated[
    str | None, typer.Option(help="With --preview: bill through this moment, else through now.")
]
Item = Annotated[str, typer.Option(help="Key of its item.")]


def register_verbs(subscriptions: typer.Typer) -> None:
    """Add these commands."""
    subscriptions.command("cancel")(cancel)
    subscriptions.command("undo-cancel")(undo_cancel)
    subscriptions.command("trial")(trial)
    subscriptions.command("seats")(seats)
    subscriptions.command("change")(change)
    subscriptions.command("pause")(pause)
    subscriptions.command("resume")(resume)


def cancel(
    key: Key,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    *,
    at: At = "period_end",
    no_credit: Annotated[
        bool,
        typer.Option("--no-credit", help="Let what was billed in advance for after it stay."),
    ] = False,
    reason: Reason = "asked for",
    version: Version = None,
    preview: Preview = False,
    through: Through = None,
    as_json: AsJson = False,
) -> None:
    """End a subscription now, at the end of its period or from a day on."""
    from billing import postgres_verbs as verbs  # noqa: PLC0415

    when = _when(at)
    asked = _Asked(data_dir, key, as_json, preview, through)
    asked.do(lambda w: verbs.cancel(w, key, when, reason, version, credit=not no_credit))


def undo_cancel(
    key: Key,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    *,
    reason: Reason = "asked for",
    version: Version = None,
    preview: Preview = False,
    through: Through = None,
    as_json: AsJson = False,
) -> None:
    """Take back the planned end of a subscription."""
    from billing import postgres_verbs as verbs  # noqa: PLC0415

    asked = _Asked(data_dir, key, as_json, preview, through)
    asked.do(lambda w: verbs.undo_cancel(w, key, reason, version))


def trial(
    key: Key,
    ends: Annotated[str | None, typer.Option(help="now, or the first day after it.")] = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    *,
    payment_method: Annotated[
        bool, typer.Option("--payment-method", help="There is a payment method now.")
    ] = False,
    reason: Reason = "asked for",
    version: Version = None,
    preview: Preview = False,
    through: Through = None,
    as_json: AsJson = False,
) -> None:
    """Let a trial end on another day, or say that there is the payment method that it needs."""
    from billing import postgres_verbs as verbs  # noqa: PLC0415

    if ends is None and not payment_method:
        raise typer.BadParameter("say when it --ends, or that there is a --payment-method")
    when = None if ends is None else _when(ends)
    asked = _Asked(data_dir, key, as_json, preview, through)
    asked.do(
        lambda w: verbs.set_trial_end(w, key, when, reason, version, payment_method=payment_method)
    )


def seats(
    key: Key,
    item: Item,
    charge: Annotated[str, typer.Option(help="Key of the charge per seat.")],
    quantity: Annotated[str, typer.Option(help="How many seats.")],
    data_dir: DataDir = DEFAULT_DATA_DIR,
    *,
    at: At = "period_end",
    reason: Reason = "asked for",
    version: Version = None,
    preview: Preview = False,
    through: Through = None,
    as_json: AsJson = False,
) -> None:
    """Set how many seats there are from a day on, also one that is over."""
    from billing import postgres_verbs as verbs  # noqa: PLC0415

    when = _when(at)
    try:
        wanted = (item, charge, Decimal(quantity))
    except InvalidOperation as error:
        raise StackError(f"not a quantity: {quantity}", "Write it like 12.") from error
    asked = _Asked(data_dir, key, as_json, preview, through)
    asked.do(lambda w: verbs.set_seats(w, key, wanted, when, reason, version))


def change(
    key: Key,
    item: Item,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    *,
    to_book: Annotated[
        str | None, typer.Option(help="Price book of the item that replaces it.")
    ] = None,
    to_version: Annotated[
        str | None, typer.Option(help="Version that prices it: a number, or follow.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--as", help="Key of the new item; else that of its book.")
    ] = None,
    at: At = "period_end",
    reason: Reason = "asked for",
    version: Version = None,
    preview: Preview = False,
    through: Through = None,
    as_json: AsJson = False,
) -> None:
    """Up- or downgrade an item: another price book takes its place, or another version."""
    from billing import postgres_verbs as verbs  # noqa: PLC0415
    from billing.customer import Item as NewItem  # noqa: PLC0415

    when, pin = _when(at), _pin(to_version)
    asked = _Asked(data_dir, key, as_json, preview, through)
    if to_book is not None:
        new = NewItem(key=name or to_book, price_book=to_book, version=pin or "follow")
        asked.do(lambda w: verbs.change_item(w, key, item, new, when, reason, version))
    elif pin is not None:
        asked.do(lambda w: verbs.change_version(w, key, item, pin, when, reason, version))
    else:
        raise StackError("nothing to change to", "Give --to-book, --to-version or both.")


def pause(
    key: Key,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    *,
    at: At = "now",
    until: Annotated[
        str | None, typer.Option(help="Resume by itself on this day, such as 2013-02-01.")
    ] = None,
    reason: Reason = "asked for",
    version: Version = None,
    preview: Preview = False,
    through: Through = None,
    as_json: AsJson = False,
) -> None:
    """Let nothing be billed and no usage count, until it is resumed."""
    from billing import postgres_verbs as verbs  # noqa: PLC0415

    when, end = _when(at), None if until is None else _day(until)
    asked = _Asked(data_dir, key, as_json, preview, through)
    asked.do(lambda w: verbs.pause(w, key, when, end, reason, version))


def resume(
    key: Key,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    *,
    at: At = "now",
    reason: Reason = "asked for",
    version: Version = None,
    preview: Preview = False,
    through: Through = None,
    as_json: AsJson = False,
) -> None:
    """End a pause from a day on."""
    from billing import postgres_verbs as verbs  # noqa: PLC0415

    when = _when(at)
    asked = _Asked(data_dir, key, as_json, preview, through)
    asked.do(lambda w: verbs.resume(w, key, when, reason, version))


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a command was asked, other than what to do."""

    data_dir: Path
    key: str
    as_json: bool
    preview: bool
    through: str | None

    def do(self, verb: "Callable[[Writer], dict[str, Any]]") -> None:
        """Do it, or show what it would bill; prints what came of it."""
        from billing.postgres_preview import preview  # noqa: PLC0415
        from billing.postgres_subscriptions import StaleVersionError  # noqa: PLC0415
        from billing.postgres_verbs import Writer  # noqa: PLC0415
        from billing.verbs import VerbError  # noqa: PLC0415
        from tollbook import billing_wiring as wiring  # noqa: PLC0415

        if self.through is not None and not self.preview:
            raise StackError("--through is for --preview", "Give both, or neither.")
        through = None if self.through is None else wiring.read_moment(self.through)
        stack = read_stack(self.data_dir.resolve())
        with wiring.open_database(stack) as connection:
            writer = Writer(connection, stack.tenant, getpass.getuser(), datetime.now(UTC))
            try:
                if self.preview:
                    usage = wiring.open_usage(stack)
                    found = preview(writer, usage, self.key, verb, through)
                    print_preview(found, as_json=self.as_json)
                else:
                    print_subscription(verb(writer), as_json=self.as_json)
            except (VerbError, LookupError, StaleVersionError) as error:
                hint = "See `tollbook subscription show KEY`."
                raise StackError(str(error.args[0]), hint) from error


def _pin(text: str | None) -> Literal["follow"] | int | None:
    if text is None or text == "follow":
        return None if text is None else "follow"
    if text.isdecimal() and len(text) < _VERSION_DIGITS_MAX:
        return int(text)
    raise StackError(f"not a version: {text}", "Write a number such as 2, or follow.")


_VERSION_DIGITS_MAX = 10


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise StackError(f"not a day: {text}", "Write it like 2013-02-01.") from error


def _when(text: str) -> date | str:
    if text in ("now", "period_end"):
        return text
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise StackError(f"not a day: {text}", "Write now, period_end or 2013-02-01.") from error

"""The journal entries of wallets, other than those of documents that draw from them.

What was paid for credit is owed to the customer until it is used, expires or is taken back. What
was given moves nothing before it is used.
"""

from datetime import date

from billing.ledger import Entry, Posting
from billing.wallet import Movement


def grant_entry(
    *,
    wallet: str,
    number: int,
    cost_minor: int,
    funding: str,
    on: date,
    whose: tuple[str, str, str],
) -> Entry:
    """Return the entry of bought credit: `funding` is the account that what was paid is on.

    `whose` is legal entity, customer and currency.
    """
    return Entry(
        f"grant:{wallet}:{number}",
        "grant",
        on,
        f"credit {number} of wallet {wallet}",
        *whose,
        (Posting(funding, cost_minor), Posting("prepaid_credit", -cost_minor)),
    )


def end_entry(
    movement: Movement, *, wallet: str, sequence: int, account: str, on: date,
    whose: tuple[str, str, str],
) -> Entry | None:  # fmt: skip
    """Return the entry of credit that expired or was taken back; None where nothing was owed.

    `account` is where what was owed goes: breakage, or what had paid for it.
    """
    if not movement.owed_minor:
        return None
    kind, verb = ("breakage", "expired") if movement.kind == "expire" else ("void", "voided")
    return Entry(
        f"{kind}:{wallet}:{sequence}",
        kind,
        on,
        f"credit {movement.number} of wallet {wallet} {verb}",
        *whose,
        (
            Posting("prepaid_credit", -movement.owed_minor),
            Posting(account, movement.owed_minor),
        ),
    )

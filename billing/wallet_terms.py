"""What is said of wallets by those who make, fill and use them: one schema for all ways in."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, Field, model_validator

from billing.charge import STRICT, Amount, Key
from billing.customer import Moment
from billing.money import minor_digits, to_minor
from billing.price_book import Currency
from billing.wallet import GrantKind, Scope, Use

Positive = Annotated[Amount, Field(gt=0)]
Instant = Annotated[AwareDatetime, AfterValidator(lambda at: at.astimezone(UTC))]
Reason = Annotated[str, Field(min_length=1, max_length=1024)]


class WalletError(Exception):
    """Something cannot be done to a wallet; says why."""


class NotEnoughCreditError(WalletError):
    """Less credit is available, or held, than is asked for."""

    def __init__(self, message: str, available_minor: int) -> None:
        super().__init__(message)
        self.available_minor = available_minor


class TopUp(BaseModel):
    """Below how much available credit how much more is asked for."""

    model_config = STRICT

    below: Positive
    amount: Positive


class WalletTerms(BaseModel):
    """A customer's wallet in one currency."""

    model_config = STRICT

    key: Key
    customer: Key
    currency: Currency
    tax_at: Literal["purchase", "use"] = "use"
    top_up: TopUp | None = None


class InvoiceLine(BaseModel):
    """A line of an issued invoice."""

    model_config = STRICT

    invoice: str = Field(min_length=1, max_length=128)
    line: int = Field(ge=1)


class GrantTerms(BaseModel):
    """Credit that was bought, and what paid for it, or that is given."""

    model_config = STRICT

    key: Key
    """Names it: granted again with the same key and terms, it is the same grant."""
    amount: Positive
    kind: GrantKind = "prepaid"
    cost: Positive | None = None
    """What was paid for it; the amount, where nothing else is said."""
    priority: int = Field(default=50, ge=0, le=100)
    effective_at: Moment | None = None
    """A day begins where the customer is; now, where nothing is said."""
    expires_at: Moment | None = None
    scope: Scope = Scope()
    payment: str | None = Field(default=None, min_length=1, max_length=256)
    paid_by: InvoiceLine | None = None
    reason: Reason = "granted"

    @model_validator(mode="after")
    def _is_paid_for(self) -> Self:
        paid = (self.payment is not None) + (self.paid_by is not None)
        if self.kind == "prepaid" and paid != 1:
            raise ValueError("prepaid credit names what paid for it: one of payment and paid_by")
        if self.kind == "promotional" and (paid or self.cost is not None):
            raise ValueError("promotional credit is given: it has no cost, payment or paid_by")
        if self.cost is not None and self.cost > self.amount:
            raise ValueError("credit costs no more than its amount")
        return self


class HoldTerms(BaseModel):
    """Credit to reserve for a use that may come."""

    model_config = STRICT

    key: Key
    amount: Positive
    charge: Key | None = None
    product: Key | None = None
    meter: Key | None = None
    expires_at: Moment | None = None

    def use_at(self, at: datetime) -> Use:
        """Return the use that it is for."""
        return Use(at, None, self.charge, self.product, self.meter)


class EventName(BaseModel):
    """An event by its identity."""

    model_config = STRICT

    source: str = Field(min_length=1, max_length=1024)
    id: str = Field(min_length=1, max_length=1024)


class Settlement(BaseModel):
    """What was used of a hold, when, and by which events."""

    model_config = STRICT

    amount: Annotated[Amount, Field(ge=0)]
    events: tuple[EventName, ...] = Field(min_length=1, max_length=10_000)
    used_at: Instant | None = None


def exact_minor(amount: Decimal, currency: str) -> int:
    """Return an amount in minor units; raises WalletError where it has decimals of less."""
    minor = to_minor(amount, currency)
    digits = minor_digits(currency)
    if Decimal(minor).scaleb(-digits) != amount:
        raise WalletError(f"{amount} {currency} has more than {digits} decimals")
    return minor

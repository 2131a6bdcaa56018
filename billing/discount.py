"""Discounts and coupons of a subscription's item: money, a percentage, or units that are free."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, model_validator

from billing.charge import STRICT, Amount, Key, Percent, Price
from billing.price_book import Date


class Discount(BaseModel):
    """Takes an amount, a percentage or units off charges: once, over n periods, or for ever.

    A period that has started counts, whether or not there was anything to take off. An amount over
    several charges is not supported: it names one.
    """

    model_config = STRICT

    key: Key
    percent: Annotated[Percent, Field(le=100)] | None = None
    amount: Price | None = None
    units: Annotated[Amount, Field(gt=0)] | None = None
    charges: tuple[Key, ...] = Field(default=(), max_length=1000)
    """All of the item's where none is named."""
    duration: Literal["once", "forever"] | Annotated[int, Field(ge=1, le=1200)] = "forever"
    """For how many of each charge's periods."""
    start: Date | None = Field(default=None, alias="from")
    """The first period it counts for is one that starts then or later."""
    end: Date | None = Field(default=None, alias="to")

    @model_validator(mode="after")
    def _is_one_thing(self) -> Self:
        given = [n for n in ("percent", "amount", "units") if getattr(self, n) is not None]
        if len(given) != 1:
            raise ValueError(f"discount {self.key}: give one of percent, amount and units")
        if self.percent is None and len(self.charges) != 1:
            raise ValueError(f"discount {self.key}: {given[0]} come off one charge: name it")
        return self

    @property
    def periods_max(self) -> int | None:
        """For how many periods it lasts; None is for ever."""
        if isinstance(self.duration, int):
            return self.duration
        return 1 if self.duration == "once" else None

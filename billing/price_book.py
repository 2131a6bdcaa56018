"""Price books: versioned sets of charges, immutable once published, known by their hash."""

import hashlib
import json
from collections import Counter
from datetime import date
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator

from billing.charge import STRICT, Charge, Key
from billing.money import Rounding, is_currency


def _known_currency(code: str) -> str:
    if not is_currency(code):
        raise ValueError(f"not a currency of ISO 4217: {code}")
    return code


def parse_date(value: object) -> object:
    """Return a date written as 2013-01-31, and nothing else that looks like one."""
    if isinstance(value, str):
        if len(value) != len("2013-01-31"):
            raise ValueError(f"not a date like 2013-01-31: {value}")
        return date.fromisoformat(value)
    return value


Currency = Annotated[str, AfterValidator(_known_currency)]
Date = Annotated[date, BeforeValidator(parse_date)]


class BookVersion(BaseModel):
    """A set of charges in force from a day on: local midnight of each customer."""

    model_config = STRICT

    version: int = Field(ge=1, le=1_000_000)
    effective_from: Date | None = None
    currency: Currency
    rounding: Rounding = "half_away"
    status: Literal["draft", "published"] = "published"
    """A draft prices nothing, and may change until it is published."""
    charges: tuple[Charge, ...] = Field(min_length=1, max_length=10_000)

    @model_validator(mode="after")
    def _has_each_charge_once(self) -> Self:
        for key, count in Counter(charge.key for charge in self.charges).items():
            if count > 1:
                raise ValueError(f"charge {key} is given {count} times")
        by_key = {charge.key: charge for charge in self.charges}
        for charge in self.charges:
            for name in charge.charges:
                if name not in by_key or by_key[name].model == "commitment":
                    what = "is a commitment too" if name in by_key else "is not in this version"
                    raise ValueError(f"charge {charge.key} counts {name}, which {what}")
        return self

    @property
    def is_draft(self) -> bool:
        """True where it prices nothing yet."""
        return self.status == "draft"

    def charge(self, key: str) -> Charge | None:
        """Return the charge of a key, or None where this version has none."""
        return next((charge for charge in self.charges if charge.key == key), None)


class PriceBook(BaseModel):
    """A price book and those of its versions that are known."""

    model_config = STRICT

    key: Key
    versions: tuple[BookVersion, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _keeps_what_lasts(self) -> Self:
        self.check()
        return self

    def check(self) -> None:
        """Raise ValueError where the versions do not make one book."""
        ordered = sorted(self.versions, key=lambda version: version.version)
        for before, after in pairwise(ordered):
            if before.version == after.version:
                raise ValueError(f"price book {self.key}: version {after.version} is given twice")
            if after.effective_from is None or (
                before.effective_from is not None and after.effective_from <= before.effective_from
            ):
                raise ValueError(
                    f"price book {self.key}: version {after.version} must take effect after"
                    f" version {before.version}"
                )
        lasting: dict[str, tuple[object, ...]] = {}
        for version in ordered:
            for charge in version.charges:
                if lasting.setdefault(charge.key, charge.lasting) != charge.lasting:
                    raise ValueError(
                        f"price book {self.key}: charge {charge.key} of version {version.version}"
                        " changes its cadence, timing, meter, dimensions or on_change;"
                        " give the new charge a key of its own"
                    )


def to_content(model: BaseModel) -> dict[str, Any]:
    """Return a declared thing as JSON-ready fields, decimals as text, defaults left out.

    So what is declared keeps its hash when the schema gains a field.
    """
    return model.model_dump(mode="json", by_alias=True, exclude_defaults=True)


def content_hash(content: object) -> bytes:
    """Return the SHA-256 of content in one canonical JSON form."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).digest()

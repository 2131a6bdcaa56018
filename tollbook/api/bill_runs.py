"""`/v1/bill-runs`: what the commands `bill` and `close` do, over HTTP."""

from collections.abc import Callable, Iterator
from typing import Annotated, Any, Self

from fastapi import APIRouter, Depends
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from billing import postgres_reports as reports
from billing.customer import parse_moment
from billing.period import month_of
from infra.embedded.errors import StackError
from tollbook.api.asked import Asked
from tollbook.api.declared import answer
from tollbook.api.paging import Paged
from tollbook.api.problem import problem
from tollbook.bill_runs import bill_through, close_month
from tollbook.stack_file import Stack


class BillRun(BaseModel):
    """What to bill: all that is due through a moment, or a month to close."""

    model_config = ConfigDict(extra="forbid")

    through: str | None = Field(default=None, max_length=64, examples=["2013-02-01"])
    period: str | None = Field(default=None, max_length=7, examples=["2013-01"])
    lock: bool = False

    @model_validator(mode="after")
    def _is_one_of_them(self) -> Self:
        if (self.through is None) == (self.period is None):
            raise ValueError("give either through, or period")
        if self.through is not None:
            parse_moment(self.through)
        if self.period is not None:
            month_of(self.period)
        elif self.lock:
            raise ValueError("only a period can be locked")
        return self


def add_bill_runs(
    router: APIRouter, asker: Callable[..., Iterator[Asked]], stack_of: Callable[[str], Stack]
) -> None:
    """Add the routes; `stack_of` gives the servers that a tenant's usage is read from."""

    @router.get("/bill-runs", tags=["invoices"])
    def list_bill_runs(
        asked: Annotated[Asked, Depends(asker)],
        paging: Paged,
    ) -> dict[str, Any]:
        """List bill runs, the first first."""
        return paging.page(
            reports.bill_runs(asked.connection, asked.tenant, paging.after(int) or 0, paging.fetch),
            "id",
        )

    @router.post("/bill-runs", tags=["invoices"], status_code=201, responses={409: {}})
    def run(asked: Annotated[Asked, Depends(asker)], wanted: BillRun) -> Any:
        """Run to the end and return what was issued; running it again bills nothing twice."""
        stack = stack_of(asked.tenant)

        def carry_out() -> Response:
            try:
                if wanted.period is not None:
                    month = month_of(wanted.period)
                    return answer(close_month(stack, month, _silent, lock=wanted.lock), 201)
                through = parse_moment(wanted.through or "")
                return answer(bill_through(stack, through, _silent), 201)
            except StackError as error:
                return problem(409, str(error))

        return asked.repeatable(carry_out)


def _silent(done: int, total: int) -> None:
    """Nobody watches."""
    del done, total

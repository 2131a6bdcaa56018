import duckdb
import pytest

from tollbook.demo.flights import open_flights
from tollbook.demo.requests import prepare_requests


@pytest.fixture(scope="package")
def tables() -> duckdb.DuckDBPyConnection:
    opened = open_flights()
    prepare_requests(opened)
    return opened

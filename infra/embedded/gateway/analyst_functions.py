"""Which functions a tenant's analysts may call: a list by name, so that a new one is closed."""

import json
from collections.abc import Iterable
from importlib import resources

from infra.analysts import SIZED_VIEWS

_SYNTAX = frozenset({"lambda", "exists", "grouping", "untuple", "columns", "nested"})
"""Names that the parser gives to syntax; they are no functions of the engine's list."""

_OF_THE_ANALYZER = frozenset(
    {
        *("_CAST", "__getScalar", "__scalarSubqueryResult", "__groupingOrdinary"),
        *("__groupingForRollup", "__groupingForCube", "__groupingForGroupingSets"),
        *("__bitBoolMaskAnd", "__bitBoolMaskOr", "__bitSwapLastTwo", "__bitWrapperFunc"),
        *("caseWithExpression", "indexHint", "__actionName"),
    }
)
"""What the engine itself puts into a resolved query."""

TABLE_FUNCTIONS = frozenset(
    {
        *("numbers", "numbers_mt", "zeros", "zeros_mt", "generateSeries", "generate_series"),
        *("values", *SIZED_VIEWS),
    }
)
"""Table functions that read nothing, or are views; all others are closed, `merge` among them."""

ENGINE_LIST = "SELECT name, alias_to, case_insensitive, is_aggregate FROM system.functions"
COMBINATOR_LIST = "SELECT name, '', 0, 0 FROM system.aggregate_function_combinators"


class Functions:
    """The allowed functions, under every name that the engine knows them by."""

    def __init__(self, listed: Iterable[str], combinators: Iterable[str]) -> None:
        """Take rows of `ENGINE_LIST` and `COMBINATOR_LIST`, each as a line of JSON."""
        allowed = _read_names()
        self._names: set[str] = set()
        self._folded: set[str] = set()
        self._aggregates: set[str] = set()
        for name, alias_to, is_folded, is_aggregate in map(json.loads, listed):
            if (alias_to or name) not in allowed:
                continue
            self._names.add(name)
            if is_folded:
                self._folded.add(name.lower())
            if is_aggregate:
                self._aggregates.add(name)
        self._combinators = tuple(json.loads(line)[0] for line in combinators)

    def may_call(self, name: str) -> bool:
        """Tell whether a query may name this function."""
        return self._is_known(name) or name.lower() in _SYNTAX or self._is_combined(name)

    def may_resolve(self, name: str) -> bool:
        """Tell whether the engine may have made this function of an allowed query."""
        return self.may_call(name) or name in _OF_THE_ANALYZER

    def _is_known(self, name: str) -> bool:
        return name in self._names or name.lower() in self._folded

    def _is_combined(self, name: str) -> bool:
        """Tell whether it is an aggregate with combinators behind: `sumIf`, `countDistinctIf`."""
        for combinator in self._combinators:
            rest = name.removesuffix(combinator)
            if rest != name and (rest in self._aggregates or self._is_combined(rest)):
                return True
        return False


def _read_names() -> frozenset[str]:
    text = resources.files("infra.embedded.gateway").joinpath("analyst_functions.txt").read_text()
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    return frozenset(name for line in lines for name in line.split())

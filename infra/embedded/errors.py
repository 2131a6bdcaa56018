"""The one error of the embedded stack that a person is meant to read."""


class StackError(Exception):
    """What is wrong, and what to do about it; shown without a traceback."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}. {remedy}")
        self.problem = problem
        self.remedy = remedy

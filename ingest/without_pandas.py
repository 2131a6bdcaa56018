"""Keeps pandas out of a process that converts nothing to it.

Arrow loads it at the first conversion of a list wherever it is installed: up to a second and 60 MB
in each process, for nothing that is used here.
"""

import sys


class _WithoutPandas:
    """Makes pandas look absent."""

    @staticmethod
    def find_spec(name: str, _path: object, _target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError("kept out: nothing here needs it", name=name)


def keep_out_pandas() -> None:
    """Make pandas look absent in this process, unless it is loaded already; for entry points."""
    sys.meta_path.insert(0, _WithoutPandas)

"""Runs queries as a user that an engine's own access control limits: one JSON list in, one out.

python -m tests.conformance.limited_engine DATA_DIR < queries.json
"""

import json
import sys
from pathlib import Path

import chdb


def main() -> None:
    folder = Path(sys.argv[1])
    connection = chdb.connect(f"{folder / 'engine'}?config-file={folder / 'limited.xml'}")
    answers = []
    for query in json.load(sys.stdin):
        try:
            answers.append(connection.query(query, "TSVRaw").bytes().decode())
        except RuntimeError as error:
            answers.append(f"refused: {error}")
    connection.close()
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()

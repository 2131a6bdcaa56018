"""Each rule refuses a bad sample and lets a good one pass: a check that cannot fail is a defect."""

from collections.abc import Callable

import pytest

from tests.tidy import documents, layering, shape
from tests.tidy.tree import File, Finding

# Written in halves, so that this file does not break the rules it tries.
NOTE = "# TO" + "DO: later"
REGISTRY = "https://py" + "pi.org/simple"
MACHINE = '"/ro' + 'ot/x"'

Rule = Callable[[File], list[Finding]]

BAD: list[tuple[Rule, str, str]] = [
    (layering.check_edges, "ingest/intake.py", "import confluent_kafka"),
    (layering.check_edges, "ingest/redis_cache.py", "from confluent_kafka import Producer"),
    (layering.check_edges, "billing/postgres_ledger.py", "import redis"),
    (layering.check_edges, "billing/run.py", "def f():\n    import psycopg"),
    (layering.check_edges, "pipelines/fold.py", "import duckdb"),
    (layering.check_purity, "pipelines/fold.py", "import os"),
    (layering.check_purity, "pipelines/fold.py", "from time import time"),
    (layering.check_purity, "pipelines/fold.py", "import random"),
    (layering.check_purity, "pipelines/fold.py", "from urllib.request import urlopen"),
    (layering.check_purity, "billing/run.py", "now = datetime.now(UTC)"),
    (layering.check_purity, "billing/run.py", "now = datetime.datetime.now()"),
    (layering.check_purity, "billing/run.py", "text = open('x').read()"),
    (layering.check_directions, "ingest/event.py", "from pipelines.meter import Meter"),
    (layering.check_directions, "pipelines/fold.py", "from ingest.limits import LIMITS"),
    (layering.check_directions, "pipelines/fold.py", "from ingest import limits"),
    (layering.check_directions, "pipelines/fold.py", "import billing"),
    (layering.check_directions, "billing/run.py", "from ingest.topic import TOPIC"),
    (layering.check_directions, "billing/run.py", "from pipelines.fold import fold"),
    (layering.check_directions, "billing/run.py", "from tollbook.cli import main"),
    (layering.check_directions, "infra/embedded/plan.py", "from tollbook.cli import main"),
    (shape.check_sizes, "billing/run.py", "def f():\n" + "    x = 1\n" * 70),
    (shape.check_sizes, "billing/run.py", "async def f():\n" + "    x = 1\n" * 70),
    (shape.check_sizes, "billing/run.py", "x = 1\n" * 501),
    (shape.check_sizes, "tests/test_x.py", "x = '" + "y" * 100 + "'"),
    (shape.check_names, "billing/utils.py", ""),
    (shape.check_names, "tests/helpers.py", ""),
    (shape.check_names, "billing/common/tax.py", ""),
    (shape.check_names, "pipelines/redis.py", ""),
    (shape.check_names, "ingest/psycopg.py", ""),
    (shape.check_docstrings, "billing/run.py", "x = 1"),
    (shape.check_words, "billing/run.py", NOTE),
    (shape.check_words, "pyproject.toml", f'index = "{REGISTRY}"'),
    (shape.check_words, "README.md", f"see {MACHINE}"),
]

GOOD: list[tuple[Rule, str, str]] = [
    (layering.check_edges, "ingest/kafka_producer.py", "from confluent_kafka import Producer"),
    (layering.check_edges, "pipelines/__main__.py", "import psycopg"),
    (layering.check_edges, "infra/provision/postgres_schema.py", "import psycopg"),
    (layering.check_purity, "pipelines/kafka_source.py", "import time"),
    (layering.check_purity, "ingest/head.py", "from urllib.parse import parse_qsl"),
    (layering.check_purity, "billing/period.py", "from datetime import time"),
    (layering.check_purity, "tollbook/cli.py", "import os"),
    (layering.check_directions, "pipelines/fold.py", "from ingest.topic import TOPIC"),
    (layering.check_directions, "billing/run.py", "from pipelines import usage"),
    (layering.check_directions, "tollbook/cli.py", "from billing.run import Run"),
    (shape.check_sizes, "billing/run.py", "def f():\n" + "    x = 1\n" * 69),
    (shape.check_names, "pipelines/redis_identities.py", ""),
    (shape.check_names, "tests/model/test_ledger.py", ""),
    (shape.check_docstrings, "billing/run.py", '"""What a run does."""'),
    (shape.check_words, "billing/run.py", "# Todos los santos: /v1/home/ and roots."),
]


@pytest.mark.parametrize(("rule", "path", "text"), BAD)
def test_a_bad_sample_is_refused(rule: Rule, path: str, text: str) -> None:
    assert rule(File(path, text))


@pytest.mark.parametrize(("rule", "path", "text"), GOOD)
def test_a_good_sample_passes(rule: Rule, path: str, text: str) -> None:
    assert rule(File(path, text)) == []


def test_a_folder_without_init_is_refused() -> None:
    names = ["tests/__init__.py", "tests/e2e/test_x.py"]
    assert [finding.path for finding in shape.check_packages(names)] == ["tests/e2e"]
    assert shape.check_packages([*names, "tests/e2e/__init__.py", "setup.py"]) == []


COMMANDS = {"up": ["--detach"], "invoice": [], "invoice list": [], "invoice show": ["--trace"]}


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("run `tollbook rise`", True),
        ("```sh\ntollbook up\ntollbook invoice draw X\n```", True),
        ("Run:\n\n    tollbook up\n\n    tollbook rise\n", True),
        ("run `tollbook up --trace`", True),
        ("run `tollbook invoice --trace`", True),
        ("run `tollbook up --detach`, then `tollbook invoice list`", False),
        ("Run:\n\n    tollbook invoice show X --trace | grep --color x # --or so\n", False),
        ("Tollbook rises; the command `.venv/bin/tollbook up X`", False),
    ],
)
def test_commands_in_documents_have_to_exist(text: str, *, refused: bool) -> None:
    assert bool(documents.check_commands(File("README.md", text), COMMANDS)) is refused


def test_targets_and_modules_in_documents_have_to_exist() -> None:
    file = File("README.md", "`make tea`, `make test`, `python -m infra.nothing`")
    assert [f.problem for f in documents.check_targets(file, ["test"])] == [
        "there is no target `make tea`"
    ]
    assert [f.problem for f in documents.check_modules(file)] == [
        "there is no module infra.nothing"
    ]
    assert documents.check_modules(File("README.md", "`python -m infra.embedded`")) == []


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("see `ingest/gone.py`", True),
        ("see `gone.md`", True),
        ("see [this](gone.md)", True),
        ("see `infra/*/gone.py`", True),
        ("see `docs/gone.md`", True),
        ("see [this](../gone/event.py)", True),
        ("see `ingest/event.py`, `event.py`, `ingest/`, `ingest/*.py`", False),
        ("see [this](ingest/event.py) and [that](https://example.org/x.md)", False),
        ("`GET /v1/events`, `a/b`, `.tollbook/stack.json`, `x.yaml`", False),
    ],
)
def test_paths_in_documents_have_to_exist(text: str, *, refused: bool) -> None:
    names = ["ingest/event.py", "README.md"]
    assert bool(documents.check_paths(File("README.md", text), names)) is refused


def test_a_package_without_a_page_and_a_page_too_long_are_refused() -> None:
    pages = [File(f"{name}/README.md", "x\n") for name in documents.FOLDERS_WITH_README]
    assert documents.check_readmes(pages) == []
    assert documents.check_readmes(pages[1:])
    assert documents.check_readmes([*pages[1:], File(pages[0].path, "x\n" * 61)])

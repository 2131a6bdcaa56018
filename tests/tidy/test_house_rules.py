"""The rules of the house hold for every file of the tree."""

from collections.abc import Callable, Iterable

import click
import pytest
import typer

from tests.tidy import documents, layering, shape
from tests.tidy.tree import ROOT, File, Finding, file_names, read_files
from tollbook import cli

MODULE_RULES: list[Callable[[File], list[Finding]]] = [
    layering.check_edges,
    layering.check_purity,
    layering.check_directions,
    shape.check_sizes,
    shape.check_names,
    shape.check_docstrings,
]


def _refuse(findings: Iterable[Finding]) -> None:
    told = "\n".join(str(finding) for finding in sorted(findings))
    assert not told, f"\n{told}"


@pytest.mark.parametrize("rule", MODULE_RULES, ids=lambda rule: rule.__name__)
def test_every_module_keeps(rule: Callable[[File], list[Finding]]) -> None:
    modules = read_files(".py")
    assert len(modules) > 50, "the rule has seen the modules"
    _refuse(finding for module in modules for finding in rule(module))


def test_every_folder_with_modules_is_a_package() -> None:
    _refuse(shape.check_packages(file_names()))


def test_no_file_has_notes_hosts_or_paths_of_a_machine() -> None:
    _refuse(finding for file in read_files() for finding in shape.check_words(file))


def test_documents_name_only_what_exists() -> None:
    commands, targets, names = _commands(), _targets(), file_names()
    found: list[Finding] = []
    for file in read_files(".md"):
        found += documents.check_commands(file, commands)
        found += documents.check_targets(file, targets)
        found += documents.check_modules(file)
        found += documents.check_paths(file, names)
    _refuse(found)


def test_every_package_has_a_page_about_itself() -> None:
    _refuse(documents.check_readmes(read_files(".md")))


def test_lock_files_name_versions_and_hashes_only() -> None:
    for name in ("requirements.lock", "requirements-tools.lock"):
        lines = (ROOT / name).read_text().splitlines()
        assert any("--hash=sha256:" in line for line in lines)
        assert not [line for line in lines if "://" in line]


def _commands() -> documents.Commands:
    found = {}
    for name, command in _below(typer.main.get_command(cli.build())):
        found[name] = _options_of(command)
        found |= {f"{name} {under}": _options_of(below) for under, below in _below(command)}
    return found


def _below(command: object) -> Iterable[tuple[str, click.Command]]:
    return getattr(command, "commands", {}).items()


def _options_of(command: click.Command) -> set[str]:
    return {"--help"}.union(*([*p.opts, *p.secondary_opts] for p in command.params))


def _targets() -> list[str]:
    lines = (ROOT / "Makefile").read_text().splitlines()
    return [line.partition(":")[0] for line in lines if line[:1].isalpha() and ": " in line]

"""`make setup` says what is wrong, and how to put it right, before it does anything."""

import ast
from pathlib import Path

import pytest

from infra import bootstrap


@pytest.mark.parametrize(
    ("machine", "named"),
    [
        (("Darwin", "arm64", ("", "")), "Darwin arm64"),
        (("Linux", "aarch64", ("glibc", "2.36")), "Linux aarch64"),
        (("Linux", "x86_64", ("glibc", "2.28")), "glibc 2.28"),
        (("Linux", "x86_64", ("", "")), "another C library"),
    ],
)
def test_other_machines_are_refused_by_name(
    machine: tuple[str, str, tuple[str, str]], named: str
) -> None:
    with pytest.raises(bootstrap.SetupError) as refusal:
        bootstrap.check_platform(*machine)
    assert named in str(refusal.value)
    assert "Debian 11" in str(refusal.value)


def test_fitting_machines_pass() -> None:
    for version in ("2.31", "2.36", "3.0"):
        bootstrap.check_platform("Linux", "x86_64", ("glibc", version))


def test_a_python_of_another_version_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\necho 3.13\n")
    old.chmod(0o755)
    monkeypatch.setenv("TOLLBOOK_PYTHON", str(old))
    with pytest.raises(bootstrap.SetupError) as refusal:
        bootstrap.find_python()
    assert "Python 3.11 or 3.12 is needed" in str(refusal.value)
    assert "PYTHON=" in str(refusal.value)


def test_a_python_without_venv_is_named_with_the_package_that_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crippled = tmp_path / "python3"
    crippled.write_text('#!/bin/sh\ncase "$*" in *ensurepip*) exit 1;; esac\necho 3.12\n')
    crippled.chmod(0o755)
    monkeypatch.setenv("TOLLBOOK_PYTHON", str(crippled))
    with pytest.raises(bootstrap.SetupError, match=r"apt install python3\.12-venv"):
        bootstrap.find_python()


def test_its_syntax_is_that_of_an_old_python() -> None:
    text = Path(bootstrap.__file__).read_text()
    ast.parse(text, feature_version=(3, 6))

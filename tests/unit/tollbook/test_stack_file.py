"""What a person is told to type can be typed, and a file that is not there has no line."""

from pathlib import Path

import pytest

from infra.embedded.errors import StackError
from tollbook.billing_wiring import read_files
from tollbook.stack_file import read_stack


def test_a_folder_with_a_space_is_quoted(tmp_path: Path) -> None:
    folder = tmp_path / "my data"
    with pytest.raises(StackError) as error:
        read_stack(folder)
    assert f"--data-dir '{folder}'`" in error.value.remedy


def test_a_file_that_is_not_there_has_no_line(tmp_path: Path) -> None:
    file = tmp_path / "nosuch.yaml"
    assert [str(one) for one in read_files([file]).faults] == [f"{file}: No such file or directory"]

"""What a part's log says to a person."""

from pathlib import Path

from infra.embedded.alarms import AlarmLog


def test_the_last_note_stands_beside_alarms_until_another_process_begins(tmp_path: Path) -> None:
    path = tmp_path / "part.log"
    path.write_text("t part note: old\nt part alarm: mend it\nt part note: new: note\n")
    log = AlarmLog(path)
    assert log.read()
    assert (log.note, log.alarms) == ("new: note", ["mend it"])
    assert not log.read()
    with path.open("a") as file:
        file.write("t part alarms end\n")
    assert log.read()
    assert (log.note, log.alarms) == ("new: note", [])
    log.skip()
    assert not log.read()
    assert log.note == ""

"""What joining segments to objects takes, from the shell."""

import json

SMALL = ("bench", "resolve", "--segments", 36 * 25)


def test_a_row_for_machines_has_what_was_joined_and_what_it_took(command) -> None:
    """25 tiles of 36 segments become fewer objects; a process holds more than 10 MB."""
    result = command(*SMALL, "--json")
    assert result.exit_code == 0
    row = json.loads(result.stdout)
    assert row["segments"] == 900
    assert 36 < row["objects"] < 900
    assert row["borders"] > 0
    assert row["peak"] > 10e6


def test_people_read_a_line(command) -> None:
    """The same set is drawn whenever it is asked for."""
    result = command(*SMALL)
    assert result.stdout.startswith("900 segments, 989 pairs, ")
    assert " GB" in result.stdout

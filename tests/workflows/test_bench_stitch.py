"""The table of stitching rules, from the shell."""

import json


def test_each_row_is_a_line_for_machines(command) -> None:
    """A rule at an overlap; what is being done goes to stderr."""
    rules = ("--rule", "paste", "--rule", "stitched")
    result = command("bench", "stitch", "--side", 768, "--overlap", 0, "--overlap", "50%", *rules, "--json")
    assert result.exit_code == 0
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(row["overlap"], row["rule"]) for row in rows] == [
        (0, "paste"),
        (0, "stitched"),
        (256, "paste"),
        (256, "stitched"),
    ]
    assert all(0 < row["mean"]["pq"] <= 100 for row in rows)
    assert "seed 0, overlap 256, stitched: PQ" in result.stderr


def test_a_rule_that_does_not_exist_is_refused(command) -> None:
    """Before anything is drawn."""
    result = command("bench", "stitch", "--rule", "glue")
    assert result.exit_code == 2
    assert "--rule glue: there is none; give paste" in result.stderr


def test_people_read_means(command) -> None:
    """One line per row."""
    result = command("bench", "stitch", "--side", "512", "--overlap", "0", "--rule", "paste")
    assert result.exit_code == 0
    assert result.stdout.startswith("overlap   0   paste")
    assert "PQ" in result.stdout

"""Options from a TOML file, and all options as one."""

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

NOT_SETTINGS = {"config", "print_config", "help"}
"""Options that a file cannot give."""


def use_config(ctx: click.Context, param: click.Parameter, path: str | None) -> None:
    """Take a file's values as the defaults of a command's options."""
    if path:
        ctx.default_map = read_settings(Path(path), ctx.command.params)


def read_settings(path: Path, params: Sequence[click.Parameter]) -> dict[str, Any]:
    """Values by parameter name, as text or flags.

    Raises:
        click.UsageError: No TOML, keys that are no options, or values of a kind that no option takes.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise click.UsageError(f"--config {path}: cannot be read as TOML ({error})") from error
    known = _known(params)
    unknown = [key for key in content if _plain(key) not in known]
    if unknown:
        raise click.UsageError(f"--config {path}: no such options: {', '.join(unknown)}; use the names of --help")
    return dict(_setting(path, key, value, *known[_plain(key)]) for key, value in content.items())


def to_toml(params: Sequence[click.Parameter], values: dict[str, Any]) -> str:
    """All options that have a value, as a file that --config reads."""
    options = [param for param in params if isinstance(param, click.Option) and param.name not in NOT_SETTINGS]
    lines = [
        f"{_spelling(option)} = {_literal(values[str(option.name)])}"
        for option in options
        if values.get(str(option.name)) is not None
    ]
    return "\n".join(lines)


def _known(params: Sequence[click.Parameter]) -> dict[str, tuple[click.Option, bool]]:
    """Options by every spelling, and whether the spelling means the flag's opposite."""
    options = [param for param in params if isinstance(param, click.Option) and param.name not in NOT_SETTINGS]
    return {
        _plain(spelling): (option, opposite)
        for option in options
        for spellings, opposite in ((option.opts, False), (option.secondary_opts, True))
        for spelling in spellings
        if spelling.startswith("--")
    }


def _plain(name: str) -> str:
    return name.removeprefix("--").replace("_", "-")


def _spelling(option: click.Option) -> str:
    return _plain(next(name for name in option.opts if name.startswith("--")))


def _setting(path: Path, key: str, value: Any, option: click.Option, opposite: bool) -> tuple[str, Any]:
    """The parameter's name, and the value as the command line would give it."""
    if option.is_flag != isinstance(value, bool):
        raise click.UsageError(f"--config {path}: {key}: {'give true or false' if option.is_flag else 'not a flag'}")
    if option.is_flag:
        return str(option.name), value != opposite
    return str(option.name), _text(path, key, value)


def _text(path: Path, key: str, value: Any) -> str:
    if isinstance(value, list):
        return ",".join(_text(path, key, item) for item in value)
    if not isinstance(value, str | int | float):
        raise click.UsageError(f"--config {path}: {key}: give text, a number or a list of them")
    # 8e9 is the usual way to write many bytes, and options of whole numbers take no point.
    return str(int(value)) if isinstance(value, float) and value.is_integer() and abs(value) >= 10 else str(value)


def _literal(value: Any) -> str:
    """A value as TOML; JSON's strings, numbers and booleans are TOML's."""
    if isinstance(value, tuple):
        return json.dumps("x".join(map(str, value)))
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    return json.dumps(getattr(value, "name", None) if hasattr(value, "read") else str(value), ensure_ascii=False)

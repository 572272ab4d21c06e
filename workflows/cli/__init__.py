"""The command `eomt-batch`: one module per command, each imported when it is asked for."""

from workflows.cli.main import main

__all__ = ["main"]

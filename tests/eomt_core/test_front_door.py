"""What the package offers, and what it costs to ask."""

import subprocess
import sys

import pytest

import eomt_core


def test_public_names():
    """The front door lists these names, and every one of them opens."""
    wanted = ["EoMT", "ModelError", "QueryMasks", "SpatialEoMT", "describe_model", "load_model", "save_model"]
    assert eomt_core.__all__ == wanted
    assert all(callable(getattr(eomt_core, name)) for name in wanted)
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = eomt_core.Nonsense


def test_light_parts_import_no_torch():
    """Errors can be caught and names listed in milliseconds, without torch."""
    code = "import eomt_core.errors, sys; dir(eomt_core); sys.exit('torch' in sys.modules or 'timm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""The server's own file at start."""

from __future__ import annotations

from pathlib import Path

import pytest

from dstack.errors import ConfigurationError
from dstack.server.services import backends_file


def test_the_first_start_writes_a_file_with_the_default_project(tmp_path: Path):
    assert backends_file.read(tmp_path, "main").projects[0].name == "main"  # type: ignore[index]
    assert (tmp_path / "config.yml").stat().st_mode & 0o777 == 0o600


def test_a_server_does_not_start_without_plugins_that_its_owner_relies_on(tmp_path: Path):
    (tmp_path / "config.yml").write_text("plugins: [rest_plugin]\n")
    with pytest.raises(ConfigurationError, match="plugins: not supported yet"):
        backends_file.read(tmp_path, "main")

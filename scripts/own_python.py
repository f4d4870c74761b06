"""Imported first by each script: has it run by the project's own Python, which is set up where it is not there yet."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_SET_UP = """
root=$1
shift
(cd "$root" && . scripts/environment.sh && require_python && prepare_environment dev) || exit 1
unset PYTHONPATH PYTHONHOME
exec "$root/.venv/bin/python" "$@"
"""

if Path(sys.prefix).resolve() != (ROOT / ".venv").resolve():
    os.execv("/bin/sh", ["sh", "-c", _SET_UP, "sh", str(ROOT), *sys.argv])

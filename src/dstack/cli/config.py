"""The CLI's configuration lives in `dstack.api.config`, where the server can reach it too."""

from dstack.api.config import ProjectEntry, default_path, load, save, with_default, with_entry

__all__ = ["ProjectEntry", "default_path", "load", "save", "with_default", "with_entry"]

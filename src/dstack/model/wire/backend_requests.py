"""Request bodies about backends; the configurations themselves are read strictly by the backends."""

from __future__ import annotations

from dstack.model.wire.requests import Body, Many


class DeleteBackends(Body):
    backends_names: Many[str]


class BackendYaml(Body):
    config_yaml: str

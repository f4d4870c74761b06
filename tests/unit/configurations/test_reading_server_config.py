"""The server's own file: what it may say, and that nothing secret in it is ever shown."""

import pytest

from dstack.errors import ConfigurationError
from dstack.model.configurations.server_config import DefaultPermissions, ServerConfig, read_server_config

KEY = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
FULL = f"""
projects:
  - name: main
    backends:
      - type: aws
        creds: {{type: access_key, access_key: AKIA, secret_key: hidden}}
        regions: [us-east-1]
      - type: kubernetes
        kubeconfig: {{filename: ~/.kube/config}}
        namespace: gpu
  - name: team_2
encryption:
  keys:
    - {{type: aes, name: k1, secret: {KEY}}}
    - type: identity
default_permissions:
  allow_non_admins_create_projects: false
plugins: [rest_plugin]
"""


def refusal(text):
    with pytest.raises(ConfigurationError) as refused:
        read_server_config(text, "c.yml")
    return refused.value


def test_a_file_in_full_is_understood():
    config = read_server_config(FULL, "c.yml")
    aws, kubernetes = config.projects[0].backends
    assert (aws.type, aws.creds.type, aws.settings) == ("aws", "access_key", {"regions": ["us-east-1"]})
    assert (kubernetes.creds, kubernetes.settings["namespace"]) == (None, "gpu")
    assert config.projects[1].backends is None
    assert [key.type for key in config.encryption.keys] == ["aes", "identity"]
    assert config.default_permissions == DefaultPermissions(allow_non_admins_create_projects=False)
    assert config.plugins == ("rest_plugin",)


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}"])
def test_an_empty_file_says_nothing(text):
    assert read_server_config(text, "c.yml") == ServerConfig()


def test_secrets_are_in_no_representation():
    shown = repr(read_server_config(FULL, "c.yml"))
    assert "hidden" not in shown
    assert KEY not in shown


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "c.yml:1:1: configuration: is a list at the top, expected a mapping of keys to values"),
        ("projets: []", "c.yml:1:1: projets: unknown key, expected one of `projects`, `encryption`"),
        ("projects: [{name: a b}]", "c.yml:1:19: projects[0].name: `a b` is not a name of a project"),
        ("projects: [{name: a}, {name: a}]", "c.yml:1:30: projects[1].name: `a` is given twice"),
        ("projects: [{name: a, backends: [{type: awz}]}]", "c.yml:1:40: projects[0].backends[0].type: `awz` is not a"),
        (
            "projects: [{name: a, backends: [{type: aws}, {type: aws}]}]",
            "c.yml:1:53: projects[0].backends[1].type: `aws` is given twice",
        ),
        ("encryption: {keys: [{}]}", "c.yml:1:21: encryption.keys[0]: has no `type`, expected `identity` or `aes`"),
        ("encryption: {keys: [{type: rsa}]}", "c.yml:1:28: encryption.keys[0].type: `rsa` is not legal, expected"),
        ("encryption: {keys: [{type: aes, name: k, secret: c2hvcnQ=}]}", "c.yml:1:50: encryption.keys[0].secret: is a"),
        ("encryption: {keys: [{type: aes, name: k, secret: '*'}]}", "c.yml:1:50: encryption.keys[0].secret: is not ba"),
        (f"encryption: {{keys: [{{type: aes, name: k, secret: {KEY}}}, {{type: aes, name: k, secret: {KEY}}}]}}",
         "c.yml:1:20: encryption.keys: have names that are used twice"),
        ("default_permissions: {allow_all: true}", "c.yml:1:23: default_permissions.allow_all: unknown key"),
        ("default_permissions: {allow_managers_manage_secrets: x}", "c.yml:1:54: default_permissions.allow_managers"),
        ("plugins: a", "c.yml:1:10: plugins: `a` is text, expected a list"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_refused_at_its_place(text, message):
    assert refusal(text).message.startswith(message)


@pytest.mark.parametrize(
    "text",
    [
        "encryption: {keys: [{type: aes, name: k, secret: hidden}]}",
        "encryption: {keys: [{type: aes, name: k, secret: [hidden]}]}",
        "projects: [{name: a, backends: [{type: aws, creds: hidden}]}]",
        "projects: [{name: a, backends: [{type: aws, creds: {type: [hidden]}}]}]",
    ],
)
def test_an_error_beside_a_secret_does_not_show_it(text):
    assert "hidden" not in str(refusal(text))

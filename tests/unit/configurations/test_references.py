"""References `${{ ... }}`: known ones are left for whoever fills them in, others are refused at their place."""

import pytest

from dstack.errors import ConfigurationError
from dstack.model.configurations.reading import parse

GROUPS = [{"nodes": 2, "commands": ["a ${{ groups[1].nodes[0].IP_ADDRESS }}"]}, {"commands": ["b"]}]


def task(**fields):
    return parse({"type": "task", "commands": ["a"], **fields}, "task")


@pytest.mark.parametrize(
    "fields",
    [
        {"commands": ["a ${{ run.args }}", "b ${VAR} $$ $${{ not.one }} {{ x }}"]},
        {"env": {"A": "${{ secrets.token }}"}},
        {"registry_auth": {"username": "${{ env.U }}", "password": "${{ secrets.p }}"}},
        {"volumes": ["data-${{ dstack.node_rank }}:/x", {"name": ["a-${{dstack.job_num}}"], "path": "/y"}]},
        {"commands": [], "groups": GROUPS},
    ],
)
def test_known_references_stay_as_they_are(fields):
    configuration = task(**fields)
    assert parse(configuration.model_dump(mode="json"), "") == configuration


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"commands": ["a", "${{ run.x }}"]}, "commands[1]: ${{ run.x }} is not known here, expected ${{ run.args }}"),
        (
            {"commands": ["a ${{ secrets.x }}"]},
            "commands[0]: ${{ secrets.x }} is not known here, expected ${{ run.args }}; give it to the run in `env`",
        ),
        ({"commands": ["a ${{ run.args"]}, "commands[0]: No pattern closing: ${{ run.args, expected ${{ run.args }}"),
        ({"commands": ["a ${{ 1.x }}"]}, "commands[0]: Illegal reference name: 1.x, expected ${{ run.args }}"),
        ({"env": {"A": "${{ secret.x }}"}}, "env.A: ${{ secret.x }} is not known here, expected ${{ secrets.NAME }}"),
        ({"env": {"A": "hush ${{"}}, "env.A: holds a reference that is not legal, expected ${{ secrets.NAME }}"),
        (
            {"registry_auth": {"username": "u", "password": "${{ a.b }}"}},
            "registry_auth.password: ${{ a.b }} is not known here, expected ${{ secrets.NAME }} or ${{ env.NAME }}",
        ),
        (
            {"volumes": ["v-${{ run.name }}:/x"]},
            "volumes[0]: ${{ run.name }} is not known here, expected ${{ dstack.node_rank }} or ${{ dstack.job_num }}",
        ),
        (
            {"commands": ["a ${{ groups[0].nodes[0].IP_ADDRESS }}"]},
            "commands[0]: ${{ groups[0].nodes[0].IP_ADDRESS }} is not known here, expected ${{ run.args }}",
        ),
    ],
)  # fmt: skip
def test_a_reference_that_nobody_fills_in_is_refused_at_its_place(fields, message):
    with pytest.raises(ConfigurationError) as refused:
        task(**fields)
    assert refused.value.message == f"task: {message}"


@pytest.mark.parametrize("reference", ["groups[2].nodes[0]", "groups[1].nodes[1]", "groups[0].replicas[0]"])
def test_a_reference_to_a_node_that_there_is_not_is_refused(reference):
    groups = [{"nodes": 2, "commands": [f"ping ${{{{ {reference}.IP_ADDRESS }}}}"]}, {"commands": ["b"]}]
    with pytest.raises(ConfigurationError, match=r"task: groups\[0\].commands\[0\]: .* is not known here"):
        task(commands=[], groups=groups)


def test_replicas_can_be_named_up_to_the_least_number_of_them():
    def service(reference):
        group = {
            "replicas": "1..2",
            "scaling": {"metric": "rps", "target": 1},
            "commands": [f"a ${{{{ {reference} }}}}"],
        }
        return parse({"type": "service", "port": 80, "groups": [group]}, "")

    service("groups[0].replicas[0].IP_ADDRESS")
    with pytest.raises(ConfigurationError, match="is not known here"):
        service("groups[0].replicas[1].IP_ADDRESS")


def test_a_value_beside_a_broken_reference_is_not_shown():
    with pytest.raises(ConfigurationError) as refused:
        task(env={"A": "hush ${{ x"})
    assert "hush" not in str(refused.value)

"""What happens to a configuration after it is read: environment, profile, and what cannot be executed yet."""

import pytest

from dstack.errors import ConfigurationError
from dstack.model.configurations.environment import resolve_env
from dstack.model.configurations.reading import parse
from dstack.model.configurations.support import notices, unsupported
from dstack.model.profile import Profile, SpotPolicy, merge


def task(**fields):
    return parse({"type": "task", "commands": ["true"], **fields}, "task")


def test_a_variable_without_value_comes_from_the_command_line_then_from_the_environment():
    configuration = task(env=["A", "B", "C=3"])
    resolved = resolve_env(configuration, {"A": "given"}, {"A": "env", "B": "env", "C": "env"})
    assert resolved.env == {"A": "given", "B": "env", "C": "3"}


def test_variables_of_the_command_line_are_added_and_win():
    assert resolve_env(task(env=["A=1"]), {"A": "2", "B": "3"}, {}).env == {"A": "2", "B": "3"}


def test_a_variable_that_is_set_nowhere_is_an_error_that_says_how_to_set_it():
    with pytest.raises(ConfigurationError) as refused:
        resolve_env(task(env=["HF_TOKEN"]), {}, {})
    assert refused.value.message == "Environment variable HF_TOKEN is not set"
    assert refused.value.hint == "`export HF_TOKEN=...`, or pass `-e HF_TOKEN=...`"


def test_all_variables_that_are_not_set_are_named():
    with pytest.raises(ConfigurationError, match="Environment variables A, B are not set"):
        resolve_env(task(env=["A", "B"]), {}, {})


def test_credentials_of_a_registry_take_variables_and_leave_secrets_to_the_server():
    auth = {"username": "${{ env.USER_NAME }}", "password": "${{ secrets.token }}-${{ env.HERE }}"}
    configuration = task(image="a", registry_auth=auth, env=["USER_NAME=me"])
    resolved = resolve_env(configuration, {}, {"HERE": "x"}).registry_auth
    assert (resolved.username, resolved.password) == ("me", "${{ secrets.token }}-x")


def test_a_variable_that_only_credentials_name_must_be_set_too():
    auth = {"username": "u", "password": "${{ env.TOKEN }}"}
    with pytest.raises(ConfigurationError, match="Environment variable TOKEN is not set"):
        resolve_env(task(image="a", registry_auth=auth), {}, {})


def test_what_nobody_wrote_stays_unwritten():
    assert resolve_env(task(), {}, {}).model_fields_set == {"type", "commands"}


def test_the_configuration_wins_over_the_profile_field_by_field():
    merged = merge(task(max_price=1), Profile(name="p", max_price=2.0, spot_policy=SpotPolicy.SPOT))
    assert (merged.name, merged.max_price, merged.spot_policy) == ("p", 1, SpotPolicy.SPOT)


def test_without_a_profile_the_configuration_stands():
    merged = merge(parse({"type": "fleet", "nodes": 1, "regions": ["eu"]}, ""), None)
    assert (merged.name, merged.regions, merged.max_duration) == ("", ("eu",), None)


@pytest.mark.parametrize(
    "fields",
    [
        {"volumes": [{"name": ["v", "w"], "path": "/x"}]},
        {"reservation": "r"},
    ],
)  # fmt: skip
def test_what_cannot_be_executed_yet_is_refused_by_the_name_of_its_field(fields):
    field = next(iter(fields))
    assert [line.split(":")[0] for line in unsupported(task(**fields))] == [field]


def test_a_profile_can_ask_for_what_cannot_be_executed_too():
    assert unsupported(Profile(reservation="r")) == ["reservation: reservations are not used yet"]


def test_what_a_run_can_do_without_is_only_noted():
    configuration = task(stop_criteria="all-done", nodes=1)
    assert unsupported(configuration) == []
    assert [line.split(":")[0] for line in notices(configuration)] == ["stop_criteria"]


def test_a_mount_by_name_is_told_to_be_a_folder_of_the_host():
    (line,) = notices(task(volumes=["cache:/cache", "/data:/data"]))
    assert line == "volumes: 'cache' is no volume of the project: each host keeps a folder of that name for later runs"


def test_what_is_executed_is_neither_refused_nor_noted():
    configuration = task(
        image="ubuntu", user="root", entrypoint="sh", shell="bash", working_dir="/w", home_dir="/h", setup=["a"],
        privileged=True, registry_auth={"username": "u", "password": "p"}, resources={"gpu": 1}, retry=True,
        max_duration="1h", stop_duration="1m", idle_duration="5m", max_price=1, spot_policy="auto",
        creation_policy="reuse", fleets=["f"], backends=["local"], regions=["r"], instance_types=["t"], priority=5,
        tags={"a": "b"}, files=["a"], env=["A=1"], schedule={"cron": "0 0 * * *"},
        instances=["i", {"hostname": "h"}, {"fleet": "f", "instance": 1}],
    )  # fmt: skip
    assert unsupported(configuration) == notices(configuration) == []

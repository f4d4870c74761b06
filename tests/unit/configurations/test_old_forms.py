"""Old forms are understood, and a line tells the present one."""

import pytest

from dstack.errors import ConfigurationError
from dstack.model.configurations.reading import read


def reading(lines):
    return read(f"type: task\ncommands: [a]\n{lines}\n", "t.yml")


@pytest.mark.parametrize(
    ("lines", "field", "value", "notice"),
    [
        ("repo: .", "repos", [{"local_path": "."}], "`repo` is an old form, write `repos: [.]`"),
        ("pool_name: p", "fleets", [{"name": "p"}], "`pool_name` is an old form, write `fleets: [p]`"),
        ("instance_name: i", "instances", [{"name": "i"}], "`instance_name` is an old form, write `instances: [i]`"),
        ("retry_policy: {retry: true, limit: 1h}", "retry", {"duration": 3600},
         "`retry_policy` is an old form, write `retry: {duration: 1h}`"),
        ("retry_policy: {retry: true}", "retry", True, "`retry_policy` is an old form, write `retry: true`"),
        ("retry_policy: {retry: false}", "retry", False, "`retry_policy` is an old form, write `retry: false`"),
        ("termination_policy: dont-destroy", "idle_duration", -1,
         "`termination_policy` is an old form, write `idle_duration: off`"),
        ("termination_idle_time: 10m", "idle_duration", 600,
         "`termination_idle_time` is an old form, write `idle_duration: 10m`"),
        ("home_dir: /home/me", "home_dir", "/home/me",
         "`home_dir` is an old form, which sets `HOME`; write `HOME=...` in `env`"),
        ("setup: [make]", "setup", ["make"],
         "`setup` is an old form, whose commands run first; write them first in `commands`"),
    ],
)  # fmt: skip
def test_an_old_form_becomes_the_present_one_with_a_notice_at_its_line(lines, field, value, notice):
    result = reading(lines)
    assert result.configuration.model_dump(mode="json", exclude_defaults=True)[field] == value
    assert result.notices == (f"t.yml:3:1: {notice}",)


def test_destroy_after_idle_takes_the_time_beside_it():
    result = reading("termination_policy: destroy-after-idle\ntermination_idle_time: 10m")
    assert result.configuration.idle_duration == 600
    assert len(result.notices) == 2


def test_destroy_after_idle_alone_is_the_default():
    assert reading("termination_policy: destroy-after-idle").configuration.idle_duration is None


def test_a_configuration_in_present_terms_has_no_notices():
    assert reading("idle_duration: 1h\nhome_dir: /root\nsetup: []").notices == ()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("retry_policy: {retry: true, limit: 1x}", "t.yml:3:15: retry_policy: `1x` is not a duration"),
        ("retry_policy: {limits: 1h}", "t.yml:3:24: retry_policy.limits: unknown key"),
        ("retry_policy: {retry: maybe}", "t.yml:3:23: retry_policy.retry: `maybe` is not `true` or `false`"),
        ("retry_policy: often", "t.yml:3:15: retry_policy: `often` is not legal, expected `retry` instead"),
        ("termination_policy: x", "t.yml:3:21: termination_policy: `x` is not legal, expected `idle_duration` instead"),
        ("termination_idle_time: x", "t.yml:3:24: termination_idle_time: `x` is not a duration"),
        ("pool_name: p\nfleets: [x]", "t.yml:3:12: pool_name: is the old form of `fleets`, which is given too"),
        ("pool_name: a/b/c", "t.yml:3:12: pool_name: `a/b/c` is not a reference"),
    ],
)
def test_an_error_in_an_old_form_is_told_of_the_key_that_was_written(lines, message):
    with pytest.raises(ConfigurationError) as refused:
        reading(lines)
    assert refused.value.message.startswith(message)

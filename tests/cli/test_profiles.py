"""Profiles: chosen by flag, by environment, by being the default, and never twice."""

from __future__ import annotations

import pytest

from support import wire_json as wire
from support.cli_process import Cli
from support.wire_server import WireServer

PROFILES = "profiles:\n- name: cheap\n  max_price: 1.5\n- name: usual\n  default: true\n  max_price: 9\n"


@pytest.fixture
def sent(cli: Cli, server: WireServer):
    """The profile that a command line sends."""
    cli.write(".dstack/profiles.yml", PROFILES)
    server.on("runs/get_plan", wire.run_plan())

    def ask(*flags: str, **env: str) -> dict | None:
        result = cli.run("plan", "-f", "task.dstack.yml", *flags, env=env)
        assert result.code == 0, result.err
        return server.bodies("runs/get_plan")[-1]["run_spec"]["profile"]

    return ask


def test_the_default_profile_holds_where_none_is_named(sent):
    assert sent() == {"name": "usual", "default": True, "max_price": 9.0}


def test_a_named_profile_takes_its_place(sent):
    assert sent("--profile", "cheap") == {"name": "cheap", "max_price": 1.5}
    assert sent(DSTACK_PROFILE="cheap") == {"name": "cheap", "max_price": 1.5}


def test_no_profile_at_all_can_be_asked_for(sent):
    assert sent("--no-profile") is None
    assert sent(DSTACK_NO_PROFILE="1", DSTACK_PROFILE="cheap") is None


def test_the_flag_beats_the_environment(sent):
    assert sent("--profile", "cheap", DSTACK_NO_PROFILE="1") == {"name": "cheap", "max_price": 1.5}


def test_an_unknown_profile_is_told_with_those_that_are_known(cli: Cli):
    cli.write(".dstack/profiles.yml", PROFILES)
    result = cli.run("plan", "-f", "task.dstack.yml", "--profile", "chep")
    assert result.code == 1
    assert "No such profile: chep" in result.err
    assert "cheap, usual" in result.err


def test_profiles_of_the_person_hold_in_every_directory(cli: Cli, server: WireServer):
    folder = cli.home / ".dstack"
    folder.mkdir()
    (folder / "profiles.yml").write_text("profiles:\n- name: mine\n  default: true\n")
    server.on("runs/get_plan", wire.run_plan())
    cli.run("plan", "-f", "task.dstack.yml")
    assert server.bodies("runs/get_plan")[0]["run_spec"]["profile"]["name"] == "mine"


def test_a_wrong_parameter_of_a_profile_is_told(cli: Cli):
    cli.write(".dstack/profiles.yml", "profiles:\n- name: cheap\n  max_pricee: 1\n")
    result = cli.run("plan", "-f", "task.dstack.yml", "--profile", "cheap")
    assert result.code == 1
    assert "max_pricee: unknown key" in result.err
    assert "did you mean `max_price`?" in result.err


def test_fleets_use_the_profile_that_holds_too(cli: Cli, server: WireServer):
    cli.write(".dstack/profiles.yml", PROFILES)
    server.on("fleets/get_plan", wire.fleet_plan())
    cli.run("plan", "-f", "fleet.dstack.yml")
    cli.run("plan", "-f", "fleet.dstack.yml", "--profile", "cheap")
    cli.run("plan", "-f", "fleet.dstack.yml", "--no-profile")
    sent = [body["spec"]["profile"]["name"] for body in server.bodies("fleets/get_plan")]
    assert sent == ["usual", "cheap", "default"]

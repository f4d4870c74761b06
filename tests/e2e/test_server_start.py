"""Starting and stopping the server: what it prints, what it writes, what it refuses."""

import re
import socket
import stat

import pytest

from support.product import Product

GRACE_USED_UP = "timeout graceful shutdown exceeded"  # what the web server says then


def test_first_start_prints_address_token_and_next_command(product: Product):
    server = product.start()

    assert product.url in server.out
    assert re.search(r"token is [0-9a-f]{40}\b", server.out)
    assert re.search(r"^  dstack \w+", server.out, re.MULTILINE), "no next command to type"
    assert product.cli("ps").ok()


def test_first_start_writes_a_configuration_that_only_its_owner_can_read(product: Product):
    product.start()

    config = product.folder / ".dstack" / "config.yml"
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert product.url in config.read_text()
    assert stat.S_IMODE(product.server_dir.stat().st_mode) == 0o700


def test_a_token_that_was_given_is_not_printed(product: Product):
    product.env["DSTACK_SERVER_ADMIN_TOKEN"] = "chosen-and-never-printed"

    server = product.start()

    assert "chosen-and-never-printed" not in server.out
    assert "token is the one that was given" in server.out
    assert product.cli("ps").ok()


def test_a_server_that_is_not_in_the_configuration_says_how_to_add_it(product: Product):
    product.start()
    product.stop()
    (product.folder / ".dstack" / "config.yml").unlink()

    assert f"  dstack project add --name main --url {product.url} --token TOKEN\n" in product.start().out


def test_second_start_shows_no_token_and_keeps_the_first_one_valid(product: Product):
    product.start()
    product.stop()

    server = product.start()

    assert "token is" not in server.out
    assert product.cli("ps").ok()


def test_reset_token_prints_a_token_that_works_and_ends_the_old_one(product: Product):
    product.start()
    config = (product.folder / ".dstack" / "config.yml").read_text()
    old = re.search(r"token: (\w+)", config).group(1)
    product.stop()
    token = product.cli("server", "--port", str(product.port), "reset-token").ok().out.strip().splitlines()[0]

    product.start()

    env = {"DSTACK_SERVER_URL": product.url, "DSTACK_PROJECT": "main"}
    assert product.cli("ps", env={**env, "DSTACK_TOKEN": token}).code == 0
    assert product.cli("ps", env={**env, "DSTACK_TOKEN": old}).code == 1


@pytest.mark.parametrize("command", [[], ["doctor"]])
def test_a_folder_that_is_none_is_named_with_the_setting(product: Product, command: list[str]):
    in_the_way = product.folder / "in-the-way"
    in_the_way.write_text("a file")

    words = ["server", "--port", str(product.port), *(command or ["-n"])]
    refused = product.cli(*words, env={"DSTACK_SERVER_DIR": str(in_the_way / "server")})

    assert refused.code == 1
    assert str(in_the_way) in refused.err and "DSTACK_SERVER_DIR" in refused.err
    assert "Traceback" not in refused.text


def test_second_server_on_the_same_folder_is_refused(product: Product):
    product.start()

    second = product.cli("server", "--port", str(product.port + 1), "-n")

    assert second.code == 1
    assert "Another dstack server already uses" in second.err
    assert "Traceback" not in second.text
    assert product.cli("ps").ok()


def test_taken_port_is_named_with_a_free_one_to_try(product: Product):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", product.port))
        taken.listen()

        refused = product.cli("server", "-n", "--port", str(product.port))

    assert refused.code == 1
    assert f"Cannot listen on 127.0.0.1:{product.port}" in refused.err
    assert "--port" in refused.err
    assert "Traceback" not in refused.text


def test_illegal_setting_is_a_usage_error_that_names_the_variable(product: Product):
    refused = product.cli("server", env={"DSTACK_SERVER_PORT": "many"})

    assert refused.code == 2
    assert "DSTACK_SERVER_PORT" in refused.err


def test_sigterm_ends_an_idle_server_and_nothing_is_waited_for(product: Product):
    product.start()

    assert product.stop() == 0
    assert GRACE_USED_UP not in product.server_log


def test_sigterm_ends_a_server_whose_client_waits_for_a_run(product: Product):
    product.start()
    product.fleet()
    attached = product.begin("apply", "-y", "-f", product.task("long", "echo here", "sleep 600"))
    attached.wait_for("here")

    product.stop()

    assert GRACE_USED_UP not in product.server_log
    assert "Traceback" not in product.server_log
    product.start()
    product.cli("stop", "long", "-y", "--abort").ok()
    assert attached.ended().code == 1

"""What a job asks for beside code: the way to the server, secrets, private images, arguments, profiles."""

from __future__ import annotations

import re
import threading

import pytest

from support.docker_engine import call
from support.product import Product, eventually
from support.registry import PASSWORD, USER, standing_registry

PULLED_S = 60.0


def test_a_job_that_asks_for_it_reaches_the_server(dstack: Product):
    (dstack.folder / "ask.py").write_text(
        "import os, urllib.request\nurl = os.environ['DSTACK_SERVER_URL'] + '/healthcheck'\n"
        "print(urllib.request.urlopen(url).status)\n"
    )
    asks = ("python3 ask.py", "echo of $DSTACK_PROJECT with ${DSTACK_TOKEN:-no token}")
    file = dstack.task("reaching", *asks, more="dstack: true\nfiles: [ask.py]")
    assert dstack.cli("apply", "-y", "-f", file).ok().out.endswith("200\nof main with no token\n")


def test_secrets_are_filled_in_and_missing_ones_are_the_jobs_reason(dstack: Product):
    dstack.cli("secret", "set", "hf_token", "canary-4711").ok()
    more = "env:\n  - HF_TOKEN=${{ secrets.hf_token }}\n  - LITERAL=$${{ secrets.hf_token }}"
    file = dstack.task("secretive", "echo ${#HF_TOKEN} $LITERAL", more=more)
    assert dstack.cli("apply", "-y", "-f", file).ok().out.endswith("11 ${{ secrets.hf_token }}\n")
    file = dstack.task("lacking-secret", "true", more="env:\n  - A=${{ secrets.nowhere }}")
    ended = dstack.cli("apply", "-y", "-f", file)
    assert ended.code == 1
    assert "Secrets interpolation error" in ended.text and "nowhere" in ended.text
    assert "canary-4711" not in dstack.server_log
    for name in ("1bad", "-bad", "b.ad", "b ad"):
        assert dstack.cli("secret", "set", "--", name, "x").code == 1


@pytest.mark.docker
def test_a_private_image_runs_with_a_password_from_a_secret_and_a_wrong_one_is_the_reason(
    docker_product: Product, docker_engine: str
):
    docker_product.cli("secret", "set", "registry", PASSWORD).ok()
    with standing_registry() as address:
        image = f"{address}/team/app:1"
        auth = "registry_auth: {username: '${{ env.WHO }}', password: '${{ secrets.registry }}'}"
        more = f"image: {image}\n{auth}\nenv: [WHO={USER}]"
        file = docker_product.task("private", "echo pulled", more=more)
        assert docker_product.cli("apply", "-y", "-f", file).ok().out.endswith("pulled\n")
        call(docker_engine, "DELETE", f"/images/{image}?force=1")
        docker_product.cli("secret", "set", "registry", "not-the-password").ok()
        refused = docker_product.cli("apply", "-y", "-f", file)
    assert refused.code == 1 and image in refused.text
    assert PASSWORD not in docker_product.server_log + refused.text
    assert "not-the-password" not in docker_product.server_log + refused.text


def pulled_mb(table: str) -> int:
    """What of an image of nine megabytes is there, by what `dstack ps` shows; -1 where it does not."""
    match = re.search(r"pulling (\d+)/\d+/≥?9MB", table)
    return int(match[1]) if match else -1


@pytest.mark.docker
def test_while_an_image_is_pulled_one_sees_how_far_it_is(docker_product: Product, docker_engine: str):
    gate = threading.Event()
    with standing_registry(8_000_000, gate) as address:
        image = f"{address}/team/app:1"
        more = f"image: {image}\nregistry_auth: {{username: {USER}, password: {PASSWORD}}}"
        followed = docker_product.begin(
            "apply", "-y", "-f", docker_product.task("pulling", "echo pulled", more=more), env={"COLUMNS": "200"}
        )
        try:
            eventually(
                lambda: 0 <= pulled_mb(docker_product.cli("ps").out) <= 5,
                PULLED_S,
                lambda: docker_product.cli("ps").text + followed.err,
            )
        finally:
            gate.set()
        assert followed.ended().ok().out.endswith("pulled\n")
        call(docker_engine, "DELETE", f"/images/{image}?force=1")


def test_references_that_nobody_fills_in_are_refused_at_their_place(dstack: Product):
    for text, said in [
        ("${{ secrets.1bad }}", "holds a reference that is not legal"),
        ("${{ secrets.open", "holds a reference that is not legal"),
        ("${{ env.HOME }}", "is not known here"),
        ("${{ run.args }}", "is not known here"),
    ]:
        ended = dstack.cli("plan", "-f", dstack.task("refused", "true", more=f"env:\n  A: '{text}'"))
        assert ended.code == 1
        assert "refused.dstack.yml:6:" in ended.err and said in ended.err, ended.err
    typed = dstack.cli("plan", "-f", dstack.task("refused", "echo ${{ run.arg }}"))
    assert typed.code == 1 and "refused.dstack.yml:4:" in typed.err and "run.args" in typed.err


def test_arguments_after_the_dashes_reach_the_commands_as_they_were_typed(dstack: Product):
    file = dstack.task("arguing", "printf '<%s>' ${{ run.args }}", "echo '$${{ run.args }}'")
    ended = dstack.cli("apply", "-y", "-f", file, "--", "--epochs", "3", "two words", "$HOME").ok()
    assert ended.out.endswith("<--epochs><3><two words><$HOME>${{ run.args }}\n")
    unused = dstack.cli("apply", "-y", "-f", dstack.task("arguing", "true"), "--", "--epochs", "3")
    assert unused.code == 2 and "The arguments are not used: --epochs 3" in unused.err


def test_profiles_give_way_to_the_file_and_both_to_flags(dstack: Product):
    here, home = dstack.folder / "project", dstack.folder
    (here / ".dstack").mkdir(parents=True)
    usual = "{name: usual, default: true, max_duration: 1h, spot_policy: auto}"
    listed = f"profiles:\n  - {usual}\n  - {{name: other, max_price: 3}}\n"
    (here / ".dstack/profiles.yml").write_text(listed)
    (home / ".dstack/profiles.yml").write_text("profiles:\n  - {name: mine, max_price: 7}\n")
    (here / "t.dstack.yml").write_text("type: task\nname: profiled\ncommands: [date]\nspot_policy: spot\n")

    def plan(*flags: str, env: str = "") -> dict:
        typed = f"cd project && {env} dstack plan -f t.dstack.yml --json {' '.join(flags)}"
        configuration = dstack.shell(typed).ok().json()["effective_run_spec"]["configuration"]
        return {name: configuration.get(name) for name in ("max_duration", "spot_policy", "max_price")}

    assert plan() == {"max_duration": 3600, "spot_policy": "spot", "max_price": None}
    assert plan("--max-duration", "2h", "--on-demand")["max_duration"] == 7200
    assert plan("--no-profile")["max_duration"] is None
    assert plan("--profile", "other")["max_price"] == 3
    assert plan("--profile", "mine")["max_price"] == 7
    assert plan(env="export DSTACK_PROFILE=other;")["max_price"] == 3
    assert plan(env="export DSTACK_NO_PROFILE=1;")["max_duration"] is None
    unknown = dstack.shell("cd project && dstack plan -f t.dstack.yml --profile nope")
    assert unknown.code == 1 and "No such profile: nope" in unknown.err

"""Git repositories in containers: put there before the start, whoever the user is, without git in the image."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.docker_engine import BUSYBOX_IMAGE
from support.git_hosts import bare_repo, over_http
from support.product import Product

pytestmark = pytest.mark.docker
IMAGE = f"image: {BUSYBOX_IMAGE}\n"


def test_a_repository_is_in_the_container_of_any_user_or_the_reason_is_told(docker_product: Product, tmp_path: Path):
    bare_repo(tmp_path)
    with over_http(tmp_path) as url:
        commands = ("cat said.txt .git/HEAD", "stat -c %u said.txt .git", "touch own", "echo $DSTACK_REPO_DIR")
        repo = f"repos: ['{url}/lab.git']"
        file = docker_product.task("boxed", *commands, more=f"{IMAGE}{repo}\nuser: '1234'\nworking_dir: /w/lab")
        boxed = docker_product.cli("apply", "-y", "-f", file).ok()
        assert boxed.out.endswith("second\nref: refs/heads/main\n1234\n1234\n/w/lab\n"), boxed.text

        full = docker_product.task("full", "ls", more=f"{IMAGE}{repo}\nworking_dir: /bin")
        refused = docker_product.cli("apply", "-y", "-f", full)
        assert refused.code == 1 and "Failed to set up the repo (/bin is not empty" in refused.text

        home = docker_product.task(
            "homed", "echo $DSTACK_REPO_DIR; cat ~/lab/said.txt", more=f"{IMAGE}{repo[:-2]}:~/lab']"
        )
        assert docker_product.cli("apply", "-y", "-f", home).ok().out.endswith("/root/lab\nsecond\n")

"""What documents print is what the product prints: their commands are typed, in their order, and compared."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from support.product import ROOT, Product, product_in_temporary_folder

QUESTION = "[y/n]: "
SIM = "projects:\n- name: main\n  backends:\n  - type: sim\n    run: pretend\n"
# What a document shows of machines, prices of the hour and moments is true at one place and one time.
CHANGING = (
    (r"\d+(\.\d+)?[MGT]B( \(disk\))?", "SIZE"),
    (r"cpu=\d+ mem", "cpu=N mem"),
    (r"\d+xCPU", "NxCPU"),
    (r"\bnow$|\d+ (sec|min)s? ago$", "THEN"),
    (r"in \d+s\.", "in SECONDS"),
    (r"[ ]+", " "),
)
# Of these there are more or fewer, as the machine is fast or slow.
PROGRESS = re.compile(r"^\S+: (submitted|provisioning|running)\b")


class Shown(NamedTuple):
    """One command of a document, with what it prints there."""

    command: str
    printed: str


def shown(page: Path) -> Iterator[Shown]:
    for block in re.findall(r"^```shell\n\$ (dstack .*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        command, _, printed = block.partition("\n")
        yield Shown(command, printed)


def essence(text: str) -> list[str]:
    """The lines without what differs from machine to machine; an answer stands behind its question on a terminal."""
    lines = []
    for line in text.replace(QUESTION + "y\n", QUESTION + "\n").splitlines():
        if PROGRESS.match(line):
            continue
        for changing, word in CHANGING:
            line = re.sub(changing, word, line)
        lines.append(line.rstrip())
    return [line for line in lines if line]


def typed(product: Product, one: Shown) -> list[str]:
    """As people see it: both streams in one."""
    ended = product.shell(f"exec 2>&1; printf 'y\\n' | {one.command} || true")
    return essence(ended.out)


def test_the_quickstart_prints_what_it_shows(product: Product):
    (product.folder / "examples").symlink_to(ROOT / "examples")
    product.start()
    commands = list(shown(ROOT / "docs" / "quickstart.md"))

    assert len(commands) > 5
    for one in commands:
        assert typed(product, one) == essence(one.printed), one.command


def test_offers_and_their_reasons_are_printed_as_the_documents_show_them():
    with product_in_temporary_folder(DSTACK_SERVER_LOCAL_BACKEND="false") as product:
        product.server_dir.mkdir(parents=True)
        (product.server_dir / "config.yml").write_text(SIM)
        product.start()
        product.fleet("my-fleet", "0..2")
        page = ROOT / "docs" / "concepts" / "offers.md"
        train = re.search(r"```yaml\n(type: task.*?)```", page.read_text(), re.DOTALL)
        assert train is not None
        product.write(train[1], "train.dstack.yml")
        for one in shown(page):
            if shlex.split(one.command)[1] == "why":
                product.write(train[1] + "retry: true\n", "waiting.dstack.yml")
                product.cli("apply", "-f", "waiting.dstack.yml", "-y", "-d").ok()
                product.wait_status("train", "pending")
            assert typed(product, one) == essence(one.printed), one.command

"""The page of the first hour shows what the program says, in the words that it has today."""

import re

import pytest

from support.product import ROOT

PAGE = (ROOT / "docs" / "guides" / "first-hour.md").read_text()
WORDS = [re.sub(r"\s+", " ", path.read_text()) for path in sorted((ROOT / "src" / "dstack").rglob("*.py"))]
# As the screen has it, and the part of it that stands in the source: names and numbers are put in there.
SAID = {
    "dstack 0.22.5 is running at http://127.0.0.1:3000": " is running at ",
    "It is not shown again; `dstack server reset-token` makes a new one.": "It is not shown again; ",
    "Ctrl-C stops the server; running jobs go on.": "Ctrl-C stops the server; running jobs go on.",
    "Fleet my-hosts does not exist yet.": " does not exist yet.",
    "Create the fleet? [y/n]: y": "Create the fleet?",
    "Submit the run dev? [y/n]: y": "Submit the run ",
    "dev provisioning completed (running)": " provisioning completed (running)",
    "To open in VS Code, use this link:": "To open in ",
    "To connect via SSH, use: ssh dev": "To connect via SSH, use: ssh ",
    "Attached to run dev (replica=0 job=0)": "Attached to run ",
    "Forwarded ports (local -> remote):": "Forwarded ports (local -> remote):",
    "The connection goes through the server: there is no route to it from here": "The connection goes through ",
    "Connected to the run again": "Connected to the run again",
    "Stop the run dev before detaching? [y/n]: n": " before detaching?",
    "`dstack attach dev` gets back into it": " gets back into it",
    "Press Ctrl+C to detach...": "Press Ctrl+C to detach...",
    "Are you sure you want to stop the run dev? [y/n]: y": " the run {run_name}?",
    "Job status changed SUBMITTED -> PROVISIONING": " status changed ",
}


@pytest.mark.parametrize(("shown", "written"), SAID.items(), ids=list(SAID))
def test_what_the_page_shows_is_what_is_said(shown: str, written: str):
    assert shown in PAGE
    assert any(written in text for text in WORDS)


def test_the_page_has_all_that_an_hour_has():
    typed = re.findall(r"^\$ (\S+ ?\S*)", PAGE, re.MULTILINE)
    for command in ("dstack server", "dstack init", "dstack attach", "dstack metrics", "dstack logs", "dstack stop"):
        assert command in typed
    assert {"ssh dev", "scp config.yml", "curl -s", "rsync -v"} <= set(typed)

"""Every path of the public API's document is called once, where that document lies beside the project."""

from __future__ import annotations

from support import http_walk
from support.http_api import Api
from support.openapi import DOCUMENT
from support.product import ROOT

PAGE = ROOT / "contributing" / "http-paths.md"
# A service, a model, metrics that are turned off: what the public API answers, too.
NOT_THERE = ("/proxy/", "/metrics")


async def test_no_path_of_the_public_api_is_unknown_here_and_the_page_says_what_each_answers(api: Api) -> None:
    if not DOCUMENT.exists():
        return
    answered = await http_walk.walk(api)
    unknown = [one for one in answered if one.status not in (200, 400) and not one.path.startswith(NOT_THERE)]
    assert unknown == []
    assert http_walk.page(answered) == PAGE.read_text(), "run scripts/compare-http"

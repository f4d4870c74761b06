"""The server's log: ids on each line, as text and as JSON."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest

from dstack.errors import UsageError
from dstack.server.journal import Json, Text, about, note
from dstack.server.main import log_to_stderr
from dstack.server.settings import Settings


class Lines(logging.Handler):
    """Keeps what a formatter makes of each record."""

    def __init__(self, formatter: logging.Formatter):
        super().__init__()
        self.setFormatter(formatter)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


def logger_with(formatter: logging.Formatter) -> tuple[logging.Logger, list[str]]:
    handler = Lines(formatter)
    logger = logging.Logger("dstack.test")
    logger.addHandler(handler)
    return logger, handler.lines


def test_a_line_of_text_ends_with_the_ids_of_what_it_is_about():
    logger, lines = logger_with(Text())
    with about(job="j-1", act="a-1", run=None):
        logger.info("it %s", "runs")
    logger.info("nothing in particular")
    assert lines[0].endswith("dstack.test  it runs  [job=j-1 act=a-1]")
    assert lines[1].endswith("dstack.test  nothing in particular")


def test_a_line_of_json_is_one_object_with_the_ids():
    logger, lines = logger_with(Json())
    with about(instance="i-1"), about(job="j-1"):
        logger.warning("two\nlines")
    (line,) = lines
    found = json.loads(line)
    assert found.pop("at").endswith("+00:00")
    assert found == {
        "level": "warning",
        "logger": "dstack.test",
        "message": "two\nlines",
        "instance": "i-1",
        "job": "j-1",
    }


def test_an_exception_stays_on_its_line():
    logger, lines = logger_with(Json())
    try:
        raise ValueError("x")
    except ValueError:
        logger.exception("failed")
    assert len(lines[0].splitlines()) == 1
    assert "ValueError: x" in json.loads(lines[0])["error"]


async def test_tasks_carry_the_ids_of_where_they_were_begun_and_add_their_own():
    logger, lines = logger_with(Json())

    async def work(job: str) -> None:
        note(run=f"run of {job}")
        await asyncio.sleep(0)
        logger.info("working")

    async with asyncio.TaskGroup() as group:
        for job in ("a", "b"):
            with about(job=job):
                group.create_task(work(job))
    logger.info("over")
    told = [json.loads(line) for line in lines]
    assert [(one.get("job"), one.get("run")) for one in told] == [("a", "run of a"), ("b", "run of b"), (None, None)]


def test_the_form_of_the_log_is_a_setting():
    assert Settings.from_env({"DSTACK_LOG_FORMAT": "json"}).log_format == "json"


def test_another_form_is_a_usage_error():
    with pytest.raises(UsageError, match="expected one of text, json"):
        log_to_stderr("info", "xml")


def test_another_level_is_a_usage_error_that_names_the_variable():
    with pytest.raises(UsageError, match="DSTACK_SERVER_LOG_LEVEL='loud': expected one of debug"):
        log_to_stderr("loud", "text")

"""What is to be said of an instance beside its status: why a host cannot be used, or does not answer."""

from __future__ import annotations

from dstack.control import wording
from dstack.model.host import Finding
from dstack.model.instance import Instance


def remark(instance: Instance) -> str | None:
    """The one thing that a person should know of it now."""
    if instance.unknown_tasks and instance.unreachable_since is None and not instance.terminal:
        return wording.unknown_tasks(instance.unknown_tasks)
    if instance.termination_message or instance.termination_reason:
        return instance.termination_message
    if instance.unreachable_since is not None:
        return instance.unreachable_message or "does not answer"
    if instance.report is not None and instance.report.failed:
        return report_text(instance)
    if instance.host is not None and instance.host.health != "healthy":
        return instance.host.health_message
    return None


def report_text(instance: Instance) -> str:
    """What is wrong with a host, and what mends it."""
    assert instance.report is not None
    return "; ".join(finding_text(one) for one in instance.report.failed)


def finding_text(finding: Finding) -> str:
    text = f"{finding.check}: {finding.message}"
    return f"{text} (mend it: {finding.remedy})" if finding.remedy else text


def waits_to_be_mended(instance: Instance) -> bool:
    """Whether the last look at the host found something that a person has to mend."""
    return not instance.terminal and instance.report is not None and bool(instance.report.failed)

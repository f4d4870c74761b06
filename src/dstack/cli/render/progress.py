"""The state of a job in words and signs: what it waits for, how far its image is, whether its probes pass."""

from __future__ import annotations

from typing import Any

from dstack.values.duration import format_duration

Json = dict[str, Any]

GB, MB = 1e9, 1e6


def state_text(item: Json, attempt: Json | None, verbose: bool) -> str:
    """The state of a run or of a job; `attempt` is the job's newest submission.

    A host that does not answer is told before all else: what is known of the job is as old as that.
    """
    text = str(item.get("status_message") or item["status"])
    if item["status"] == "pulling" or (attempt or {}).get("status") == "pulling":
        text += _pulled((attempt or {}).get("image_pull_progress"))
    if (attempt or {}).get("x_unreachable_since"):
        return f"{text} (unreachable)"
    waiting, idle_s = item.get("x_waiting_for"), (attempt or {}).get("inactivity_secs")
    if verbose and waiting:
        return f"{text} (waiting for {waiting})"
    if verbose and idle_s is not None and text == "running":
        return f"{text} (inactive for {format_duration(int(idle_s))})"
    return text


def probes_text(spec: Json, attempt: Json | None) -> str:
    """A sign for each probe: `✓` ready, `~` passing but not often enough yet, `×` failing."""
    probes = (attempt or {}).get("probes") or []
    needed = [int(probe.get("ready_after") or 1) for probe in spec.get("probes") or []]
    needed += [1] * (len(probes) - len(needed))
    return "".join(_sign(int(probe["success_streak"]), least) for probe, least in zip(probes, needed, strict=False))


def _sign(streak: int, needed: int) -> str:
    return "✓" if streak >= needed else "~" if streak else "×"


def _pulled(progress: Json | None) -> str:
    """` 1.2/2.5/≥9.1GB`: downloaded, unpacked, all of it as far as known; small ones in whole MB."""
    if not progress:
        return ""
    unit, name, places = (GB, "GB", 1) if progress["total_bytes"] >= GB else (MB, "MB", 0)
    fields = ("downloaded_bytes", "extracted_bytes", "total_bytes")
    downloaded, unpacked, total = (f"{progress[field] / unit:.{places}f}" for field in fields)
    least = "" if progress.get("is_total_bytes_final") else "≥"
    return f" {downloaded}/{unpacked}/{least}{total}{name}"

"""Events: what is told, to whom, filtered and paged."""

from __future__ import annotations

from support.http_api import Api, fleet, task


async def test_events_tell_who_did_what_newest_first(api: Api) -> None:
    await api.call("fleets/apply", {"plan": {"spec": fleet()}})
    await api.call("runs/apply", {"plan": {"run_spec": task("true", name="t1")}})
    events = await api.call("/api/events/list", {})
    assert [event["message"] for event in events] == [
        "Job created on run submission. Status: SUBMITTED",
        "Run submitted. Status: SUBMITTED",
        "Fleet created. Status: ACTIVE",
    ]
    assert [event["actor_user"] for event in events] == [None, "admin", "admin"]
    target = events[1]["targets"][0]
    assert (target["type"], target["name"], target["project_name"]) == ("run", "t1", "main")


async def test_events_are_filtered_by_target_type_and_actor(api: Api) -> None:
    await api.call("fleets/apply", {"plan": {"spec": fleet()}})
    run = await api.call("runs/apply", {"plan": {"run_spec": task("true", name="t1")}})
    admin = (await api.call("/api/users/get_my_user"))["id"]

    async def messages(**query: object) -> list[str]:
        found = await api.call("/api/events/list", {"ascending": True, **query})
        return [event["message"].split()[0] for event in found]

    assert await messages(target_runs=[run["id"]]) == ["Run"]
    assert await messages(within_runs=[run["id"]]) == ["Run", "Job"]
    assert await messages(include_target_types=["fleet", "job"]) == ["Fleet", "Job"]
    assert await messages(actors=[admin]) == ["Fleet", "Run"]
    assert await messages(actors=[None]) == ["Job"]
    assert await messages(target_secrets=[]) == []


async def test_pages_of_events_join_without_gap_or_overlap(api: Api) -> None:
    for n in range(4):
        await api.call("secrets/create_or_update", {"name": f"S{n}", "value": "x"})
    names: list[str] = []
    page = await api.call("/api/events/list", {"limit": 3})
    while page:
        names += [event["targets"][0]["name"] for event in page]
        last = page[-1]
        query = {"limit": 3, "prev_recorded_at": last["recorded_at"], "prev_id": last["id"]}
        page = await api.call("/api/events/list", query)
    assert names == ["S3", "S2", "S1", "S0"]


async def test_strangers_see_no_events_of_a_project(api: Api) -> None:
    await api.call("secrets/create_or_update", {"name": "S", "value": "x"})
    stranger = await api.user("stranger")
    assert await stranger.call("/api/events/list", {}) == []


async def test_a_deleted_actor_is_said_to_be_deleted(api: Api) -> None:
    ann = await api.user("ann", "manager")
    await ann.call("secrets/create_or_update", {"name": "S", "value": "x"})
    await api.call("/api/users/delete", {"users": ["ann"]})
    found = await api.call("/api/events/list", {"include_target_types": ["secret"]})
    assert (found[0]["actor_user"], found[0]["is_actor_user_deleted"]) == (None, True)

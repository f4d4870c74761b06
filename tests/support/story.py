"""One story: real servers over a real database in virtual time, which die again and again while people want things.

The store, the engine, the effects and the routes are the shipped ones, the cloud is the backend `sim`, the agents are
its pretended ones. Chance (the seed) decides when each life ends: at a point between two verbs of the engine, or at
some instant. After the last death everything has to come to its end.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from httpx import Response

from dstack.control import invariants
from dstack.errors import DstackError
from dstack.model.job import Job, JobStatus
from dstack.model.run import Run
from dstack.server.app import running
from dstack.server.settings import Settings
from dstack.server.store.database import Database
from dstack.server.store.store import Store
from support.dying import Died, Fate, classes
from support.http_api import TOKEN, Api, client_of, task
from support.virtual_time import VirtualClock, VirtualLoop, in_virtual_time, virtual_loop
from support.watching import VirtualDatabase, Watch, set_clock
from support.weather import Weather, weathered

MINUTE = 60.0
SETTLE_S = 6 * 3600.0  # after the last death everything must be over within this
LONGEST_LIFE_S = 60.0
LONGEST_DEATH_S = 20.0
SLOW = 0.2  # of commits take seconds to begin; others act between load and commit
DANGERS = 12  # points of each life at which it may end
AT_SOME_INSTANT = "at some instant"
ACTS = ("create_instance", "start_task", "stop_task", "remove_task", "terminate_instance")
ROWS = ("run", "job", "instance", "fleet", "queue")
SEEN = ("link_up", "running", "exited")
# Passed so often that few lives would come any further.
COMMON = (
    *(f"{verb}:{kind}:after" for verb in ("claim_due", "load") for kind in ROWS),
    *(f"write:any:{when}" for when in ("before", "after")),
)
RARE = (
    *(f"commit:{what}:{when}" for what in (*ROWS, *ACTS) for when in ("before", "after")),
    *(f"claim_acts:{verb}:after" for verb in ACTS),
    *(f"{how}:{verb}:{when}" for how in ("finish_act", "retry_act") for verb in ACTS for when in ("before", "after")),
    *(f"observe:{what}:{when}" for what in SEEN for when in ("before", "after")),
    *(f"take_links:host:{when}" for when in ("before", "after")),
)
FLEETS = {"pool": {"nodes": "0..4"}, "warm": {"nodes": "1..2"}, "cluster": {"nodes": "0..3", "placement": "cluster"}}
RUNS = 10
KINDS: tuple[dict[str, Any], ...] = ({}, {}, {"nodes": 2}, {"retry": {"duration": "5m"}})
DELAYS = {"create": 4, "boot": 6, "terminate": 4}
FAILURES = [
    {"kind": "no_capacity", "rate": 0.15, "times": 6},
    {"kind": "result_lost", "rate": 0.2, "times": 6},
    {"kind": "unavailable", "rate": 0.1, "times": 4},
    {"kind": "slow", "rate": 0.1, "times": 3, "delay": 60},
    {"kind": "deaf", "rate": 0.05, "times": 1},
    {"kind": "vanished", "rate": 0.05, "times": 2, "after": 40},
    {"kind": "terminate_fails", "rate": 0.2, "times": 6},
    {"kind": "list_forgets", "rate": 0.2, "times": 20},
    {"kind": "list_lies", "rate": 0.2, "times": 20},
]


@dataclass
class Told:
    """`broken` is empty when all held; `deaths` by point; `looks` how often the invariants were checked."""

    seed: int
    broken: list[str] = field(default_factory=list)
    deaths: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    passed: Counter[str] = field(default_factory=Counter)
    looks: int = 0
    virtual_s: float = 0.0
    slow: int = 0  # steps of the database in slow seasons
    lost: int = 0  # commits without an answer
    buried: int = 0  # how often a server that lived, and whose word was not lost, was taken for dead


def tell(
    seed: int,
    folder: Path,
    database_url: str | None = None,
    *,
    store: Callable[[Path], type[Store]] = lambda _: Store,
    database: type[Database] = VirtualDatabase,
    minutes: float = 6.0,
    deaths: int = 0,
    points: Sequence[str] = (),
    slow: float = SLOW,
    deadly: bool = True,
    weather: bool = False,
) -> Told:
    """Play a seed in a new folder; two servers on an empty PostgreSQL, one on SQLite.

    Servers die for `minutes`, and on until there were `deaths` of them, at one of `points` where they are given, and
    at some instant; `deadly`: they die at all. `store` makes worse stores, `database` is that of the servers, `slow` is
    the share of slow commits; `weather`: PostgreSQL is slow for a while now and then, and loses answers to commits.
    """
    if database_url is not None:
        asyncio.run(set_clock(database_url))
    random.seed(seed)  # pauses between tries are shaken by the global source
    how = _How((store(folder / "cloud"), database), minutes * MINUTE, deaths, points, slow, deadly, weather)
    story = _Story(seed, folder, database_url, how)
    return in_virtual_time(story.play(), outside=database_url is not None)


def settings_of(home: Path, cloud: Path, sim: dict[str, Any], **settings: Any) -> Settings:
    """Of a server whose project has a simulated cloud in the folder `cloud`, with agents that pretend."""
    home.mkdir(parents=True)
    offers = [{"instance_type": "small", "regions": ["here"], "price": 1.0, "memory": "32GB"}]
    backend = {"type": "sim", "run": "pretend", "folder": str(cloud), "offers": offers, **sim}
    (home / "config.yml").write_text(yaml.safe_dump({"projects": [{"name": "main", "backends": [backend]}]}))
    keys = (b"k" * 32,)
    return Settings(data_dir=home, admin_token=TOKEN, local_backend=False, encryption_keys=keys, **settings)


@dataclass(frozen=True)
class _How:
    classes: tuple[type[Store], type[Database]]
    until_s: float
    deaths: int
    points: Sequence[str]
    slow: float
    deadly: bool
    weather: bool


class _Story:
    def __init__(self, seed: int, folder: Path, url: str | None, how: _How):
        self.told = Told(seed)
        self._folder, self._url, self._how = folder, url, how
        self._until_s = how.until_s
        self._servers = ["a"] if url is None else ["a", "b"]
        self._living: dict[str, Api] = {}
        self._finished = asyncio.Event()

    async def play(self) -> Told:
        loop = virtual_loop()
        settings = {name: self._settings(name) for name in self._servers}
        self._watch = Watch(loop, settings["a"].resolved_database_url, self._folder / "cloud")
        try:
            async with asyncio.TaskGroup() as group:
                for name in self._servers:
                    group.create_task(self._lives(name, settings[name], loop))
                group.create_task(self._people(loop))
        finally:
            await self._watch.database.close()
        self.told.broken += self._watch.broken
        self.told.looks, self.told.virtual_s = self._watch.looks, loop.time()
        return self.told

    def _settings(self, name: str) -> Settings:
        shared = {} if self._url is None else {"database_url": self._url, "shared_dir": self._folder / "shared"}
        pretend = {"duration": 3 if self.told.seed % 2 else 20}
        sim = {"pretend": pretend, "seed": self.told.seed, "delays": DELAYS, "failures": FAILURES}
        return settings_of(self._folder / name, self._folder / "cloud", sim, **shared)

    # Servers.

    @property
    def _dying(self) -> bool:
        """Lives that begin now are not the last ones."""
        return virtual_loop().time() < self._until_s or self.told.deaths.total() < self._how.deaths

    async def _lives(self, name: str, settings: Settings, loop: VirtualLoop) -> None:
        chance = random.Random(f"{self.told.seed} {name}")
        clock = VirtualClock(loop, chance.uniform(-3, 3) if self._url else 0.0)
        weather = Weather(self.told.seed, name, self._until_s) if self._how.weather else None
        while not self._finished.is_set():
            last = not self._how.deadly or not self._dying
            fate = self._fate(chance)
            fate.armed = not last
            longest_s = SETTLE_S * 4 if last else chance.uniform(5, LONGEST_LIFE_S)
            try:
                await self._live(name, settings, clock, fate, longest_s, weather)
            except* Died:
                pass
            self.told.passed += fate.passed
            if fate.dead:
                self.told.deaths[fate.where] += 1
                await asyncio.sleep(chance.uniform(0, LONGEST_DEATH_S))
        if weather is not None:
            self.told.slow += weather.slow
            self.told.lost += weather.lost

    def _fate(self, chance: random.Random) -> Fate:
        how = {"looked": self._watch.look, "slow_s": lambda: self._slow_s(chance), "buried": self._buried}
        if self._how.points:
            return Fate(*self._how.points, count=chance.randint(1, 3), **how)
        if chance.random() < 0.3:
            return Fate(chance.choice(COMMON), count=chance.randint(1, 30), **how)
        return Fate(*chance.sample(RARE, DANGERS), count=chance.randint(1, 3), **how)

    def _slow_s(self, chance: random.Random) -> float:
        if virtual_loop().time() >= self._until_s or chance.random() >= self._how.slow:
            return 0.0
        return chance.choice((0.05, 1.0, 5.0))

    def _buried(self) -> None:
        self.told.buried += 1

    async def _live(
        self,
        name: str,
        settings: Settings,
        clock: VirtualClock,
        fate: Fate,
        longest_s: float,
        weather: Weather | None,
    ) -> None:
        store, database = self._how.classes
        dying = classes(fate, store, database if weather is None else weathered(weather))
        async with AsyncExitStack() as stack:
            try:
                server = await stack.enter_async_context(running(settings, clock, **dying))
            except DstackError:  # whoever keeps it alive starts it again
                if weather is None or not weather.failed:
                    raise
                return
            http = await stack.enter_async_context(client_of(server.parts))
            self._living[name] = Api(http, server.parts)
            ends = [asyncio.ensure_future(e.wait()) for e in (fate.died, self._finished)]
            try:
                await asyncio.wait(ends, timeout=longest_s, return_when=asyncio.FIRST_COMPLETED)
            finally:
                del self._living[name]
                for one in ends:
                    one.cancel()
            if not self._finished.is_set():
                if not fate.dead:
                    fate.end(AT_SOME_INSTANT)
                fate.alive()

    # People.

    async def _people(self, loop: VirtualLoop) -> None:
        try:
            chance = random.Random(f"{self.told.seed} people")
            for name, fields in FLEETS.items():
                spec = {"configuration": {"type": "fleet", "name": name, "idle_duration": "40s", **fields}}
                await self._call("fleets/apply", {"plan": {"spec": spec}})
            await self._all(self._wishes(chance, loop))
            if await self._over(self._runs_ended, "runs") and await self._over(self._at_rest, "idle machines"):
                await self._call("fleets/delete", {"names": list(FLEETS)})
                await self._over(self._nothing_left, "all")
            await self._conclude()
        finally:
            self._finished.set()

    async def _all(self, wishes: list[Coroutine[Any, Any, None]]) -> None:
        async with asyncio.TaskGroup() as group:
            for wish in wishes:
                group.create_task(wish)

    def _wishes(self, chance: random.Random, loop: VirtualLoop) -> list[Coroutine[Any, Any, None]]:
        begins = {f"r{n}": loop.time() + chance.uniform(0, self._until_s * 0.9) for n in range(RUNS)}
        runs = [self._run(begin, name, chance.choice(KINDS)) for name, begin in begins.items()]
        unwanted = chance.sample(sorted(begins), 4)  # as a rule after they have begun
        stops = [self._stop(begins[name] + chance.uniform(5, 60), name, chance.random() < 0.3) for name in unwanted]
        return [*runs, *stops]

    async def _run(self, at: float, name: str, fields: dict[str, Any]) -> None:
        await asyncio.sleep(at - virtual_loop().time())
        spec = task("work", name=name, **fields, resources={"cpu": "1..", "memory": "1GB..", "disk": "1GB.."})
        # Whoever did not hear the answer looks before asking again.
        await self._call("runs/apply", {"plan": {"run_spec": spec}}, unless=("runs/get", {"run_name": name}))

    async def _stop(self, at: float, name: str, abort: bool) -> None:
        await asyncio.sleep(at - virtual_loop().time())
        await self._call("runs/stop", {"runs_names": [name], "abort": abort})

    async def _call(self, path: str, body: Any, unless: tuple[str, Any] | None = None) -> Response | None:
        """What the first server that lives long enough answers; None once something broke, or `unless` is found."""
        tried = False
        while not self._watch.broken:
            for name in list(self._living):
                if unless is not None and tried:
                    found = await self._ask(name, *unless)
                    if found is not None and found.status_code == 200:
                        return None
                tried = True
                answer = await self._ask(name, path, body)
                if answer is not None and answer.status_code < 500:
                    return answer
            await asyncio.sleep(1.0)
        return None

    async def _ask(self, name: str, path: str, body: Any) -> Response | None:
        """None: it does not live now, perhaps since the question before, or it died before it had answered."""
        api = self._living.get(name)
        try:
            return None if api is None else await api.raw(path, body)
        except Died:
            return None

    async def _runs_ended(self) -> list[str]:
        return [f"run {run.name} {run.status}" for run in await self._watch.runs() if not run.terminal]

    async def _at_rest(self) -> list[str]:
        return invariants.beyond_minimum(await self._watch.rows())

    async def _nothing_left(self) -> list[str]:
        return await self._watch.left()

    async def _over(self, left: Callable[[], Coroutine[Any, Any, list[str]]], what: str) -> bool:
        """Wait until nothing is left; False when something broke, or it takes too long."""
        loop = virtual_loop()
        deadline = max(loop.time(), self._until_s) + SETTLE_S
        while not self._watch.broken:
            rest = await left()
            if not rest and not self._dying:
                return True
            if loop.time() > deadline:
                self.told.broken.append(f"not over when it should be ({what}): {', '.join(rest[:6])}")
                return False
            await asyncio.sleep(5.0)
        return False

    async def _conclude(self) -> None:
        """Whoever ended well has its whole log, once."""
        rows = await self._watch.rows()
        self.told.statuses.update(str(row.status) for row in rows if isinstance(row, Run))
        done = [row for row in rows if isinstance(row, Job) and row.status is JobStatus.DONE]
        for job in done if not self._watch.broken else ():
            name = next(row.name for row in rows if row.id == job.run_id and isinstance(row, Run))
            page = await self._call("logs/poll", {"run_name": name, "job_submission_id": job.id, "limit": 10})
            if page is not None and len(lines := page.json()["logs"]) != 1:
                self.told.broken.append(f"job {job.id} of {name} has {len(lines)} lines of log instead of one")

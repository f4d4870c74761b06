"""The websocket through which a person gets into a job: binary messages are what its sshd says and hears."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, WebSocket, WebSocketDisconnect

from dstack.backends.base import Streams
from dstack.errors import DstackError
from dstack.server.parts import Parts
from dstack.server.routes.access import bearer, member, visitor
from dstack.server.services.runs.entering import open_door

router = APIRouter(tags=["runs"])
PIECE = 64 * 1024
REFUSED = 4000
MAX_REASON = 120
Number = Annotated[int, Query(ge=0)]


@router.websocket("/api/project/{project_name}/runs/{run_name}/ssh")
async def ssh(websocket: WebSocket, project_name: str, run_name: str, job: Number = 0, replica: Number = 0) -> None:
    """For members of the project; whom the run lets in is for its own sshd to say, by their key."""
    parts: Parts = websocket.app.state.parts
    try:
        access = await member(await visitor(parts, await bearer(websocket), project_name))
        streams = await open_door(parts, access, run_name, job, replica)
    except DstackError as e:
        # Said in the closing: a refused handshake has no words for people that all clients show.
        await websocket.accept()
        await websocket.close(REFUSED, short(e.message))
        return
    await websocket.accept()
    await _carry(websocket, streams)


def short(reason: str) -> str:
    """As much as the closing of a websocket carries, cut between words."""
    if len(reason.encode()) <= MAX_REASON:
        return reason
    kept = reason.encode()[: MAX_REASON - len(" ...")].decode(errors="ignore")
    return kept.rpartition(" ")[0] + " ..."


async def _carry(websocket: WebSocket, streams: Streams) -> None:
    """Both ways, until either end is done."""
    reader, writer = streams
    there = asyncio.ensure_future(_to_job(websocket, writer))
    back = asyncio.ensure_future(_to_person(reader, websocket))
    try:
        await asyncio.wait([there, back], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (there, back):
            task.cancel()
        await asyncio.gather(there, back, return_exceptions=True)
        writer.close()


async def _to_job(websocket: WebSocket, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            writer.write(await websocket.receive_bytes())
            await writer.drain()
    except (WebSocketDisconnect, KeyError, OSError):
        return  # gone, or it sent text, which SSH is not


async def _to_person(reader: asyncio.StreamReader, websocket: WebSocket) -> None:
    try:
        while piece := await reader.read(PIECE):
            await websocket.send_bytes(piece)
        await websocket.close()
    except (WebSocketDisconnect, RuntimeError, OSError):
        return  # nobody listens any more

"""A node that misbehaves: a JSON-RPC proxy in front of a real one, which spoils what it is told to."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import aiohttp
from aiohttp import web

#: Makes of one call and the real node's answer what is said instead; asked after the node.
Edit = Callable[[str, list[Any], Any], Any]
#: Stands in the way of a whole HTTP request: an answer of its own, or None to let it pass.
Obstacle = Callable[[web.Request], Awaitable[web.StreamResponse | None]]


class Proxy:
    """``url`` behaves as the node until an ``obstacle`` or an ``edit`` is set. ``calls`` are the methods asked for in so many HTTP ``requests``."""

    def __init__(self, upstream: str):
        self.upstream, self.url = upstream, ""
        self.obstacle: Obstacle | None = None
        self.edit: Edit | None = None
        #: Methods answered without asking the node: name to result.
        self.swallow: dict[str, Callable[[list[Any]], Any]] = {}
        self.calls: list[str] = []
        self.requests = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.requests += 1
        if self.obstacle and (answer := await self.obstacle(request)) is not None:
            return answer
        asked = json.loads(body)
        answers = [await self._answer(one) for one in (asked if isinstance(asked, list) else [asked])]
        return web.json_response(answers if isinstance(asked, list) else answers[0])

    async def _answer(self, call: dict[str, Any]) -> dict[str, Any]:
        method, params = call["method"], call.get("params", [])
        self.calls.append(method)
        if method in self.swallow:
            return {"jsonrpc": "2.0", "id": call["id"], "result": self.swallow[method](params)}
        async with aiohttp.ClientSession() as http, http.post(self.upstream, json=call) as response:
            answer = await response.json(content_type=None)
        if self.edit and "result" in answer:
            answer["result"] = self.edit(method, params, answer["result"])
        return answer


@contextlib.contextmanager
def proxy(upstream: str) -> Iterator[Proxy]:
    """A proxy on a free port, in a thread that ends with the block."""
    running, loop, ready = Proxy(upstream), asyncio.new_event_loop(), threading.Event()
    stop = asyncio.Event()

    async def serve() -> None:
        app = web.Application()
        app.router.add_post("/", running.handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        running.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"  # type: ignore[union-attr]
        ready.set()
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield running
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


def status(code: int) -> Obstacle:
    async def obstacle(_: web.Request) -> web.StreamResponse:
        return web.Response(status=code, text="slow down", headers={"Retry-After": "1"})

    return obstacle


def sleeping(seconds: float) -> Obstacle:
    async def obstacle(_: web.Request) -> None:
        await asyncio.sleep(seconds)

    return obstacle


async def truncated(_: web.Request) -> web.StreamResponse:
    """Half of a JSON answer, well-formed as HTTP."""
    return web.Response(body=b'{"jsonrpc":"2.0","id":1,"resu', content_type="application/json")


async def html(_: web.Request) -> web.StreamResponse:
    return web.Response(text="<html>maintenance</html>", content_type="text/html")


async def reset(request: web.Request) -> web.StreamResponse:
    """The connection ends without an answer."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


def pinned(number: int) -> Edit:
    """A node that stopped following the chain at this block."""

    def edit(method: str, params: list[Any], result: Any) -> Any:
        if method == "eth_getBlockByNumber" and result is not None and int(result["number"], 16) > number:
            return None if params[0].startswith("0x") else edit.head  # type: ignore[attr-defined]
        if method in ("eth_getTransactionReceipt", "eth_getTransactionByHash") and result is not None:
            return None if int(result.get("blockNumber") or "0x0", 16) > number else result
        return result

    return edit

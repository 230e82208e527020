"""A push service (RFC 8030) with the side that Firefox speaks to it: JSON over a WebSocket."""

import asyncio
import base64
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from uuid import uuid4

from fastapi import FastAPI, Request, Response, WebSocket, WebSocketDisconnect
from uvicorn import Config, Server


@dataclass
class PushService:
    """Passes what is posted to an endpoint on to the browser that has it."""

    address: str
    taken: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    """Headers of each message."""

    _browsers: dict[str, WebSocket] = field(default_factory=dict[str, WebSocket])
    _channels: dict[str, str] = field(default_factory=dict[str, str])

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.websocket("/")
        async def browser(socket: WebSocket) -> None:
            await socket.accept(subprotocol="push-notification")
            try:
                while True:
                    await self._answer(socket, json.loads(await socket.receive_text()))
            except WebSocketDisconnect:
                pass

        @app.post("/push/{endpoint}")
        async def push(endpoint: str, request: Request) -> Response:
            if endpoint not in self._browsers:
                return Response(status_code=HTTPStatus.GONE)
            self.taken.append(dict(request.headers))
            text = base64.urlsafe_b64encode(await request.body()).decode().rstrip("=")
            told = {
                "messageType": "notification", "channelID": self._channels[endpoint], "version": uuid4().hex,
                "data": text, "headers": {"encoding": request.headers["content-encoding"]},
            }  # fmt: skip
            await self._browsers[endpoint].send_text(json.dumps(told))
            return Response(status_code=HTTPStatus.CREATED)

        return app

    async def _answer(self, socket: WebSocket, said: dict[str, str]) -> None:
        match said.get("messageType"):
            case "hello":
                answer = {"messageType": "hello", "status": 200, "uaid": uuid4().hex, "use_webpush": True}
            case "register":
                endpoint, channel = uuid4().hex, said["channelID"]
                self._browsers[endpoint], self._channels[endpoint] = socket, channel
                answer = {
                    "messageType": "register", "status": 200, "channelID": channel,
                    "pushEndpoint": f"http://{self.address}/push/{endpoint}",
                }  # fmt: skip
            case "unregister":
                answer = {"messageType": "unregister", "status": 200, "channelID": said["channelID"]}
            case _:  # ack, ping, broadcast_subscribe: nothing is answered
                return
        await socket.send_text(json.dumps(answer))


@asynccontextmanager
async def running(port: int) -> AsyncGenerator[PushService]:
    """Serve on ``port`` while the block runs."""
    service = PushService(f"127.0.0.1:{port}")
    config = Config(service.app(), host="127.0.0.1", port=port, log_config=None, ws="websockets-sansio")
    server = Server(config)
    task = asyncio.create_task(server.serve())
    try:
        yield service
    finally:
        server.should_exit = True
        await task

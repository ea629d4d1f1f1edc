"""What stands between the network and a Gradio app."""

import asyncio
import json
import os
import re
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse

from web_parts.store import TemporaryStore, WebLimits

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

# What the page and the Python client of Gradio ask for. The rest (a proxy, a recorder, editors of
# the app's own code) is of no use here.
_READ = re.compile(
    r'/|/(config|theme\.css|favicon\.ico|manifest\.json|robots\.txt)/?|/(assets|static)/[^?]*|'
    r'/gradio_api/(info|openapi\.json|app_id|startup-events|theme\.css|upload_progress|'
    r'queue/data|heartbeat/\w+|file=.*|call/\w+/\w+|login_check)/?')
_WRITE = re.compile(r'/gradio_api/(upload|queue/join|cancel|reset|call/\w+|call/v2/\w+)/?')
_UPLOAD = '/gradio_api/upload'
_TEXT = ('application/json', 'text/')
# Nothing from elsewhere, whatever the page asks for. Gradio's own page has scripts in it, and
# compiles some.
_POLICY = (b"default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; object-src 'none'; "
           b"base-uri 'self'; form-action 'self'")
# Of a request that is no upload: a few expressions and the names of files.
_MAX_BODY = 1 << 20
# Boundaries and headers around the file of an upload.
_FORM = 1 << 16


class WebGate:
    """ASGI middleware: known addresses only, bounded requests, no path of the server.

    Browsers are told to load nothing from elsewhere.

    Gradio names files by where they lie on the server. In answers the store's folder becomes an
    alias of the same length, and in requests the alias becomes the folder.

    Args:
        app: Gradio's app.
        store: Gradio's temporary files lie in it (``GRADIO_TEMP_DIR``).
        limits: of uploads.
    """

    def __init__(self, app: App, store: TemporaryStore, limits: WebLimits) -> None:
        self.app, self.store, self.limits = app, store, limits
        self._uploads, self._has_rest = 0, False
        self._real = str(store.root).encode()
        self._alias = b'/files'.ljust(len(self._real), b'_')

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope['type'] != 'http':
            if scope['type'] == 'lifespan':
                await self.app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await _refuse(*refusal)(scope, receive, send)
            return
        scope = dict(scope)
        for key in ('raw_path', 'query_string'):
            scope[key] = self._to_real(scope.get(key) or b'')
        scope['path'] = self._to_real(scope['path'].encode()).decode()
        if scope['method'] == 'POST' and scope['path'].startswith(_UPLOAD):
            await self._upload(scope, receive, send)
            return
        if scope['method'] == 'POST':
            body = await self._body(receive)
            refusal = None if body is None else self._unknown_file(body)
            if refusal is not None:
                await _refuse(*refusal)(scope, receive, send)
                return
            receive = _given(body, receive)
        await self.app(scope, receive, self._hiding(send))

    def _refusal(self, scope: Message) -> tuple[int, str] | None:
        """Status and message of a request that goes no further."""
        method, path = scope['method'], scope['path']
        known = _READ if method in ('GET', 'HEAD') else _WRITE if method == 'POST' else None
        if known is None or not known.fullmatch(path):
            return 404, 'Not found'
        if method != 'POST':
            return None
        length = dict(scope['headers']).get(b'content-length')
        if length is None or not length.isdigit():
            return 411, 'expected a request that states its length'
        most = self.limits.max_upload_bytes + _FORM if path.startswith(_UPLOAD) else _MAX_BODY
        if int(length) > most:
            return 413, f'expected at most {most >> 10} KiB, got {int(length) >> 10} KiB'
        if path.startswith(_UPLOAD):
            self.store.trim(reserve=int(length))
        return None

    async def _upload(self, scope: Message, receive: Receive, send: Send) -> None:
        """Let an upload through, in the time that it has; what an aborted one leaves is removed."""
        deadline = time.monotonic() + self.limits.max_upload_seconds
        is_whole = False

        async def read() -> Message:
            nonlocal is_whole
            left = min(self.limits.max_idle_seconds, deadline - time.monotonic())
            try:
                message = await asyncio.wait_for(receive(), left)
            except asyncio.TimeoutError:
                return dict(type='http.disconnect')
            if message['type'] == 'http.request' and not message.get('more_body', False):
                is_whole = True
            return message

        self._uploads += 1
        try:
            await self.app(scope, read, self._hiding(send))
        except ClientDisconnect:
            pass
        finally:
            self._uploads -= 1
            self._has_rest |= not is_whole
            # Another one's file cannot be told from it.
            if self._has_rest and not self._uploads:
                self.store.remove_parts()
                self._has_rest = False

    async def _body(self, receive: Receive) -> bytes | None:
        """A body, with paths in the place of names; None for a client that has gone.

        A body is small, and a name may lie across two of its parts.
        """
        body, more = b'', True
        while more:
            try:
                message = await asyncio.wait_for(receive(), self.limits.max_idle_seconds)
            except asyncio.TimeoutError:
                return None
            if message['type'] != 'http.request':
                return None
            body += message.get('body', b'')
            more = message.get('more_body', False) and len(body) <= _MAX_BODY
        return self._to_real(body)

    def _unknown_file(self, body: bytes) -> tuple[int, str] | None:
        """Status and message for a call that names a file which was not uploaded here."""
        try:
            paths = list(_paths(json.loads(body)))
        except (ValueError, RecursionError):
            return 400, 'expected JSON'
        root = str(self.store.root)
        for path in paths:
            if not isinstance(path, str) or not os.path.realpath(path).startswith(f'{root}/') \
                    or not os.path.isfile(path):
                return 400, ('expected a file that was uploaded here before, and that is not '
                             f'removed yet (they are kept for {self.limits.max_store_minutes:g} '
                             'minutes); send the name that the upload gave')
        return None

    def _hiding(self, send: Send) -> Send:
        """Paths in answers of text become names."""
        is_text = False

        async def write(message: Message) -> None:
            nonlocal is_text
            if message['type'] == 'http.response.start':
                headers = [(name, value.replace(self._real, self._alias))
                           for name, value in message.get('headers', [])]
                kind = dict(headers).get(b'content-type', b'').decode('latin-1')
                is_text = kind.startswith(_TEXT)
                headers += [(b'content-security-policy', _POLICY),
                            (b'x-content-type-options', b'nosniff')]
                message = dict(message, headers=headers)
            elif is_text and message['type'] == 'http.response.body':
                body = message.get('body', b'').replace(self._real, self._alias)
                message = dict(message, body=body)
            await send(message)

        return write

    def _to_real(self, data: bytes) -> bytes:
        return data.replace(self._alias, self._real)


def _paths(value: Any) -> Iterator[Any]:
    """What the files of a call are named by."""
    if isinstance(value, dict):
        if 'path' in value and value['path'] is not None:
            yield value['path']
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from _paths(part)


def _given(body: bytes | None, receive: Receive) -> Receive:
    """A body that was read already, and what comes after it."""
    waiting = [dict(type='http.disconnect') if body is None else
               dict(type='http.request', body=body, more_body=False)]

    async def read() -> Message:
        return waiting.pop() if waiting else await receive()

    return read


def _refuse(status: int, text: str) -> JSONResponse:
    return JSONResponse(dict(detail=text), status, headers={'connection': 'close'})

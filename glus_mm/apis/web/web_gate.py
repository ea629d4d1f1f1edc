"""What stands between the network and a Gradio app."""

import json
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from glus_mm.apis.web.temporary_store import TemporaryStore
from glus_mm.apis.web.web_limits import WebLimits

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
# Nothing from elsewhere, whatever the page asks for. Gradio's own page has scripts in it, and its
# plots compile some.
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
            await _answer(send, *refusal)
            return
        scope = dict(scope)
        for key in ('raw_path', 'query_string'):
            scope[key] = self._to_real(scope.get(key) or b'')
        scope['path'] = self._to_real(scope['path'].encode()).decode()
        await self.app(scope, self._bounded(scope, receive), self._hiding(send))

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
        most = _most(path, self.limits)
        if int(length) > most:
            return 413, f'expected at most {most >> 10} KiB, got {int(length) >> 10} KiB'
        if path.startswith(_UPLOAD):
            self.store.trim(reserve=int(length))
        return None

    def _bounded(self, scope: Message, receive: Receive) -> Receive:
        """Names in the body become paths; an upload goes on as it comes."""
        if scope['method'] != 'POST' or scope['path'].startswith(_UPLOAD):
            return receive
        whole: list[Message] = []

        async def read() -> Message:
            # A body is small, and a name may lie across two of its parts.
            if whole:
                return await receive()
            body, more = b'', True
            while more:
                message = await receive()
                if message['type'] != 'http.request':
                    return message
                body += message.get('body', b'')
                more = message.get('more_body', False) and len(body) <= _MAX_BODY
            whole.append(dict(type='http.request', body=self._to_real(body), more_body=False))
            return whole[0]

        return read

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


def _most(path: str, limits: WebLimits) -> int:
    return limits.max_upload_bytes + _FORM if path.startswith(_UPLOAD) else _MAX_BODY


async def _answer(send: Send, status: int, text: str) -> None:
    body = json.dumps(dict(detail=text)).encode()
    headers = [(b'content-type', b'application/json'),
               (b'content-length', str(len(body)).encode()), (b'connection', b'close')]
    await send(dict(type='http.response.start', status=status, headers=headers))
    await send(dict(type='http.response.body', body=body))

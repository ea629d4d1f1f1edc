"""Segment videos by texts in a browser.

Opens a page on this machine where a video is uploaded or picked and expressions are typed. It
needs no network: the shipped tiny checkpoint serves by default, and nothing is loaded from
elsewhere. Example::

    pip install "glus_mm[demo]"
    python demo/web_demo.py                       # http://127.0.0.1:7860
    python demo/web_demo.py --config CONFIG --checkpoint CHECKPOINT --device cuda
"""

import argparse
import html
import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glus_mm.apis import GLUSInferencer, init_model
from glus_mm.datasets.moving_shapes import generate_video
from glus_mm.utils.config_input import ConfigOptions
from glus_mm.utils.resources import find_resource
from glus_mm.visualization import OverlayVideoWriter
from glus_mm.visualization.local_visualizer import PALETTE
from web_parts import (
    Preview,
    SegmentationResult,
    SegmentationService,
    TemporaryStore,
    WebGate,
    WebInputError,
    WebLimits,
)

if TYPE_CHECKING:
    import gradio as gr

CONFIG = 'configs/glus/glus_tiny_moving-shapes.py'
CHECKPOINT = 'checkpoints/glus_tiny_moving-shapes.pth'
# Videos of MovingShapes that no training saw: number and expressions.
SAMPLES = (
    (46, 'the orange triangle\nthe circle that is yellow\nboth blue shapes'),
    (2, 'the shape that lights up\nthe green diamond\nthe rightmost shape'),
    (54, 'the leftmost shape\nthe shape at the very bottom\nall red shapes'),
)
SAMPLE_SEED, SAMPLE_FPS = 777, 6.0
LIMITS = dict(
    max_upload_mb='largest file', max_seconds='longest video',
    max_frames='most frames that are segmented',
    max_megapixels='larger frames are scaled down to this',
    max_work_seconds='time that the model may work on a run')
FRAME_RATES = (('all frames', 0), ('at most 12', 12), ('at most 6', 6), ('at most 3', 3))
DEFAULT_FPS = 12
CSS = """
.gradio-container {max-width: 1280px !important; width: 100%; margin: 0 auto !important}
/* Gradio's trimming tool would load FFmpeg from a CDN. */
#video button[aria-label^="Trim"], #video button[aria-label^="Reset"] {display: none}
#status progress {width: 100%; height: .6em}
#status .error {color: #b91c1c; font-weight: 600; overflow-wrap: anywhere}
#status .note {opacity: .8; overflow-wrap: anywhere}
#plot svg {width: 100%; height: 180px; overflow: visible}
#plot ul {list-style: none; padding: 0; margin: .3em 0}
#plot li {overflow-wrap: anywhere}
#plot li span {display: inline-block; width: .8em; height: .8em; margin-right: .5em}
"""
TINY_KNOWS = ('This model knows coloured shapes only, such as those of the samples: it is a small '
              'one that shows how the page works. On a video of your own it will find nothing '
              'sensible.')
_SHOW_STATUS = ("() => document.querySelector('#status').scrollIntoView("
                "{behavior: 'smooth', block: window.innerWidth < 800 ? 'start' : 'nearest'})")
INTRO = ('# Find it by words\nType what to look for, one expression on each line; every one gets '
         'a mask on every frame, in its own colour.')
CLICKS = ('**Wrong mask?** Choose whose it is, then click on the frame: on what is missing, or, '
          'with *off it*, on what is too much. The frames after it follow.')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description='Segment videos by texts in a browser')
    parser.add_argument('--config', default=CONFIG, help='config file (default: %(default)s)')
    parser.add_argument('--checkpoint', default=CHECKPOINT,
                        help='its weights (default: %(default)s)')
    parser.add_argument('--device', default='auto',
                        help='cpu, cuda, cuda:1, mps or auto (default: %(default)s)')
    parser.add_argument('--about', metavar='TEXT',
                        help='what the model was trained on, said above the upload (default: for '
                             'the shipped model what it knows, else the name of the config)')
    parser.add_argument('--host', default='127.0.0.1',
                        help='address to listen on; 0.0.0.0 opens the page to the network '
                             '(default: %(default)s)')
    parser.add_argument('--port', type=int, default=7860,
                        help='port; 0 takes a free one (default: %(default)s)')
    for name, what in LIMITS.items():
        default = getattr(WebLimits(), name)
        parser.add_argument(f'--{name.replace("work", "run").replace("_", "-")}', dest=name,
                            type=int if name == 'max_frames' else float,
                            default=default, help=f'{what} (default: %(default)s)')
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, metavar='K=V',
                        help='override config values: a.b=1 c="[1,2]"')
    args = parser.parse_args(argv)
    if not 0 <= args.port < 1 << 16:
        parser.error(f'expected --port in 0..65535, got {args.port}')
    return args


def write_samples(folder: Path) -> list[tuple[Path, str]]:
    """Generate the sample videos.

    Returns:
        Path and expressions of each.
    """
    samples = []
    for number, (index, texts) in enumerate(SAMPLES, 1):
        path = folder / f'sample_{number}.mp4'
        with OverlayVideoWriter(path, SAMPLE_FPS) as writer:
            for frame in generate_video(SAMPLE_SEED, 'valid_u', index).frames:
                writer.write(frame)
        samples.append((path, texts))
    return samples


def result_html(result: SegmentationResult) -> str:
    """What came out, for the status line; texts of users are escaped."""
    lines = [f'Done: {_count(len(result.texts), "expression")} on '
             f'{_count(result.num_frames, "frame")} in {result.seconds:.1f} s']
    lines += [f'<span class="note">{html.escape(note)}</span>' for note in result.notes]
    return outcome_html('<br>'.join(lines))


def error_html(error: WebInputError) -> str:
    """What a user did wrong, for the status line."""
    return outcome_html(f'<span class="error">{html.escape(str(error)[:500])}</span>')


def changed_html(what: str, changed: Sequence[int]) -> str:
    """What a click, or taking it back, has changed, for the status line."""
    return outcome_html(f'{what}: the masks of frames {changed[0]} to {changed[-1]} are new.')


def outcome_html(content: str) -> str:
    """The end of a run; a mark of its own tells it from the same words of an earlier one."""
    return f'<div data-run="{secrets.token_hex(4)}">{content}</div>'


def _count(number: int, noun: str) -> str:
    return f'{number} {noun}{"s" * (number != 1)}'


def curves_html(result: SegmentationResult) -> str:
    """The scores over time with a legend of the whole texts; nothing where there are none."""
    if result.curves is None:
        return ''
    width, height, last = 600, 180, max(1, result.num_frames - 1)
    lines, legend = [], []
    for e, (text, track) in enumerate(zip(result.texts, result.curves)):
        color = '#' + bytes(PALETTE[e % len(PALETTE)]).hex()
        points = ' '.join(f'{t / last * width:.1f},{height * (1 - min(max(score, 0), 1)):.1f}'
                          for t, score in enumerate(track.tolist()) if score == score)
        lines.append(f'<polyline points="{points}" fill="none" stroke="{color}" '
                     'stroke-width="2.5" vector-effect="non-scaling-stroke"/>')
        legend.append(f'<li><span style="background:{color}"></span>{html.escape(text)}</li>')
    grid = ''.join(f'<line x1="0" x2="{width}" y1="{y}" y2="{y}"/>'
                   for y in (0, height / 2, height))
    return (f'<figure><figcaption>{html.escape(result.curve_title)}, 0 to 1, over '
            f'{_count(result.num_frames, "frame")}</figcaption>'
            f'<svg viewBox="0 -2 {width} {height + 4}" preserveAspectRatio="none">'
            f'<g stroke="currentColor" stroke-opacity=".25">{grid}</g>{"".join(lines)}</svg>'
            f'<ul>{"".join(legend)}</ul></figure>')


def build_page(service: SegmentationService, samples: list[tuple[Path, str]],
               knows: str = '') -> 'gr.Blocks':
    """Lay out the page; what it does is the service's.

    Args:
        service: segments.
        samples: path and expressions of the sample videos.
        knows: what the model was trained on, in words.
    """
    import gradio as gr

    limits = service.limits
    with gr.Blocks(title='glus_mm', analytics_enabled=False) as page:
        gr.Markdown(INTRO)
        result = gr.State(None, time_to_live=limits.max_store_minutes * 60)
        with gr.Row():
            with gr.Column(scale=2):
                if knows:
                    gr.Markdown(knows, elem_id='knows')
                video = gr.Video(label='Video', sources=['upload'], elem_id='video', height=280)
                with gr.Row():
                    buttons = [gr.Button(f'Sample {number}', size='sm', min_width=80,
                                         elem_id=f'sample{number}')
                               for number in range(1, len(samples) + 1)]
                text = gr.Textbox(label='Expressions, one on each line', lines=3, elem_id='text',
                                  max_lines=8, placeholder='the red circle\nthe leftmost shape')
                fps = gr.Dropdown(FRAME_RATES, value=DEFAULT_FPS, label='Frames per second',
                                  elem_id='fps')
                with gr.Row():
                    start = gr.Button('Segment', variant='primary', elem_id='start')
                    stop = gr.Button('Stop', elem_id='stop')
                gr.Markdown(
                    f'At most {limits.max_upload_mb:g} MB, {limits.max_seconds:g} seconds, '
                    f'{limits.max_frames} frames, and {limits.max_texts} expressions of '
                    f'{limits.max_tokens} tokens; larger frames than {limits.max_megapixels:g} '
                    f'megapixels are scaled down. A run may take '
                    f'{limits.max_work_seconds:g} seconds. Files are removed after '
                    f'{limits.max_store_minutes:g} minutes.')
            with gr.Column(scale=3):
                status = gr.HTML('Ready.', elem_id='status')
                with gr.Tab('Frames'):
                    frame = gr.Image(label='Frame', elem_id='frame', format='jpeg', height=430,
                                     buttons=['fullscreen'], interactive=False)
                    slider = gr.Slider(0, 1, value=0, step=1, label='Frame', elem_id='slider',
                                       interactive=False)
                    gr.Markdown(CLICKS)
                    with gr.Row(equal_height=True):
                        which = gr.Dropdown([], label='Correct the mask of', elem_id='which',
                                            interactive=False, scale=3)
                        label = gr.Radio([('on the object', 1), ('off it', 0)], value=1,
                                         label='The click is', elem_id='label', scale=2)
                        undo = gr.Button('Undo', elem_id='undo', interactive=False, scale=1,
                                         min_width=80)
                with gr.Tab('Video', elem_id='tab_video'):
                    overlay = gr.Video(label='Overlay', elem_id='overlay', height=490,
                                       interactive=False, loop=True, autoplay=True)
                plot = gr.HTML(elem_id='plot')
                with gr.Row():
                    masks_zip = gr.DownloadButton('Masks (PNG)', elem_id='zip', interactive=False)
                    masks_json = gr.DownloadButton('Masks (RLE, JSON)', elem_id='json',
                                                   interactive=False)
        outputs = [status, frame, slider, overlay, plot, masks_zip, masks_json, result, which,
                   undo]

        def run(video: str | None, text: str, fps: float | None) -> Iterator[dict]:
            """Segment a video; the API's only call."""
            yield {status: 'Reading the video …', slider: gr.update(interactive=False),
                   frame: None, overlay: None, result: None, plot: '',
                   **{part: gr.update(interactive=False)
                      for part in (masks_zip, masks_json, which, undo)}}
            try:
                for event in service.segment(video, text, fps):
                    if isinstance(event, Preview):
                        bar = f'<progress max="{event.total}" value="{event.done}"></progress><br>'
                        yield {status: f'{bar}{event.done} of {event.total} masks',
                               frame: event.image,
                               slider: gr.update(value=event.frame_idx, maximum=max(
                                   1, event.frame_idx))}
                    else:
                        yield finished(event)
            except WebInputError as error:
                yield {status: error_html(error)}

        def finished(done: SegmentationResult) -> dict:
            last = max(1, done.num_frames - 1)
            return {
                **files(done, 0), status: result_html(done),
                slider: gr.update(value=0, maximum=last, interactive=done.num_frames > 1),
                which: gr.update(choices=[(text, e) for e, text in enumerate(done.texts)], value=0,
                                 interactive=bool(done.key)),
                undo: gr.update(interactive=bool(done.key))}

        def files(done: SegmentationResult, frame_idx: float) -> dict:
            return {
                result: done, frame: str(done.frame(int(frame_idx))), overlay: str(done.overlay),
                plot: curves_html(done),
                masks_zip: gr.update(value=str(done.masks_zip), interactive=True),
                masks_json: gr.update(value=str(done.masks_json), interactive=True)}

        def correct(done: SegmentationResult | None, frame_idx: float, expression: int | None,
                    value: int, click: gr.SelectData) -> dict:
            """A click on the frame that is shown."""
            if done is None or expression is None:
                return {status: outcome_html('Segment a video first, then correct its masks.')}
            try:
                new, changed = service.refine(done, expression, int(frame_idx), click.index, value)
            except WebInputError as error:
                return {status: error_html(error)}
            return {**files(new, frame_idx),
                    status: changed_html('Corrected', changed)}

        def take_back(done: SegmentationResult | None, frame_idx: float) -> dict:
            if done is None:
                return {status: outcome_html('There is nothing to take back.')}
            try:
                new, changed = service.undo(done)
            except WebInputError as error:
                return {status: error_html(error)}
            return {**files(new, frame_idx), status: changed_html('Taken back', changed)}

        def show(done: SegmentationResult | None, frame_idx: float) -> Any:
            path = done.frame(int(frame_idx)) if done is not None else None
            return gr.skip() if path is None else str(path)

        # One model: runs and clicks take turns.
        turns = dict(concurrency_id='model', concurrency_limit=1, trigger_mode='once')
        running = start.click(run, [video, text, fps], outputs, **turns, api_name='segment',
                              show_progress='minimal', show_progress_on=[status])
        frame.select(correct, [result, slider, which, label], outputs, **turns,
                     show_progress='minimal', show_progress_on=[status], api_visibility='private')
        undo.click(take_back, [result, slider], outputs, **turns, show_progress='hidden',
                   api_visibility='private')
        # On a narrow screen what comes now is below.
        start.click(None, None, None, js=_SHOW_STATUS, api_visibility='private')
        stop.click(lambda: 'Stopped.', None, status, cancels=[running], queue=False,
                   api_visibility='private')
        slider.input(show, [result, slider], frame, show_progress='hidden',
                     trigger_mode='always_last', api_visibility='private', concurrency_limit=4)
        for button, (path, texts) in zip(buttons, samples):
            button.click(lambda path=str(path), texts=texts: (path, texts), None, [video, text],
                         api_visibility='private', show_progress='hidden')
    return page.queue(max_size=limits.max_waiting, api_open=False)


def launch(service: SegmentationService, samples: list[tuple[Path, str]], host: str, port: int,
           knows: str = '') -> 'gr.Blocks':
    """Serve the page from threads of this process.

    Args:
        service: segments; its store has to be Gradio's folder, see :func:`use_store`.
        samples: path and expressions of the sample videos.
        host: address to listen on.
        port: 0 takes a free one.
        knows: what the model was trained on, in words.

    Returns:
        The page; ``local_url`` is its address, ``close()`` ends it.

    Raises:
        OSError: the port is taken.
    """
    import gradio as gr
    from starlette.middleware import Middleware

    page = build_page(service, samples, knows)
    gate = Middleware(WebGate, store=service.store, limits=service.limits)
    # The fonts of the visitor's system: Gradio's own come from a CDN in some themes.
    theme = gr.themes.Soft(font=['system-ui', 'sans-serif'], font_mono=['monospace'])
    page.launch(
        server_name=host, server_port=port or free_port(host), share=False, quiet=True,
        inbrowser=False, show_error=False, prevent_thread_lock=True, ssr_mode=False, pwa=False,
        mcp_server=False, enable_monitoring=False, run_history=False, footer_links=[],
        allowed_paths=[], max_file_size=service.limits.max_upload_bytes,
        state_session_capacity=100, app_kwargs=dict(middleware=[gate]), theme=theme, css=CSS)
    close_idle(page.server, service.limits.max_idle_seconds)
    return page


def close_idle(server: Any, seconds: float) -> None:
    """Close connections that have no request for some time, in a thread that ends with the server.

    Uvicorn itself does so only after an answer: who never finishes a request would stay for ever.

    Args:
        server: uvicorn's.
        seconds: how long one may wait for a whole head of a request.
    """
    def work() -> None:
        waiting: dict[Any, float] = {}
        while not server.should_exit:
            time.sleep(min(1.0, seconds / 4))
            now, before, waiting = time.monotonic(), waiting, {}
            for connection in list(server.server_state.connections):
                request = getattr(connection, 'cycle', None)
                if request is not None and not request.response_complete:
                    continue
                waiting[connection] = before.get(connection, now)
                if now - waiting[connection] > seconds:
                    connection.loop.call_soon_threadsafe(connection.transport.close)

    threading.Thread(target=work, name='close_idle', daemon=True).start()


def free_port(host: str) -> int:
    """A port that nobody listens on; Gradio would take the next of a hundred fixed ones."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]


def use_store(store: TemporaryStore) -> None:
    """Let Gradio, which must not be imported yet, put its files there and stay off the network."""
    os.environ.update(
        GRADIO_TEMP_DIR=str(store.root), GRADIO_EXAMPLES_CACHE=str(store.root / 'examples'),
        GRADIO_ANALYTICS_ENABLED='False', HF_HUB_DISABLE_TELEMETRY='1')


def main(argv: list[str] | None = None) -> None:
    """Check what was asked for, then serve until interrupted."""
    args = parse_args(argv)
    try:
        limits = WebLimits(**{name: getattr(args, name) for name in LIMITS})
        print(f'Loading {args.checkpoint} ...', flush=True)
        model = init_model(find_resource(args.config), find_resource(args.checkpoint),
                           args.device, args.cfg_options)
    except (ImportError, OSError, KeyError, TypeError, ValueError) as error:
        sys.exit(f'web_demo.py: error: {error}')
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with TemporaryStore(int(limits.max_store_mb * 2**20), limits.max_store_minutes * 60) as store, \
            TemporaryStore(1 << 30, float('inf')) as samples:
        use_store(store)
        try:
            import gradio  # noqa: F401 - says early that it is missing
        except ImportError:
            sys.exit('web_demo.py: error: expected Gradio, which is not installed: '
                     'pip install "glus_mm[demo]"')
        store.sweep()
        service = SegmentationService(GLUSInferencer(model), store, limits)
        try:
            page = launch(service, write_samples(samples.root), args.host, args.port,
                          args.about if args.about is not None else TINY_KNOWS
                          if args.config == CONFIG else f'Model: {Path(args.config).stem}')
        except OSError as error:
            sys.exit(f'web_demo.py: error: {error}')
        print(f'Open {page.local_url} in a browser; Ctrl+C ends the demo.', flush=True)
        ended.wait()
        page.close()


if __name__ == '__main__':
    main()

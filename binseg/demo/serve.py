"""The page on a port of this machine, with the limits that strangers' requests need."""

import logging
import signal
import sys
import warnings
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import cv2
import gradio as gr
from gradio.routes import App

from binseg.demo.guard import Guard
from binseg.demo.hosts import AnsweredNames
from binseg.demo.page import Page
from binseg.demo.uploads import LARGEST_FILE
from binseg.demo.viewer import ASSETS
from binseg.errors import BinsegError
from binseg.malloc import ARENA_MAX, set_malloc

HOST = "127.0.0.1"

_SESSIONS = 20  # whose components gradio remembers, which takes memory; the page needs none of it

# no font is fetched from anywhere
_FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif"]
_MONO = ["ui-monospace", "Menlo", "Consolas", "monospace"]


def launch(
    page: Page,
    *,
    host: str = HOST,
    port: int | None = None,
    share: bool = False,
    open_browser: bool = False,
    allowed_hosts: Sequence[str] = (),
) -> str:
    """Serve the page in threads of this process.

    Args:
        page: what `binseg.demo.build` gives.
        host: address to listen at; only this machine reaches the default. The page answers only
            to names that belong to it, see `AnsweredNames`.
        port: None: the first free one from 7860.
        share: open a tunnel to a public address, through gradio's servers.
        open_browser: open the page in a browser, too.
        allowed_hosts: further names that the page answers to, for example a proxy's.

    Returns:
        The page's address.

    Raises:
        BinsegError: the port is taken, or the host is none of this machine's.
    """
    # each of the server's threads would keep a heap of its own, with the holes of its last image
    set_malloc(ARENA_MAX, 1)
    # strangers are told what is wrong with their forms and images; the log need not say it, too
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    names = AnsweredNames(host, allowed_hosts)

    @asynccontextmanager
    async def guarded(app: App) -> AsyncIterator[None]:
        # outside all that gradio answers by itself; no request is answered before this is done
        assert app.middleware_stack is not None
        app.middleware_stack = Guard(app.middleware_stack, page, names)
        yield

    try:
        _, address, public = page.launch(
            # in addresses IPv6 has brackets
            server_name=f"[{host}]" if ":" in host and not host.startswith("[") else host,
            server_port=port,
            share=share,
            inbrowser=open_browser,
            prevent_thread_lock=True,
            quiet=True,
            show_error=False,
            max_file_size=LARGEST_FILE,
            enable_monitoring=False,
            num_workers=0,
            app_kwargs={"lifespan": guarded},
            state_session_capacity=_SESSIONS,
            ssr_mode=False,
            mcp_server=False,
            pwa=False,
            footer_links=["api"],
            favicon_path=ASSETS / "favicon.png",
            theme=_theme(),
            css=(ASSETS / "page.css").read_text(),
        )
    except OSError as error:
        where = f"{host}, port {port or '7860 to 7959'}"
        raise BinsegError(
            f"the demo cannot listen at {where}; choose another --port or --host"
        ) from error
    if public:
        names.add(public.partition("://")[2].rstrip("/"))
    return public or address


def wait(page: Page, address: str) -> None:
    """Say where the page is, and return when Ctrl-C or SIGTERM ends it; in the main thread."""
    # a process that ends by the signal itself leaves its temporary files behind
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(f"the demo is at {address} (Ctrl-C ends it)", flush=True)
    page.block_thread()


def _theme() -> gr.Theme:
    return gr.themes.Base(primary_hue="blue", neutral_hue="gray", font=_FONTS, font_mono=_MONO)

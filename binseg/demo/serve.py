"""The page on a port of this machine, with the limits that strangers' uploads need."""

import signal
import sys

import gradio as gr

from binseg.demo.viewer import ASSETS
from binseg.errors import BinsegError
from binseg.malloc import ARENA_MAX, set_malloc

LARGEST_FILE = 40 * 2**20
"""Bytes of an upload."""

HOST = "127.0.0.1"

_SESSIONS = 20  # whose components gradio remembers, which takes memory; the page needs none of it

# no font is fetched from anywhere
_FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif"]
_MONO = ["ui-monospace", "Menlo", "Consolas", "monospace"]


def launch(
    page: gr.Blocks,
    *,
    host: str = HOST,
    port: int | None = None,
    share: bool = False,
    open_browser: bool = False,
) -> str:
    """Serve the page in threads of this process.

    Args:
        page: what `binseg.demo.build` gives.
        host: address to listen at; only this machine reaches the default.
        port: None: the first free one from 7860.
        share: open a tunnel to a public address, through gradio's servers.
        open_browser: open the page in a browser, too.

    Returns:
        The page's address.

    Raises:
        BinsegError: the port is taken, or the host is none of this machine's.
    """
    # each of the server's threads would keep a heap of its own, with the holes of its last picture
    set_malloc(ARENA_MAX, 1)
    try:
        _, address, public = page.launch(
            server_name=host,
            server_port=port,
            share=share,
            inbrowser=open_browser,
            prevent_thread_lock=True,
            quiet=True,
            show_error=False,
            max_file_size=LARGEST_FILE,
            run_history=False,
            enable_monitoring=False,
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
    return public or address


def wait(page: gr.Blocks, address: str) -> None:
    """Say where the page is, and return when Ctrl-C or SIGTERM ends it; in the main thread."""
    # a process that ends by the signal itself leaves its temporary files behind
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(f"the demo is at {address} (Ctrl-C ends it)", flush=True)
    page.block_thread()


def _theme() -> gr.Theme:
    return gr.themes.Base(primary_hue="blue", neutral_hue="gray", font=_FONTS, font_mono=_MONO)

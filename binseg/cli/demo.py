"""`binseg demo`: the page in a browser."""


def demo(
    models: list[str] = [],  # noqa: B006 - the parser only reads it
    port: int | None = None,
    host: str = "127.0.0.1",
    share: bool = False,
    open: bool = False,
    allowed_hosts: list[str] = [],  # noqa: B006 - as above
) -> int:
    """Show what 1-bit networks see in images and videos, on a page in the browser.

    Args:
        models: model files, run folders, hf:user/name or shipped names; without any, the shipped
            ones.
        port: port to listen at; without it, the first free one from 7860.
        host: address to listen at; only this machine reaches the default, 0.0.0.0 is for all. The
            page answers to this machine's names and addresses only.
        share: open a tunnel from a public address to the page, through gradio's servers.
        open: open the page in the browser.
        allowed_hosts: further names that the page answers to, for example a proxy's.

    Returns:
        0, when Ctrl-C ended it.
    """
    from binseg.demo import build, import_gradio

    import_gradio()
    from binseg.demo.serve import launch, wait

    page = build(models)
    address = launch(
        page,
        host=host,
        port=port,
        share=share,
        open_browser=open,
        allowed_hosts=allowed_hosts,
    )
    wait(page, address)
    return 0

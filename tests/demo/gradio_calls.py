"""How the tests address gradio."""

import httpx

API = "/gradio_api"


def functions(web: httpx.Client) -> dict[str, int]:
    """Gradio's numbers of the page's functions, by the names of the methods behind them."""
    found = web.get("/config").json()["dependencies"]
    return {each["api_name"]: each["id"] for each in found}

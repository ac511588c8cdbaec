"""The demo, for `python app.py` and for hosts that look for `demo` in a file of this name."""

import os

from binseg.demo import build

demo = build()

if __name__ == "__main__":
    from binseg.demo.serve import HOST, launch, wait

    # as Hugging Face's Spaces set them
    host, public = os.environ.get("GRADIO_SERVER_NAME", HOST), os.environ.get("SPACE_HOST")
    wait(demo, launch(demo, host=host, allowed_hosts=[public] if public else []))

"""The demo, for `python app.py` and for hosts that look for `demo` in a file of this name."""

import os

from binseg.demo import build
from binseg.demo.serve import HOST, launch, wait

demo = build()

if __name__ == "__main__":
    wait(demo, launch(demo, host=os.environ.get("GRADIO_SERVER_NAME", HOST)))

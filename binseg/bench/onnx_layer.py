"""One 8-bit convolution for ONNX Runtime."""

from collections.abc import Callable
from typing import Any

import numpy as np


def onnx_conv(
    channels: int, height: int, width: int, dilation: int, threads: int
) -> Callable[[], Any]:
    """A 3×3 convolution of bytes, "same" size, weights scaled per channel.

    Bytes come out as they go in, channels last: ONNX Runtime's own operator for that, since the
    standard one would spend a tenth of its time on changing the layout.

    Raises:
        ImportError: onnx or onnxruntime is missing.
    """
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    constants = {
        "x_scale": np.float32(0.02),
        "x_zero": np.uint8(128),
        "w": rng.integers(-127, 128, (channels, channels, 3, 3), np.int8, endpoint=False),
        "w_scale": np.full(channels, 0.01, np.float32),
        "w_zero": np.zeros(channels, np.int8),
        "y_scale": np.float32(0.1),
        "y_zero": np.uint8(128),
    }
    node = helper.make_node(
        "QLinearConv",
        ["x", *constants],
        ["y"],
        domain="com.microsoft",
        channels_last=1,
        pads=[dilation] * 4,
        dilations=[dilation] * 2,
        kernel_shape=[3, 3],
    )
    size = [1, height, width, channels]
    graph = helper.make_graph(
        [node],
        "convolution",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, size)],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, size)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    operators = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=operators, ir_version=8)
    run = session(model.SerializeToString(), threads)
    x = rng.integers(0, 256, size, np.uint8)
    return lambda: run.run(None, {"x": x})


def session(model: bytes | str, threads: int) -> Any:
    """An ONNX Runtime session on the CPU with `threads` threads inside an operator.

    Args:
        model: a file's path or its content.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # a pool that goes on spinning would take the cores from the sides that come after
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

"""The classifier: slopes of the grey values in eight directions, averaged over cells, then two dense layers. One ONNX graph holds all of it."""

import hashlib
import json
import pathlib

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from scipy import ndimage
from sklearn.neural_network import MLPClassifier

from data import SIDE

DIRECTIONS = 8
KERNEL = 5
CELL = 4
OPSET = 17
# What ONNX Runtime releases since 2023 read.
IR_VERSION = 9


def kernels() -> np.ndarray:
    """FP32 [directions, 5, 5]: the derivative of a Gaussian in each direction."""
    steps = np.arange(KERNEL) - KERNEL // 2
    y, x = np.meshgrid(steps, steps, indexing="ij")
    window = np.exp(-(x**2 + y**2) / 2)
    made = []
    for angle in 2 * np.pi * np.arange(DIRECTIONS) / DIRECTIONS:
        slope = window * (x * np.cos(angle) + y * np.sin(angle))
        made.append(2 * slope / np.abs(slope).sum())
    return np.stack(made).astype(np.float32)


def features(images: np.ndarray) -> np.ndarray:
    """FP32 [rows, directions * cells] of images [rows, 28, 28]: what the graph's first four nodes compute."""
    cells = SIDE // CELL
    columns = []
    for kernel in kernels():
        rising = np.maximum(ndimage.correlate(images, kernel[np.newaxis], mode="constant"), 0)
        columns.append(rising.reshape(len(images), cells, CELL, cells, CELL).mean(axis=(2, 4)).reshape(len(images), cells * cells))
    return np.concatenate(columns, axis=1)


def graph(mean: np.ndarray, deviation: np.ndarray, network: MLPClassifier) -> onnx.ModelProto:
    """`image` FP32 [rows, 28, 28] to `probabilities` FP32 [rows, 10]."""
    (first, second), (first_bias, second_bias) = network.coefs_, network.intercepts_
    # Standardisation is linear, so it is folded into the first layer.
    folded = first / deviation[:, np.newaxis]
    constants = {
        "channel": np.array([1], dtype=np.int64),
        "kernels": kernels()[:, np.newaxis],
        "weights_1": folded.astype(np.float32),
        "bias_1": (first_bias - mean @ folded).astype(np.float32),
        "weights_2": second.astype(np.float32),
        "bias_2": second_bias.astype(np.float32),
    }
    border = KERNEL // 2
    nodes = [
        helper.make_node("Unsqueeze", ["image", "channel"], ["with_channel"]),
        helper.make_node("Conv", ["with_channel", "kernels"], ["slopes"], kernel_shape=[KERNEL, KERNEL], pads=[border] * 4),
        helper.make_node("Relu", ["slopes"], ["rising"]),
        helper.make_node("AveragePool", ["rising"], ["cells"], kernel_shape=[CELL, CELL], strides=[CELL, CELL]),
        helper.make_node("Flatten", ["cells"], ["features"], axis=1),
        helper.make_node("Gemm", ["features", "weights_1", "bias_1"], ["dense_1"]),
        helper.make_node("Relu", ["dense_1"], ["hidden"]),
        helper.make_node("Gemm", ["hidden", "weights_2", "bias_2"], ["dense_2"]),
        helper.make_node("Softmax", ["dense_2"], ["probabilities"], axis=1),
    ]
    made = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["rows", SIDE, SIDE])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["rows", 10])],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="spillway-example-digits")
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model, full_check=True)
    return model


def probabilities(path: pathlib.Path, images: np.ndarray) -> np.ndarray:
    """What the file that is served answers."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"image": batch})[0] for batch in np.array_split(images, max(1, len(images) // 256))])


def write_golden(path: pathlib.Path, images: np.ndarray, answers: np.ndarray) -> None:
    """Requests that a version must answer so before it takes traffic."""
    tensors = [("inputs", "image", images, 3), ("outputs", "probabilities", answers, 6)]
    request = {
        key: [{"name": name, "datatype": "FP32", "shape": list(values.shape), "data": [round(float(value), digits) for value in values.ravel()]}]
        for key, name, values, digits in tensors
    }
    path.write_text(json.dumps({"requests": [{**request, "tolerance": 1e-4}]}, separators=(",", ":")) + "\n")


def digest(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()

"""The models as ONNX graphs: input `features` FP32 [rows, n], output `probability` FP32 [rows, 1], standardisation inside."""

import pathlib

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

OPSET = 17
# What ONNX Runtime releases since 2023 read.
IR_VERSION = 9


class Graph:
    """Nodes and constants under construction."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, values: np.ndarray) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values, dtype=np.float32), name))
        return name

    def node(self, operator: str, *inputs: str, output: str | None = None, **attributes: int) -> str:
        name = output or f"value_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def model(self, name: str, feature_count: int) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            name,
            [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["rows", feature_count])],
            [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["rows", 1])],
            self.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="spillway-example-fraud")
        model.ir_version = IR_VERSION
        onnx.checker.check_model(model, full_check=True)
        return model


def logistic_regression(scaler: StandardScaler, model: LogisticRegression) -> onnx.ModelProto:
    # Standardisation is linear, so it is folded into the weights: w · (x - m) / s + b.
    weights = model.coef_ / scaler.scale_
    bias = model.intercept_ - weights @ scaler.mean_
    graph = Graph()
    logit = graph.node("Gemm", "features", graph.constant(weights.T), graph.constant(bias))
    graph.node("Sigmoid", logit, output="probability")
    return graph.model("fraud-cheap", weights.shape[1])


def network_ensemble(scaler: StandardScaler, members: list[MLPClassifier]) -> onnx.ModelProto:
    graph = Graph()
    centred = graph.node("Sub", "features", graph.constant(scaler.mean_))
    standardised = graph.node("Div", centred, graph.constant(scaler.scale_))
    magnitude = graph.node("Log", graph.node("Add", graph.node("Abs", standardised), graph.constant(np.ones(1))))
    squashed = graph.node("Mul", graph.node("Sign", standardised), magnitude)
    probabilities = []
    for member in members:
        value = squashed
        layers = list(zip(member.coefs_, member.intercepts_, strict=True))
        for index, (weights, bias) in enumerate(layers):
            value = graph.node("Gemm", value, graph.constant(weights), graph.constant(bias))
            value = graph.node("Relu" if index < len(layers) - 1 else "Sigmoid", value)
        probabilities.append(value)
    graph.node("Mean", *probabilities, output="probability")
    return graph.model("fraud-heavy", len(scaler.mean_))


def save(model: onnx.ModelProto, path: pathlib.Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)


def score(path: pathlib.Path, features: np.ndarray) -> np.ndarray:
    """Probability a row, rounded to 6 decimals as every decision sees it."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    batches = np.array_split(features, max(1, len(features) // 8192))
    return np.round(np.concatenate([session.run(None, {"features": batch})[0][:, 0] for batch in batches]).astype(np.float64), 6)

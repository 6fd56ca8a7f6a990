"""Calls a model service with Triton's own client and asserts what comes back.

Usage: triton_client.py HTTP_ADDRESS GRPC_ADDRESS ONNX_FILE

The service has the models of `oip-fixture.ts` and is under explicit control; ONNX_FILE is a logistic model with 3 features.
"""

import asyncio
import json
import queue
import sys

import numpy as np
import tritonclient.grpc as grpc
import tritonclient.grpc.aio as grpc_aio
import tritonclient.http as http
import tritonclient.http.aio as http_aio
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

http_address, grpc_address, onnx_file = sys.argv[1:4]
checks = 0


def check(condition, what):
    global checks
    assert condition, what
    checks += 1


def refused(call, *texts):
    try:
        call()
    except InferenceServerException as error:
        for text in texts:
            check(text in str(error), f"{error} does not say {text}")
        return error
    raise AssertionError(f"it should have been refused: {texts}")


def tensor(module, name, array, **options):
    made = module.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    made.set_data_from_numpy(array, **options)
    return made


ARRAYS = {
    "BOOL": np.array([[True, False]]),
    "UINT8": np.array([[0, 255]], np.uint8),
    "UINT16": np.array([[0, 65535]], np.uint16),
    "UINT32": np.array([[0, 2**32 - 1]], np.uint32),
    "UINT64": np.array([[2**53 + 1, 2**64 - 1]], np.uint64),
    "INT8": np.array([[-128, 127]], np.int8),
    "INT16": np.array([[-(2**15), 2**15 - 1]], np.int16),
    "INT32": np.array([[-(2**31), 2**31 - 1]], np.int32),
    "INT64": np.array([[-(2**63), 2**53 + 1]], np.int64),
    "FP16": np.array([[0.5, -65504]], np.float16),
    "FP32": np.array([[0.1, -1e-45]], np.float32),
    "FP64": np.array([[0.1, 1e300]], np.float64),
    "BYTES": np.array([["a", "Grüße"]], dtype=np.object_),
}
TEXTS = [b"a", "Grüße".encode()]


def same(datatype, given, found):
    if datatype == "BYTES":
        return [item.encode() if isinstance(item, str) else item for item in found.flatten()] == TEXTS
    return found.dtype == given.dtype and np.array_equal(given, found)


def about(client, as_dict):
    """Health, metadata, configuration, statistics: the same over both protocols. `as_dict`: how the client is asked for plain values."""
    check(client.is_server_live() and client.is_server_ready(), "live and ready")
    check(client.is_model_ready("logistic"), "model ready")
    check(client.is_model_ready("logistic", "2"), "version ready")
    check(not client.is_model_ready("logistic", "7"), "version not ready")
    check(not client.is_model_ready("nobody"), "model not ready")
    metadata = client.get_server_metadata(**as_dict)
    check(metadata["name"] == "triton", metadata)
    check("binary_tensor_data" in metadata["extensions"], metadata)
    model = client.get_model_metadata("pair", **as_dict)
    check([item["name"] for item in model["inputs"]] == ["a", "n"], model)
    check([int(size) for size in model["inputs"][0]["shape"]] == [-1, 2], model)
    check(model["platform"] == "onnxruntime_onnx", model)
    config = client.get_model_config("pair", **as_dict)
    config = config.get("config", config)
    check(config["max_batch_size"] == 1024 and config["input"][0]["data_type"] == "TYPE_FP32", config)
    check([int(size) for size in config["input"][0]["dims"]] == [2], config)
    statistics = client.get_inference_statistics("pair", **as_dict)["model_stats"]
    check(statistics[0]["name"] == "pair" and statistics[0]["version"] == "1", statistics)
    check(len(client.get_inference_statistics(**as_dict)["model_stats"]) > 10, "statistics of all")
    refused(lambda: client.get_model_metadata("nobody"), "Request for unknown model: 'nobody' is not found")


def control(client, as_dict):
    """Repository control: the same over both protocols."""

    def index():
        lines = client.get_model_repository_index(**as_dict)
        lines = lines["models"] if isinstance(lines, dict) else lines
        return {(line["name"], line.get("version", "")): line.get("state", "") for line in lines}

    check(index()[("logistic", "2")] == "READY", index())
    client.unload_model("logistic")
    check(not client.is_model_ready("logistic"), "unloaded")
    check(index()[("logistic", "2")] == "UNAVAILABLE", index())
    client.load_model("logistic")
    check(client.is_model_ready("logistic"), "loaded again")
    with open(onnx_file, "rb") as file:
        content = file.read()
    client.load_model("uploaded", config=json.dumps({"backend": "onnxruntime", "max_batch_size": "8"}), files={"file:3/model.onnx": content})
    check(client.is_model_ready("uploaded", "3"), "uploaded")
    client.unload_model("uploaded", unload_dependents=True)
    check(not client.is_model_ready("uploaded"), "unloaded")
    refused(lambda: client.load_model("nobody"), "nobody")


def http_infer(client):
    for datatype, array in ARRAYS.items():
        for binary_in in (True, False):
            for binary_out in (True, False):
                if datatype == "FP16" and not (binary_in and binary_out):
                    continue
                inputs = [tensor(http, "x", array, binary_data=binary_in)]
                outputs = [http.InferRequestedOutput("y", binary_data=binary_out)]
                result = client.infer(f"echo-{datatype}", inputs, outputs=outputs, request_id="r1")
                check(same(datatype, array, result.as_numpy("y")), (datatype, binary_in, binary_out))
                check(result.get_response()["id"] == "r1", result.get_response())
    inputs = [tensor(http, "x", np.arange(2000, dtype=np.float32).reshape(1000, 2))]
    for request_compression in (None, "gzip", "deflate"):
        for response_compression in (None, "gzip", "deflate"):
            result = client.infer(
                "echo-FP32",
                inputs,
                request_compression_algorithm=request_compression,
                response_compression_algorithm=response_compression,
            )
            check(result.as_numpy("y")[999, 1] == 1999, (request_compression, response_compression))
    asked = [client.async_infer("echo-FP32", inputs) for _ in range(8)]
    check(all(item.get_result().as_numpy("y").shape == (1000, 2) for item in asked), "async")
    outputs = [http.InferRequestedOutput("y", class_count=2)]
    classes = client.infer("classes", [tensor(http, "x", np.array([[0.5, 3, 2, 1]], np.float32))], outputs=outputs)
    check(list(classes.as_numpy("y").flatten()) == [b"3.000000:1", b"2.000000:2"], classes.as_numpy("y"))
    both = client.infer("pair", [tensor(http, "a", np.ones((2, 2), np.float32)), tensor(http, "n", np.array([7, 2**60 + 1]), binary_data=False)])
    check(list(both.as_numpy("m")) == [7, 2**60 + 1], both.get_response())
    client.infer("pair", [tensor(http, "a", np.ones((1, 2), np.float32)), tensor(http, "n", np.array([1]))], priority=2, timeout=5_000_000, parameters={"mine": 1})
    wrong = [tensor(http, "x", np.zeros((1, 3), np.float32))]
    check(refused(lambda: client.infer("echo-FP32", wrong), '"x"', "[1, 2]").status() == "400", "status")
    refused(lambda: client.infer("nobody", wrong), "Request for unknown model")
    refused(lambda: client.infer("echo-FP32", inputs, sequence_id=4), "sequences are not supported")
    refused(lambda: client.infer("echo-FP32", inputs, outputs=[http.InferRequestedOutput("z")]), "unexpected inference output 'z'")
    refused(lambda: client.register_system_shared_memory("r", "/r", 8), "shared memory")
    body, header_length = http.InferenceServerClient.generate_request_body(inputs)
    answer = client._post("v2/models/echo-FP32/infer", body, {"Inference-Header-Content-Length": header_length}, None)
    check(answer.status_code == 200, "a body made beforehand")


async def http_async():
    async with http_aio.InferenceServerClient(http_address) as client:
        array = ARRAYS["FP32"]
        results = await asyncio.gather(*(client.infer("echo-FP32", [tensor(http_aio, "x", array)]) for _ in range(32)))
        check(all(same("FP32", array, result.as_numpy("y")) for result in results), "asyncio")


def grpc_infer(client):
    for datatype, array in ARRAYS.items():
        result = client.infer(f"echo-{datatype}", [tensor(grpc, "x", array)], request_id="r2")
        check(same(datatype, array, result.as_numpy("y")), datatype)
        check(result.get_response().id == "r2", "id")
    array = np.arange(2000, dtype=np.float32).reshape(1000, 2)
    for compression in ("gzip", "deflate"):
        result = client.infer("echo-FP32", [tensor(grpc, "x", array)], compression_algorithm=compression)
        check(np.array_equal(result.as_numpy("y"), array), compression)
    answers = queue.Queue()
    for _ in range(8):
        client.async_infer("echo-FP32", [tensor(grpc, "x", array)], callback=lambda result, error: answers.put((result, error)))
    for _ in range(8):
        result, error = answers.get(timeout=20)
        check(error is None and np.array_equal(result.as_numpy("y"), array), error)
    outputs = [grpc.InferRequestedOutput("y", class_count=1)]
    classes = client.infer("classes", [tensor(grpc, "x", np.array([[0.5, 3, 2, 1]], np.float32))], outputs=outputs)
    check(list(classes.as_numpy("y").flatten()) == [b"3.000000:1"], classes.as_numpy("y"))
    client.infer("echo-FP32", [tensor(grpc, "x", array)], priority=1, timeout=5_000_000, client_timeout=10, parameters={"mine": "x"})
    error = refused(lambda: client.infer("nobody", [tensor(grpc, "x", array)]), "Request for unknown model")
    check(error.status() == "StatusCode.NOT_FOUND", error.status())
    error = refused(lambda: client.infer("echo-FP32", [tensor(grpc, "x", array.reshape(500, 4))]), '"x"', "[500, 2]")
    check(error.status() == "StatusCode.INVALID_ARGUMENT", error.status())
    error = refused(lambda: client.get_system_shared_memory_status())
    check(error.status() == "StatusCode.UNIMPLEMENTED", error.status())


def grpc_stream(client):
    answers = queue.Queue()
    client.start_stream(callback=lambda result, error: answers.put((result, error)))
    for number in range(50):
        model = "nobody" if number == 3 else "echo-INT64"
        array = np.array([[number, 2**60 + 1]])
        client.async_stream_infer(model, [tensor(grpc, "x", array)], request_id=str(number), enable_empty_final_response=True)
    for number in range(50):
        result, error = answers.get(timeout=20)
        if number == 3:
            check("Request for unknown model: 'nobody' is not found" in str(error), error)
        else:
            check(result.as_numpy("y")[0, 0] == number, number)
            check(result.get_response().parameters["triton_final_response"].bool_param, "final")
    client.stop_stream()


async def grpc_async():
    async with grpc_aio.InferenceServerClient(grpc_address) as client:
        array = ARRAYS["INT64"]

        async def requests():
            for number in range(10):
                yield {"model_name": "echo-INT64", "inputs": [tensor(grpc_aio, "x", array)], "request_id": str(number)}

        seen = [result.get_response().id async for result, error in client.stream_infer(requests()) if error is None]
        check(seen == [str(number) for number in range(10)], seen)
        result = await client.infer("echo-INT64", [tensor(grpc_aio, "x", array)])
        check(same("INT64", array, result.as_numpy("y")), "asyncio")


with http.InferenceServerClient(http_address, concurrency=4) as client:
    about(client, {})
    http_infer(client)
    control(client, {})
asyncio.run(http_async())
with grpc.InferenceServerClient(grpc_address) as client:
    about(client, {"as_json": True})
    grpc_infer(client)
    grpc_stream(client)
    control(client, {"as_json": True})
asyncio.run(grpc_async())
print(f"{checks} checks")

"""An ONNX model whose state is inputs and outputs becomes an artifact that does what the file does, or a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from typer.testing import CliRunner

from export import ExportError, import_onnx
from export.parity import ParityError
from hetsyn import app
from service.contract.artifact import Artifact
from service.contract.graph_io import NEXT_STATE, PROBABILITIES, READOUT, STATE, STEP, STEPS, VALUES, Float32Array
from service.models.model import Model
from service.runtime.onnx import load_graph

pytest.importorskip("onnxscript", reason="constants are folded with onnxscript: pip install onnxscript")

CHANNELS, HIDDEN = 3, 4
LABELS = ["left", "right"]
HEADER = '<ir_version: 8, opset_import: ["" : {opset}]>'
WX, WH, WO = (
    "{" + ", ".join(f"{value:.3f}" for value in np.random.default_rng(seed).normal(size=size)) + "}"
    for seed, size in enumerate((12, 16, 8))
)
WEIGHTS = f"<float[3, 4] wx = {WX}, float[4, 4] wh = {WH}, float[4, 2] wo = {WO}>"
PLAIN = """step (float[B, 3] x, float[B, 4] h0) => (float[B, 2] y, float[B, 4] hn) %s {
    a = MatMul (x, wx)
    b = MatMul (h0, wh)
    c = Add (a, b)
    hn = Tanh (c)
    y = MatMul (hn, wo)
}"""
# the rate decides a branch, as in models for several rates; its state has the batch in the middle
BRANCHES = """step (float[B, ?] x, float[1, B, 4] h0, int64 rate) => (float[B, 2] y, float[1, B, 4] hn) %s {
    known = Constant <value = int64 {16000}> ()
    is_known = Equal (rate, known)
    first = Constant <value = int64[1] {0}> ()
    h = Squeeze (h0, first)
    a = If (is_known) <
        then_branch = yes () => (float[B, 4] ya) { ya = MatMul (x, wx) },
        else_branch = no () => (float[B, 4] na) { ma = MatMul (x, wx) na = Neg (ma) }
    >
    b = MatMul (h, wh)
    c = Add (a, b)
    d = Tanh (c)
    hn = Unsqueeze (d, first)
    y = MatMul (d, wo)
}"""


def model_file(folder: Path, text: str = PLAIN, opset: int = 17, weights: str = WEIGHTS) -> Path:
    model = onnx.parser.parse_model(HEADER.replace("{opset}", str(opset)) + (text % weights if "%s" in text else text))
    onnx.save(model, folder / "step.onnx")
    return folder / "step.onnx"


def imported(file: Path, out: Path, *, is_loop: bool = False, **options: Any) -> Model:
    request: dict[str, Any] = {"labels": LABELS, "state": {"h0": "hn"}} | options
    report = import_onnx(file, out=out / "model" / "1", **request)
    assert report.one_at_a_time == is_loop
    return Model(Artifact.open(out / "model" / "1"), load_graph)


def served(model: Model, values: Float32Array, cuts: list[int]) -> Any:
    """What a model makes of values [stream, steps, channels] in chunks; the readout of all steps."""
    state, step = np.tile(model.initial_row, (len(values), 1)), np.zeros(len(values), np.int64)
    readout, begin, found = [], 0, {}
    for end in cuts:
        steps = np.full(len(values), end - begin)
        inputs = {VALUES: values[:, begin:end].copy(), STEPS: steps, STATE: state, STEP: step}
        found = model.network.run(inputs, [NEXT_STATE, "next.step", PROBABILITIES, READOUT])
        state, step, begin = found[NEXT_STATE], found["next.step"], end
        readout.append(found[READOUT])
    return found | {READOUT: np.concatenate(readout, 1)}


def stepwise(file: Path, values: Float32Array, state: Float32Array, **constants: Any) -> Float32Array:
    """The file's output at each step of one stream; ``state`` and inputs with a batch of one."""
    graph, outputs = load_graph(file.read_bytes()), []
    for row in values:
        found = graph.run({"x": row[None], "h0": state} | constants, ["y", "hn"])
        state = found["hn"]
        outputs.append(found["y"].reshape(-1))
    return np.stack(outputs)


def noise(streams: int = 3, steps: int = 6, channels: int = CHANNELS) -> Float32Array:
    return np.random.default_rng(5).normal(size=(streams, steps, channels)).astype(np.float32)


@pytest.mark.parametrize("opset", [11, 17, 20, 21])
def test_a_step_is_served_as_the_file_runs_it(opset: int, tmp_path: Path) -> None:
    file = model_file(tmp_path, opset=opset)
    model = imported(file, tmp_path)
    found = served(model, noise(), [1, 1, 4, 6])
    for stream, values in enumerate(noise()):
        expected = stepwise(file, values, np.zeros((1, HIDDEN), np.float32))
        np.testing.assert_allclose(found[READOUT][stream], expected, atol=1e-5)
    form = model.manifest.network
    assert (form.torchscript, form.tolerance, form.state[0].name) == (None, 1e-5, "h0")
    assert model.manifest.provenance["imported_from"] == "step.onnx"


def test_a_constant_decides_a_branch_and_the_batch_may_be_any_axis(tmp_path: Path) -> None:
    file = model_file(tmp_path, BRANCHES, opset=16)
    options: dict[str, Any] = {"batch_axis": {"h0": 1}, "shape": [CHANNELS]}
    begin = np.zeros((1, 1, HIDDEN), np.float32)
    for rate in (16_000, 8_000):
        model = imported(file, tmp_path / str(rate), constants={"rate": rate}, **options)
        found = served(model, noise(), [3, 6])
        expected = stepwise(file, noise()[1], begin, rate=np.array(rate))
        np.testing.assert_allclose(found[READOUT][1], expected, atol=1e-5)


@pytest.mark.parametrize("state", ["float[1, 4]", "float[B, 4]"])
def test_a_graph_of_one_stream_is_run_stream_by_stream(state: str, tmp_path: Path) -> None:
    """Whether the graph says so, or only breaks on two."""
    text = PLAIN.replace("float[B, 4]", state).replace("float[B, 3]", "float[1, 3]" if "1" in state else "float[B, 3]")
    text = text.replace("hn = Tanh (c)", "shape = Constant <value = int64[2] {1, 4}> ()\n d = Tanh (c)\n"
                        "hn = Reshape (d, shape)")  # fmt: skip
    file = model_file(tmp_path, text)
    model = imported(file, tmp_path, is_loop=True, tolerance=0.0)  # so company changes nothing at all
    found = served(model, noise(), [2, 6])
    alone = [served(model, noise()[i : i + 1], [6])[READOUT][0] for i in range(3)]
    np.testing.assert_array_equal(found[READOUT], np.stack(alone))
    expected = stepwise(file, noise()[2], np.zeros((1, HIDDEN), np.float32))
    np.testing.assert_allclose(found[READOUT][2], expected, atol=1e-5)


def test_an_lstm_of_sequences_is_a_step_of_one(tmp_path: Path) -> None:
    """Input [1, batch, channels], states [1, batch, hidden]: as recurrent operators and their exporters have it."""
    rng = np.random.default_rng(1)
    kernels = {"w": (1, 4 * HIDDEN, CHANNELS), "r": (1, 4 * HIDDEN, HIDDEN)}
    weights = ", ".join(
        f"float[{','.join(map(str, shape))}] {name} = {{{', '.join(f'{v:.3f}' for v in rng.normal(size=shape).flat)}}}"
        for name, shape in kernels.items()
    )
    text = """step (float[S, B, 3] x, float[1, B, 4] h0, float[1, B, 4] c0)
        => (float[S, 1, B, 4] y, float[1, B, 4] hn, float[1, B, 4] cn) %s {
        y, hn, cn = LSTM <hidden_size = 4> (x, w, r, , , h0, c0)
    }"""
    file = model_file(tmp_path, text, weights=f"<{weights}>")
    model = imported(
        file,
        tmp_path,
        state={"h0": "hn", "c0": "cn"},
        batch_axis={"x": 1, "h0": 1, "c0": 1, "y": 2},
        shape=[1, CHANNELS],
        labels=["a", "b", "c", "d"],
    )
    found = served(model, noise(), [1, 4, 6])
    whole = {"h0": np.zeros((1, 3, HIDDEN), np.float32), "c0": np.zeros((1, 3, HIDDEN), np.float32)}
    expected = load_graph(file.read_bytes()).run(whole | {"x": noise().swapaxes(0, 1).copy()}, ["y"])["y"]
    np.testing.assert_allclose(found[READOUT], expected[:, 0].swapaxes(0, 1), atol=1e-5)


def test_a_context_puts_the_last_values_in_front(tmp_path: Path) -> None:
    file = model_file(tmp_path)
    model = imported(file, tmp_path, context=1)
    assert model.manifest.input.channels == 2
    values = noise(1, 4, 2)
    found = served(model, values, [1, 3, 4])
    padded = np.concatenate([np.zeros((1, 1), np.float32), values[0, :-1, -1:]])
    expected = stepwise(file, np.concatenate([padded, values[0]], 1), np.zeros((1, HIDDEN), np.float32))
    np.testing.assert_allclose(found[READOUT][0], expected, atol=1e-5)


def test_samples_are_values(tmp_path: Path) -> None:
    manifest = imported(model_file(tmp_path), tmp_path, context=1, audio=8_000, frame=2).manifest
    assert manifest.encoder is not None
    assert (manifest.encoder.file, manifest.encoder.sample_rate_hz, manifest.encoder.samples_per_step) == (
        None,
        8000,
        2,
    )
    assert (manifest.input.kind, manifest.input.channels, manifest.input.step_s) == ("values", 2, 2 / 8000)


def test_a_state_may_begin_anywhere(tmp_path: Path) -> None:
    file = model_file(tmp_path)
    begin = np.array([0.5, -0.5, 0.25, 1.0], np.float32)
    found = served(imported(file, tmp_path, initial={"h0": begin}), noise(), [0, 2, 6])
    np.testing.assert_allclose(found[READOUT][0], stepwise(file, noise()[0], begin[None]), atol=1e-5)


def test_one_probability_is_two_labels(tmp_path: Path) -> None:
    text = PLAIN.replace("float[B, 2] y", "float[B, 1] y").replace(
        "y = MatMul (hn, wo)",
        "s = MatMul (hn, wo)\n axis = Constant <value = int64[1] {1}> ()\n m = ReduceMean <axes = [1]> (s)\n"
        "y = Sigmoid (m)",
    )
    file = model_file(tmp_path, text)
    model = imported(file, tmp_path, output_kind="probabilities", decision="last")
    found = served(model, noise(), [2, 6])
    last = stepwise(file, noise()[0], np.zeros((1, HIDDEN), np.float32))[-1, 0]
    np.testing.assert_allclose(found[PROBABILITIES][0], [1 - last, last], atol=1e-6)


REFUSED: list[tuple[str, str, dict[str, Any], str]] = [
    ("no pair", PLAIN, {"state": {}}, "inputs x, h0 are left: give --state NAME=OUTPUT .*outputs left: y, hn"),
    ("no pair, named", PLAIN, {"state": {}, "input": "x"}, "input 'h0' is neither state nor constant: give --state"),
    ("unknown input", PLAIN, {"state": {"h1": "hn"}}, "no input 'h1': it has x, h0; did you mean 'h0'"),
    ("unknown output", PLAIN, {"state": {"h0": "hm"}}, "no output 'hm': it has y, hn; did you mean 'hn'"),
    ("wrong output", PLAIN, {"output": "z"}, "no output 'z'"),
    ("swapped", PLAIN, {"state": {"h0": "y"}}, r"state h0 is \[4\] of a stream, y is \[2\]: is the pair"),
    ("unknown axis", PLAIN, {"batch_axis": {"hh": 1}}, "no input or output 'hh'"),
    ("wrong axis", PLAIN, {"batch_axis": {"h0": 1}}, "h0 has 4 at axis 1, where the batch should be: give"),
    ("labels", PLAIN, {"labels": ["one"]}, "1 label for 2 outputs: give one label an output"),
    ("frame", PLAIN, {"audio": 8000, "frame": 7}, "takes 3 values a step, the context has 0 and the frame 7"),
    ("rate alone", PLAIN, {"audio": 8000}, "give both audio="),
    ("shape", PLAIN, {"shape": [5]}, "--shape 5 does not fit input x, which has"),
    ("open", PLAIN.replace("float[B, 3]", "float[B, N]"), {}, "input x has open lengths, .*: give --shape"),
    ("open state", PLAIN.replace("float[B, 4]", "float[B, N]"), {}, "h0 has open lengths .*, or its initial value"),
    ("fixed batch", PLAIN.replace("float[B, 4]", "float[2, 4]"), {}, "h0 has 2 at axis 0, .*for a batch of any size"),
    ("initial", PLAIN, {"initial": {"h0": np.zeros(3)}}, r"initial h0 has shape \[3\], the state has \[4\]"),
    ("initial name", PLAIN, {"initial": {"h": np.zeros(4)}}, "no state 'h': it has h0; did you mean"),
    ("constant", PLAIN, {"constants": {"x": 1}}, "no input is left for the values"),
    ("decision", PLAIN, {"decision": "best"}, "decision.rule: 'best' is none of"),
    ("state axis", BRANCHES, {"constants": {"rate": 8}, "shape": [3]}, "h0 has open lengths .*: give --batch-axis"),
    (
        "no number",
        BRANCHES,
        {"constants": {"rate": 0.5}, "batch_axis": {"h0": 1}},
        r"constant rate is int64 \[\]: 0.5 is no int64",
    ),
    (
        "int64 state",
        "step (float[B, 2] x, int64[B, 1] h0) => (float[B, 2] y, int64[B, 1] hn) { y = Neg (x) hn = Abs (h0) }",
        {},
        "state h0 is int64, and a session keeps float32: export the model with float32 states",
    ),
    (
        "random",
        PLAIN.replace("hn = Tanh (c)", "d = RandomNormalLike (c)\n hn = Add (c, d)"),
        {},
        "draws random numbers .RandomNormalLike.: take them out",
    ),
    (
        "dropout of training",
        PLAIN.replace(
            "y = MatMul (hn, wo)",
            "z = MatMul (hn, wo) half = Constant <value = float {0.5}> () on = Constant <value = bool {1}> ()"
            " y = Dropout (z, half, on)",
        ),
        {},
        "gives another result when it runs again, as a Dropout of training does: export the model for inference",
    ),
    ("one text", PLAIN, {"labels": "ab"}, "labels are one text, 'ab': give a list"),
    ("state as text", PLAIN, {"state": "h0=hn"}, "state is 'h0=hn': give a dict"),
    ("initial text", PLAIN, {"initial": {"h0": "low"}}, "initial h0 is no array of numbers .*: give one"),
    ("initial mask", PLAIN, {"initial": {"h0": np.full(4, -3e38)}}, r"initial h0 .* not below 1e\+30: begin with"),
    ("examples", PLAIN, {"examples": 5}, "examples are no arrays of numbers .*: give a list"),
    (
        "an output that is the input",
        "step (float[B, 2] x, float[B, 2] h0) => (float[B, 2] y, float[B, 2] x) { y = Add (x, h0) }",
        {"state": {"h0": "x"}},
        "output x is an input of the graph too: export the model with a node Identity",
    ),
    (
        "unsupported node",
        PLAIN.replace("hn = Tanh (c)", "hn = acme.Gate (c)").replace("step (", "step ("),
        {},
        "cannot load the graph|not a valid ONNX file",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "options", "sentence"), [case[1:] for case in REFUSED], ids=[c[0] for c in REFUSED])
def test_what_cannot_be_served_gets_a_sentence_and_no_folder(
    text: str, options: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    file = model_file(tmp_path, text)
    with pytest.raises(ExportError, match=sentence) as caught:
        imported(file, tmp_path / "out", **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


# 0 of a batch by the batch's size less 8: NaN in a batch of eight alone, which the verification has
NAN_OF_EIGHT = """
    size = Shape <start = 0, end = 1> (x)
    batch = Cast <to = 1> (size)
    eight = Constant <value = float[1] {8.0}> ()
    over = Sub (batch, eight)
    zero = Constant <value = float[1] {0.0}> ()
    broken = Div (zero, over)
"""


@pytest.mark.parametrize(
    "lines",
    ["hn = Tanh (c) h = MatMul (hn, wo) y = Add (h, broken)", "h = Tanh (c) y = MatMul (h, wo) hn = Add (h, broken)"],
    ids=["output", "state"],
)
def test_numbers_that_are_nan_in_company_alone_are_not_passed_over(lines: str, tmp_path: Path) -> None:
    text = PLAIN.replace("hn = Tanh (c)", NAN_OF_EIGHT + lines).replace("y = MatMul (hn, wo)\n}", "}")
    with pytest.raises(ParityError, match="gives numbers that are not finite where the step by itself gives finite"):
        imported(model_file(tmp_path, text), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", [PLAIN, PLAIN.replace("y = MatMul (hn, wo)", "z = MatMul (hn, wo) y = Sigmoid (z)")])
def test_outputs_that_are_no_distribution_are_not_taken_for_one(text: str, tmp_path: Path) -> None:
    with pytest.raises(ParityError, match="no probabilities, within 0 and 1 and 1 together: leave out --probabilities"):
        imported(model_file(tmp_path, text), tmp_path / "out", output_kind="probabilities")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["context", "decision.score", "decision.score_low", "decision.step"])
def test_a_state_may_have_the_name_of_one_of_ours(name: str, tmp_path: Path) -> None:
    file = model_file(tmp_path)
    graph = onnx.load(file)
    graph.graph.input[1].name = graph.graph.node[1].input[0] = name
    onnx.save(graph, file)
    model = imported(file, tmp_path / "out", state={name: "hn"})
    assert model.manifest.network.state[0].name == f"state.{name}"


def test_a_weight_that_is_nan_and_a_file_that_is_no_model_get_a_sentence(tmp_path: Path) -> None:
    file = model_file(tmp_path)
    model = onnx.load(file)
    model.graph.initializer[1].CopyFrom(onnx.numpy_helper.from_array(np.full((4, 4), np.nan, np.float32), "wh"))
    onnx.save(model, file)
    with pytest.raises(ExportError, match="weight wh is NaN: load weights of a training that did not diverge"):
        imported(file, tmp_path / "out")
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(ExportError, match=r"is not a valid ONNX file .*: export the model again"):
        imported(tmp_path / "text.onnx", tmp_path / "out")
    with pytest.raises(ExportError, match=r"cannot be read .*: give the path of an ONNX file"):
        imported(tmp_path / "none.onnx", tmp_path / "out")


def test_the_command_imports_and_says_what_is_wrong(tmp_path: Path) -> None:
    file = model_file(tmp_path, BRANCHES, opset=16)
    np.savez(tmp_path / "begin.npz", h0=np.ones((1, 1, HIDDEN), np.float32))
    begin = ["--initial", str(tmp_path / "begin.npz")]
    options = ["--state", "h0=hn", "--constant", "rate=16000", "--batch-axis", "h0=1", "--shape", "3", *begin]
    request = [
        "import-onnx",
        str(file),
        "--labels",
        "left, right",
        "--rejected",
        "right",
        "--out",
        str(tmp_path / "gate" / "1"),
        *options,
    ]
    done = CliRunner().invoke(app, request)
    assert done.exit_code == 0, done.output
    assert "tolerance 1e-05" in done.output
    assert done.output.endswith(f"model gate, version 1: hetsyn serve --models {tmp_path}\n")
    artifact = Artifact.open(tmp_path / "gate" / "1")
    assert artifact.manifest.labels == ("left", "right")
    assert artifact.manifest.rejected_labels == ("right",)
    again = CliRunner().invoke(app, request)
    assert (again.exit_code, "choose another version" in again.output) == (2, True)
    for wrong, sentence in (
        (["--state", "h0"], "--state 'h0': give NAME=VALUE"),
        (["--constant", "rate=fast"], "--constant 'rate=fast': give NAME=VALUE, the value a number"),
        (["--rejected", "up"], "rejected label 'up': there is no such label, give some of left, right"),
        (["--shape", "3,x"], "--shape '3,x': give lengths above 0"),
        (["--initial", str(file)], "is no .npz file of arrays"),
    ):
        refused = CliRunner().invoke(app, [*request, *wrong])
        assert refused.exit_code == 2
        assert sentence in " ".join(refused.output.split())

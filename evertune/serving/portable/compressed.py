"""Models in fewer bytes, or for another engine.

A copy of this file travels in the bundles that need it; it imports nothing of Evertune.

`int8`: weights as 8-bit integers with a scale for each output; linear layers compute with them and dynamically
quantized inputs, convolutions in fp32. `prune`: the weights of least magnitude are 0 and take no bytes. `onnx`,
`onnx-int8`: the graph, for ONNX Runtime. "Weights" are those of linear layers and convolutions.
"""

import shutil
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

PACKED = "packed.safetensors"
GRAPH = "model.onnx"
HALF = 1 << 16  # other tensors with at least this many numbers are stored in 16 bits


def find_weights(model: Any) -> dict[str, int]:
    """Return the name of each weight to pack, and its output dimension.

    Not packed are a weight with two names (a head tied to the embeddings, whose rows are looked up), and a buffer,
    which training does not change (an earlier stage, or the classifier that evaluates a model).
    """
    from collections import Counter

    uses = Counter(id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False))
    axes = {}
    for name, part in model.named_modules():
        axis = _find_output_axis(part)
        if axis is not None and uses[id(part.weight)] == 1:
            axes[f"{name}.weight"] = axis
    return axes


def _find_output_axis(part: Any) -> int | None:
    """The output dimension of a layer's weight; None for other modules."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    kind = type(part)
    if kind in (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d):
        return 0
    if kind in (Conv1D, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d):
        return 1  # GPT-2's linear layers have transposed weights
    return None


def pack_int8(state: Mapping[str, Any], outputs: Mapping[str, int]) -> dict[str, Any]:
    """Pack weights as integers with a scale for each output (Jacob et al. 2018); other tensors in 16 or 32 bits.

    Args:
        state: the model's tensors.
        outputs: as `find_weights` returns it.
    """
    import torch

    packed = {}
    for name, tensor in state.items():
        if name in outputs:
            others = [axis for axis in range(tensor.ndim) if axis != outputs[name]]
            scale = tensor.abs().amax(others, keepdim=True).clamp(min=1e-12) / 127
            packed[f"{name}:int8"] = (tensor / scale).round().clamp(-127, 127).to(torch.int8)
            packed[f"{name}:scale"] = scale
        else:
            packed[name] = _shrink_tensor(tensor)
    return packed


def pack_sparse(state: Mapping[str, Any], names: Collection[str], sparsity: float) -> dict[str, Any]:
    """Pack weights without the share that is smallest over all layers (Han et al. 2015); other tensors as for int8."""
    import numpy as np
    import torch

    sizes = torch.cat([state[name].abs().flatten() for name in names])
    threshold = float(sizes.kthvalue(max(1, int(sparsity * len(sizes)))).values) if sparsity > 0 else -1.0
    packed = {}
    for name, tensor in state.items():
        if name not in names:
            packed[name] = _shrink_tensor(tensor)
            continue
        is_kept = (tensor.abs() > threshold).flatten()
        packed[f"{name}:bits"] = torch.from_numpy(np.packbits(is_kept.numpy()))
        packed[f"{name}:values"] = tensor.flatten()[is_kept].clone()
        packed[f"{name}:shape"] = torch.tensor(tensor.shape)
    return packed


def _shrink_tensor(tensor: Any) -> Any:
    import torch

    large = tensor.numel() >= HALF and tensor.is_floating_point()
    return tensor.to(torch.float16).contiguous() if large else tensor.clone().contiguous()


def unpack_weights(packed: Mapping[str, Any]) -> dict[str, Any]:
    """Return packed weights in fp32."""
    import numpy as np
    import torch

    state: dict[str, Any] = {}
    for key, tensor in packed.items():
        name, _, kind = key.partition(":")
        if kind == "int8":
            state[name] = tensor.float() * packed[f"{name}:scale"]
        elif kind == "bits":
            shape = packed[f"{name}:shape"].tolist()
            flat = torch.zeros(int(np.prod(shape)))
            flat[torch.from_numpy(np.unpackbits(tensor.numpy(), count=len(flat)).astype(bool))] = packed[
                f"{name}:values"
            ]
            state[name] = flat.view(shape)
        elif not kind:
            state[name] = tensor.float() if tensor.dtype == torch.float16 else tensor
    return state


def load(objective: Any, folder: Path, method: str) -> Any:
    """Load the model of a bundle's `model` folder, ready to predict on the CPU.

    Args:
        objective: the file of the bundle's objective.
        folder: the bundle's `model` folder.
        method: of the compression.
    Raises:
        OSError: there are no weights.
        ImportError: ONNX Runtime is not installed.
    """
    if method.startswith("onnx"):
        return _open_session(folder)
    from safetensors.torch import load_file, save_file

    with tempfile.TemporaryDirectory() as scratch:
        full_folder = Path(scratch) / "model"
        shutil.copytree(folder, full_folder, ignore=shutil.ignore_patterns(PACKED))
        save_file(
            unpack_weights(load_file(folder / PACKED)), full_folder / "model.safetensors", metadata={"format": "pt"}
        )
        model = objective.load_model(full_folder).eval()
        model.load_state_dict({name: tensor.clone() for name, tensor in model.state_dict().items()})
    return quantise_linear(model) if method == "int8" else model


def quantise_linear(model: Any) -> Any:
    """Return the model with linear layers in 8-bit arithmetic; weights have a scale for each output.

    A head tied to the embeddings is included; a layer whose weights are buffers is not (see `find_weights`).
    """
    import warnings

    import torch
    from torch.ao.quantization import per_channel_dynamic_qconfig, quantize_dynamic

    _replace_conv1d(model)
    layers = {
        name: per_channel_dynamic_qconfig
        for name, part in model.named_modules()
        if type(part) is torch.nn.Linear and isinstance(part.weight, torch.nn.Parameter)
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns that this has moved to another package
        return quantize_dynamic(model, layers)  # type: ignore[no-untyped-call]


def _replace_conv1d(model: Any) -> None:
    """Replace layers with transposed weights by linear layers, which torch can quantize."""
    import torch
    from transformers.pytorch_utils import Conv1D

    for name, part in list(model.named_modules()):
        if type(part) is Conv1D:
            layer = torch.nn.Linear(*part.weight.shape)
            layer.weight = torch.nn.Parameter(part.weight.T.contiguous())
            layer.bias = part.bias
            model.set_submodule(name, layer.eval())


def _open_session(folder: Path) -> Any:
    import onnxruntime
    import torch
    from transformers import AutoConfig

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(folder / GRAPH), options, providers=["CPUExecutionProvider"])

    class Session(torch.nn.Module):
        """The graph as a module that gives `.logits`."""

        def __init__(self) -> None:
            super().__init__()
            self.config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
            self.placeholder = torch.nn.Parameter(torch.zeros(1), requires_grad=False)
            self.device = self.placeholder.device

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            """Run the graph."""
            inputs = {"input_ids": input_ids.numpy(), "attention_mask": attention_mask.numpy()}
            return SimpleNamespace(logits=torch.from_numpy(session.run(["logits"], inputs)[0]))

    return Session().eval()


def export_onnx(model: Any, path: Path, *, int8: bool) -> None:
    """Write a model that computes `.logits` from token ids and mask as a graph for any number of rows and tokens.

    Raises:
        RuntimeError, TypeError: the model cannot be traced, or has other inputs or outputs.
    """
    import torch

    mask = torch.ones(2, 8, dtype=torch.long)
    mask[0, 5:] = 0
    sample_inputs = torch.ones_like(mask), mask
    model.set_attn_implementation("eager")
    with torch.inference_mode():
        if not torch.is_tensor(model(*sample_inputs).logits):
            raise TypeError("its output is more than one tensor")
    target = path.with_suffix(".fp32") if int8 else path
    _trace_graph(model, sample_inputs, target)
    if int8:
        _quantise_graph(target, path)
        target.unlink()


def _trace_graph(model: Any, sample_inputs: Any, path: Path) -> None:
    import warnings

    import torch

    class Logits(torch.nn.Module):
        """The model, its output a tensor."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            """Logits alone."""
            return self.model(input_ids=input_ids, attention_mask=attention_mask).logits

    names = ["input_ids", "attention_mask"]
    axes = {name: {0: "rows", 1: "length"} for name in names} | {"logits": {0: "rows"}}
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Logits().eval(),
            sample_inputs,
            str(path),
            input_names=names,
            output_names=["logits"],
            dynamic_axes=axes,
            opset_version=17,
            dynamo=False,
        )


def _quantise_graph(source: Path, path: Path) -> None:
    import logging

    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.getLogger().addFilter(_keep_record)
    try:
        quantize_dynamic(str(source), str(path), per_channel=True, weight_type=QuantType.QInt8)
    finally:
        logging.getLogger().removeFilter(_keep_record)


def _keep_record(record: Any) -> bool:
    return "pre-processing" not in record.getMessage()

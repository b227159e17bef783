"""Which number format a device should compute in."""

from __future__ import annotations

import torch

from detkit.errors import unknown

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def resolve(precision: str, device: torch.device | str) -> torch.dtype:
    """The type that autocast computes in.

    Args:
        precision: `fp32`, `bf16`, `fp16`, or `auto`: bf16 where the hardware has it, else fp32.
        device: where the model runs.
    Raises:
        DetkitError: no such precision.
    """
    if precision != "auto":
        if precision not in PRECISIONS:
            raise unknown("precision", precision, [*PRECISIONS, "auto"])
        return PRECISIONS[precision]
    if torch.device(device).type == "mps" or emulated(torch.bfloat16, device):
        return torch.float32
    return torch.bfloat16


def emulated(dtype: torch.dtype, device: torch.device | str) -> bool:
    """Whether the device has no arithmetic of that type, and PyTorch takes its slow way around.

    On a CPU without AVX-512 BF16 or AMX a training step of R50-FPN in bf16 takes over twenty times
    fp32's time.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        return dtype == torch.bfloat16 and not torch.cuda.is_bf16_supported(
            including_emulation=False
        )
    if kind != "cpu" or dtype == torch.float32:
        return False
    if not torch.backends.mkldnn.is_available():  # its operators are not even there then
        return True
    half = dtype == torch.float16
    kernels = torch.ops.mkldnn
    return not (kernels._is_mkldnn_fp16_supported if half else kernels._is_mkldnn_bf16_supported)()


def describe(dtype: torch.dtype, device: torch.device | str) -> str:
    """The type's name, and a word where `auto` would have been the better choice."""
    name = str(dtype).removeprefix("torch.")
    if emulated(dtype, device):
        better = str(resolve("auto", device)).removeprefix("torch.")
        return f"{name} (emulated here, many times slower; auto would be {better})"
    return name


def layout(dtype: torch.dtype, device: torch.device | str) -> torch.memory_format:
    """How the weights of training, and so the maps, lie in memory for the fastest steps.

    That is channels last, but for fp32 on a CPU (R50-FPN at 416 px: a step takes 1.4 times as long
    with it; in emulated bf16 0.4 times).
    """
    kind = torch.device(device).type
    last = kind == "cuda" or (kind == "cpu" and dtype != torch.float32)
    return torch.channels_last if last else torch.contiguous_format


def autocast(device: torch.device | str, dtype: torch.dtype) -> torch.autocast:
    """The context in which the model runs; it does nothing in fp32."""
    kind = torch.device(device).type
    return torch.autocast(kind, dtype=dtype, enabled=dtype != torch.float32)

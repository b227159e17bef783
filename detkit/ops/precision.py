"""Which number format a device should compute in."""

from __future__ import annotations

import torch

from detkit.errors import unknown

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def resolve(precision: str, device: torch.device | str) -> torch.dtype:
    """The type that autocast computes in.

    Args:
        precision: `fp32`, `bf16`, `fp16`, or `auto`: bf16 where the hardware has it, else fp32.
            A CPU without AVX-512 BF16 or AMX emulates bf16, which is several times slower.
        device: where the model runs.
    Raises:
        DetkitError: no such precision.
    """
    if precision != "auto":
        if precision not in PRECISIONS:
            raise unknown("precision", precision, [*PRECISIONS, "auto"])
        return PRECISIONS[precision]
    kind = torch.device(device).type
    if kind == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = kind == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if fast else torch.float32


def autocast(device: torch.device | str, dtype: torch.dtype) -> torch.autocast:
    """The context in which the model runs; it does nothing in fp32."""
    kind = torch.device(device).type
    return torch.autocast(kind, dtype=dtype, enabled=dtype != torch.float32)

"""The state of a fit as bytes: one safetensors file, whose string metadata holds the JSON beside the tensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor


def pack(tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> bytes:
    """Tensors and JSON as the bytes of one safetensors file."""
    return save(dict(tensors), {"meta": json.dumps(meta)})


def unpack(payload: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `pack` packed.

    Raises:
        ValueError: the bytes are not of that form.
    """
    try:
        # The header is read by hand: safetensors gives the metadata of files only, not of bytes.
        length = int.from_bytes(payload[:8], "little")
        meta: dict[str, Any] = json.loads(json.loads(payload[8 : 8 + length])["__metadata__"]["meta"])
        return load(payload), meta
    except (SafetensorError, KeyError, TypeError, ValueError) as fault:
        raise ValueError(f"not a fit's state: {fault}") from fault

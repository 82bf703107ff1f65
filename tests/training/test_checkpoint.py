"""A fit's state as bytes."""

from __future__ import annotations

import pytest
import torch

from trainables.training.checkpoint import pack, unpack

TENSORS = {"weights.a": torch.tensor([[1.5, -0.0]]), "adamw.step.a": torch.tensor(3.0), "n": torch.tensor([2**40])}
META = {"epoch": 3, "params": {"lambda": 0.1, "layers": "qkv"}, "note": "ünïcode", "nothing": None}


def test_what_is_packed_is_unpacked_bit_for_bit() -> None:
    tensors, meta = unpack(pack(TENSORS, META))
    assert meta == META
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype
        assert tensors[name].numpy().tobytes() == tensor.numpy().tobytes()


WHOLE = pack(TENSORS, META)


@pytest.mark.parametrize("payload", [b"", b"no state", WHOLE[:40], WHOLE[:-1], WHOLE[8:], b"\xff" * 64])
def test_other_bytes_are_no_state(payload: bytes) -> None:
    with pytest.raises(ValueError, match="not a fit's state"):
        unpack(payload)

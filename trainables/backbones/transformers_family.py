"""Language models of transformers, as they classify sequences: its layers found by name, its own tokenizer, one head.

`transformers:NAME` is a model of the hub, in the hub's cache, or a local folder; weights are safetensors, and code that
comes with a model is never run. The only door to transformers.

Shapes: B texts, L tokens, C classes.
"""

from __future__ import annotations

import functools
import hashlib
import shutil
from collections.abc import Sequence
from importlib import util
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import constants, try_to_load_from_cache
from safetensors import SafetensorError
from torch import Tensor, nn

from trainables.backbones import Backbone, BackboneConfig, within
from trainables.backbones.weights import fixed_draw
from trainables.data.texts.tokens import Reading
from trainables.errors import UserError

_hub: Any = transformers  # whose types are partly missing
# Name endings under which families keep these parts: of each, the first that the model has as linear layers.
_PARTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "qv": (("q_proj", "v_proj"), ("attention.self.query", "attention.self.value"), ("q_lin", "v_lin")),
    "k": (("k_proj",), ("attention.self.key",), ("k_lin",)),
    "out": (("o_proj",), ("self_attn.out_proj",), ("attention.output.dense",), ("out_lin",)),
    "mlp": (
        ("gate_proj", "up_proj", "down_proj"),
        ("fc1", "fc2"),
        ("intermediate.dense", "output.dense"),
        ("lin1", "lin2"),
    ),
}
# Of these the architecture is known without a file: for a look at their layers and sizes.
_KNOWN = {"meta-llama/Llama-2-7b-hf": "llama", "mistralai/Mistral-7B-v0.1": "mistral"}
_TOKENIZER = ("tokenizer.json", "tokenizer.model", "vocab.txt", "vocab.json")
_ENDINGS = (".json", ".txt", ".model", ".safetensors")  # of what a folder needs; nothing in them is code
_PAD = 0  # of models without one, as in On Fairness of LoRA


def load(config: BackboneConfig, *, classes: int) -> Backbone:
    """The language model of `config` with a fresh head of `classes` outputs; called with tokens it gives logits.

    Raises: `UserError` where its files are missing or do not fit, or an option needs what is not there.
    """
    name = config.name.removeprefix("transformers:")
    folder = _folder(config, name)
    architecture = _architecture(folder, name)
    architecture.num_labels = classes
    if architecture.pad_token_id is None:
        architecture.pad_token_id = _PAD
    most = getattr(architecture, "max_position_embeddings", None)
    most = most - 2 if most and "roberta" in architecture.model_type else most  # whose first two are not for tokens
    if most and config.length > most:
        raise UserError(
            f"backbone.length is {config.length}, and {name} takes at most {most} tokens. Use {most} or less."
        )
    if hasattr(architecture, "use_cache"):
        architecture.use_cache = False
    options: dict[str, Any] = {"config": architecture, "trust_remote_code": False}
    options["dtype"] = torch.bfloat16 if config.frozen == "bf16" else torch.float32
    if config.frozen == "4-bit":
        options["quantization_config"] = _four_bits()
    logging = _hub.utils.logging
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # that the head is new is what is wanted
    logging.disable_progress_bar()
    try:
        with fixed_draw():
            if config.weights == "none" or folder is None:
                options.pop("quantization_config", None)
                model, told = _hub.AutoModelForSequenceClassification.from_config(**options), {}
            else:
                model, told = _hub.AutoModelForSequenceClassification.from_pretrained(
                    str(folder), use_safetensors=True, local_files_only=True, ignore_mismatched_sizes=True,
                    output_loading_info=True, **options,
                )  # fmt: skip
    except (OSError, ValueError, RuntimeError, SafetensorError, ImportError) as fault:
        raise UserError(
            f"backbone: transformers cannot build {name} from {folder or 'its configuration'}: "
            f"{str(fault).strip().splitlines()[0]} Use a folder with config.json and model.safetensors of a model that "
            "transformers knows, without code of its own."
        ) from fault
    finally:
        logging.set_verbosity(verbosity)
        logging.enable_progress_bar()
    heads = _heads(model, name)
    misfits = [key for key in _names(told, "missing_keys", "mismatched_keys") if not within(key, heads)]
    if misfits:
        raise UserError(
            f"backbone.weights: {folder} does not fit {name}: {len(misfits)} tensors are absent or of another shape, "
            f"such as {misfits[0]}. Use the folder of this very model."
        )
    for head in heads:
        model.get_submodule(head).float()  # of 8 bits it would not learn
    if config.checkpointing:
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        enable({"use_reentrant": False})  # the older name is for releases that have no other
    kind: Any = type(model)
    model.__class__ = _of_tokens(kind)
    local = folder is not None and (config.weights not in ("pretrained", "none") or Path(name).expanduser().is_dir())
    place = repr(str(folder) if local else name)
    model.config.architectures = [kind.__name__]
    return Backbone(
        name=config.name,
        model=model.eval(),
        head=heads[-1],
        more_heads=heads[:-1],
        targets=targets(model),
        reading=Reading(functools.partial(_encode, folder, name), _digest(folder), config.length, folder),
        parameters=sum(p.numel() for n, p in model.named_parameters() if not within(n, heads)),
        source=f"transformers {Path(name).name if local else name}, {_origin(config, local, name, folder)}",
        recipe=_recipe(place, classes, architecture.pad_token_id, trained=config.weights != "none"),
        file=folder if local else None,
        repository="" if local or config.weights == "none" else name,
    )


def targets(model: nn.Module) -> dict[str, list[str] | str]:
    """The layers that can carry an adapter, for each `layers` option that the model's structure allows."""
    linear = [f".{name}" for name, part in model.named_modules() if isinstance(part, nn.Linear)]

    def first(part: str) -> list[str]:
        has = ([e for e in option if any(name.endswith(f".{e}") for name in linear)] for option in _PARTS[part])
        return next((found for found, option in zip(has, _PARTS[part], strict=True) if len(found) == len(option)), [])

    qv, key, out, mlp = map(first, _PARTS)
    found: dict[str, list[str] | str] = {"qv": qv} if qv else {}
    if qv and key:
        found["qkv"] = [qv[0], *key, qv[1]]
    if qv and key and out:
        found["attention"] = [*found["qkv"], *out]
    if qv and key and out and mlp:
        found["attention+mlp"] = [*found["attention"], *mlp]
    return found


@functools.cache
def _of_tokens(kind: Any) -> type[nn.Module]:
    """The class of the model, but called with `[B, L]` tokens, -1 behind a text's end, it gives `[B, C]` logits.

    The names of its weights are transformers' own, so that plain peft knows what was saved.
    """

    class Classifier(kind):  # type: ignore[misc]
        def forward(self, tokens_BL: Tensor) -> Tensor:
            there_BL = tokens_BL >= 0
            ids_BL = tokens_BL.masked_fill(~there_BL, self.config.pad_token_id)
            logits_BC: Tensor = super().forward(input_ids=ids_BL, attention_mask=there_BL.long()).logits
            return logits_BC

        @property
        def is_gradient_checkpointing(self) -> bool:  # peft asks for it by this name, which transformers warns of
            return any(getattr(part, "gradient_checkpointing", False) for part in self.modules())

    for note in ("__name__", "__qualname__", "__module__"):  # peft writes them beside the adapter
        setattr(Classifier, note, getattr(kind, note))
    return Classifier


def _folder(config: BackboneConfig, name: str) -> Path | None:
    """Where the model's files lie; None where only its architecture is wanted, and known.

    Raises: `UserError` where they are not here; says what to fetch.
    """
    if config.weights not in ("pretrained", "none"):
        given = Path(config.weights).expanduser()
        if given.is_dir():
            return given.resolve()
        raise UserError(
            f"backbone.weights: {given} is not a folder. Use 'pretrained', or a folder with config.json, "
            "model.safetensors and tokenizer.json."
        )
    if Path(name).expanduser().is_dir():
        return Path(name).expanduser().resolve()
    cached = try_to_load_from_cache(name, "config.json") if name.count("/") <= 1 and name[0] not in "./~" else None
    if isinstance(cached, str):
        folder = Path(cached).parent
        if config.weights == "none" or next(folder.glob("*.safetensors"), None):
            return folder
    elif config.weights == "none" and name in _KNOWN:
        return None
    lacks = "no .safetensors of it is" if isinstance(cached, str) else "it is not"
    raise UserError(
        f"backbone.name: {name} is no folder, and {lacks} in the hub cache ({constants.HF_HUB_CACHE}). Fill the cache "
        f"on a connected machine with\n    hf download {name} --include '*.json' '*.safetensors' '*.model' '*.txt'\n"
        "and copy it here (HF_HOME says where the cache is), or write transformers:FOLDER."
    )


def _architecture(folder: Path | None, name: str) -> Any:
    if folder is None:
        return _hub.AutoConfig.for_model(_KNOWN[name])
    try:
        return _hub.AutoConfig.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError) as fault:
        raise UserError(
            f"backbone.name: {folder} holds no config.json of a model that transformers knows "
            f"({str(fault).strip().splitlines()[0]}). Code that comes with a model is never run."
        ) from fault


def _four_bits() -> Any:
    """Raises: `UserError` where the package for it is not installed, or there is no GPU."""
    if util.find_spec("bitsandbytes") is None or not torch.cuda.is_available():
        raise UserError(
            "backbone.frozen is '4-bit', which needs a GPU and the package bitsandbytes (pip install bitsandbytes). "
            "Use 'bf16' or 'fp32'."
        )
    return _hub.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)


def _heads(model: Any, name: str) -> tuple[str, ...]:
    """What stands beside the body, and has weights: it is new for the classes at hand. The last one answers."""
    body = model.base_model_prefix
    heads = tuple(n for n, part in model.named_children() if n != body and any(True for _ in part.parameters()))
    if not heads:
        raise UserError(f"backbone.name: '{name}' has no head to replace. Use a model that classifies sequences.")
    return heads


def _names(told: dict[str, Any], *kinds: str) -> list[str]:
    return [entry if isinstance(entry, str) else entry[0] for kind in kinds for entry in told.get(kind, ())]


@functools.lru_cache(maxsize=4)
def _tokenizer(folder: Path | None, name: str) -> Any:
    there = folder is not None and any((folder / file).is_file() for file in _TOKENIZER)
    if not there:
        raise UserError(
            f"backbone.name: no tokenizer of {name} is in {folder or 'the hub cache'}: fetch tokenizer.json."
        )
    return _hub.AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)


def _encode(folder: Path | None, name: str, texts: Sequence[str], most: int | None) -> list[list[int]]:
    cut: dict[str, Any] = {} if most is None else {"truncation": True, "max_length": most}
    rows: list[list[int]] = _tokenizer(folder, name)(list(texts), verbose=False, **cut)["input_ids"]
    return rows


def _digest(folder: Path | None) -> str:
    """16 hex digits over the files that say how texts become tokens."""
    found = hashlib.sha256()
    names = (*_TOKENIZER, "merges.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
    for file in sorted(names):
        if folder is not None and (folder / file).is_file():
            found.update(file.encode() + hashlib.sha256((folder / file).read_bytes()).digest())
    return found.hexdigest()[:16]


def write_whole(built: Backbone, model: Any, out: Path) -> str:
    """Put a folder that plain transformers loads into `out`, and give the code that does; all weights are of `model`.

    The model's own weights file is not written: that is the caller's, for each family the same.
    """
    assert built.reading is not None
    copy_files(built.reading.folder, out, weights=False)
    model.config.save_pretrained(out)
    return _recipe("FOLDER", model.config.num_labels, model.config.pad_token_id)


def copy_files(folder: Path | None, out: Path, *, weights: bool = True) -> None:
    """What of a model's folder builds it: settings, tokenizer and, if asked for, weights."""
    out.mkdir(exist_ok=True)
    for path in sorted(folder.iterdir()) if folder else ():
        if path.is_file() and path.suffix in _ENDINGS and (weights or path.suffix != ".safetensors"):
            shutil.copyfile(path, out / path.name)


def _origin(config: BackboneConfig, local: bool, name: str, folder: Path | None) -> str:
    if config.weights == "none":
        return "untrained weights, drawn from seed 0"
    return f"weights from {folder.name}" if local and folder else f"weights of {name}"


def _recipe(place: str, classes: int, pad: int, *, trained: bool = True) -> str:
    settings = f"num_labels={classes}, pad_token_id={pad}"
    build = f"from_pretrained({place}, {settings}, ignore_mismatched_sizes=True, use_safetensors=True)"
    if not trained:
        build = f"from_config(transformers.AutoConfig.from_pretrained({place}, {settings}))"
    return (
        "import peft, safetensors.torch, torch, transformers\n"
        f"tokenizer = transformers.AutoTokenizer.from_pretrained({place})\n"
        "torch.manual_seed(0)\n"
        f"model = transformers.AutoModelForSequenceClassification.{build}"
    )

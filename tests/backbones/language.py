"""Small language models of the papers' own classes, with random weights, and a tokenizer of a few words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
    MistralConfig,
    MistralForSequenceClassification,
    PreTrainedTokenizerFast,
)

_WORDS = "the a good bad film book was is very not red blue green we they saw"
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", *_WORDS.split())
SIZES: dict[str, Any] = {
    "vocab_size": len(WORDS),
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
}


def tokenizer(folder: Path, *, closes: bool) -> None:
    """A word for each token; `closes`: with [CLS] and [SEP] around them, as BERT has."""
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    if closes:
        words.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {"unk_token": "[UNK]"} | (
        {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"} if closes else {}
    )
    PreTrainedTokenizerFast(tokenizer_object=words, **names).save_pretrained(folder)


def bert(folder: Path) -> Path:
    """A BERT of two layers."""
    return _written(folder, BertForSequenceClassification(BertConfig(**SIZES, pad_token_id=0)), closes=True)


def llama(folder: Path) -> Path:
    """A Llama of two layers, without a pad token, as the published ones."""
    return _written(folder, LlamaForSequenceClassification(LlamaConfig(**SIZES, bos_token_id=2, eos_token_id=3)))


def mistral(folder: Path) -> Path:
    """A Mistral of two layers, two heads sharing keys and values."""
    sizes = SIZES | {"num_key_value_heads": 2, "bos_token_id": 2, "eos_token_id": 3}
    return _written(folder, MistralForSequenceClassification(MistralConfig(**sizes)))


def _written(folder: Path, model: Any, *, closes: bool = False) -> Path:
    torch.manual_seed(1)
    for weight in model.parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=0.2)  # at the usual .02 a model so small hardly answers to its input
    model.save_pretrained(folder)
    tokenizer(folder, closes=closes)
    return folder

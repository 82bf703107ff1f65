"""Texts to tokens: what a language model's tokenizer makes of them, kept once on each machine."""

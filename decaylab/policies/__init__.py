"""A model with its tokenizer, chat template and prompts, loaded by name; what two vocabularies
share.

Imports options and what stands below.
"""

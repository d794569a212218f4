"""A model with its tokenizer, template and prompts, loaded by name.

policy              the policy and its settings
loading, embedded   loads a policy by name, with its adapters; the pair that ships with decaylab
model_loading       loads a model and checks every tensor
adapter_loading     merges adapters into a model, or attaches them
checkpoint_folders  finds the models in a trainer's folders
served_policies     policies whose weights are in an engine
loaded_models, loaded_checks, loaded_identity    models in memory; which can be used; their hash
templates, control_tokens, prompts   from a problem to prompt ids
vocabularies, handover               the shared ids of two vocabularies; passing a prefix on
identity            what a run records about a policy
memory              recognises out-of-memory errors

Imports options and the packages below it.
"""

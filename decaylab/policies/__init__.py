"""A model with its tokenizer, template and prompts, loaded by name.

policy           the policy and its settings; loading: by name, with adapters (adapter_loading),
                 tensor by tensor (model_loading), out of a trainer's folders (checkpoint_folders)
served_policies  policies whose weights an engine holds
templates, control_tokens, prompts   how a policy is asked
vocabularies, handover               what two vocabularies share
identity         what a run records of a policy; memory: whether an error means lack of it

Imports options and what stands below.
"""

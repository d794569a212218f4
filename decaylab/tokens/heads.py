"""The output head of a causal language model, applied to a few last hidden states at a time.

Bias, scaling, soft-capping and adapters of the head come from the model's own code: its forward is
called on a copy whose body passes the hidden states through (the shell). If the shell does not
reproduce the model's logits, the full model is used instead.
"""

from __future__ import annotations

import copy
from typing import Any, Literal

import torch
from torch import Tensor, nn

from decaylab.errors import UserError
from decaylab.policies.policy import Policy

HeadPrecision = Literal["model", "float32"]
PROBE_TOKENS = 8


class _BodyOutput:
    """Only last hidden states; other outputs of a body, such as caches and attentions, are None."""

    def __init__(self, last_hidden_state: Tensor) -> None:
        self.last_hidden_state = last_hidden_state

    def __getattr__(self, name: str) -> None:
        return None

    def __getitem__(self, index: int) -> Tensor:
        return (self.last_hidden_state,)[index]


class _HandsThrough(nn.Module):
    """Replaces the body: returns the given embeddings as hidden states."""

    def forward(self, *args: Any, inputs_embeds: Tensor, **kwargs: Any) -> _BodyOutput:
        return _BodyOutput(inputs_embeds)


class Head:
    """Hidden states of a policy's model at chosen positions, and the logits computed from them.

    Gradients follow the caller's context. Without a shell (``shell`` is None), states are the
    model's own logits: computed row by row, but held together for a batch's responses.

    precision: of the head; ``float32`` keeps a second copy of 16-bit weights.

    Raises:
        UserError: a float32 head is requested and the model's head cannot be separated.
    """

    def __init__(self, policy: Policy, precision: HeadPrecision = "model") -> None:
        self.model: Any = policy.weights
        self.dtype = torch.float32 if precision == "float32" else self.model.dtype
        self.shell = self._shell() if self._comes_apart() else None
        if self.shell is None and self.dtype != self.model.dtype:
            raise UserError(
                f"the output head of {policy.name} ({type(self.model).__name__}) cannot be "
                "separated from the model, so float32 is not available; use --head model"
            )

    def states(self, ids: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Hidden states, [positions, width], at (rows, columns) of right-padded ids [rows, time].

        No mask is needed: in a causal model, padding on the right is not visible from the left.
        """
        if self.shell is not None:
            hidden = self.model.base_model(input_ids=ids, use_cache=False).last_hidden_state
            return torch.as_tensor(hidden[rows, columns])
        parts = []
        for row in range(ids.shape[0]):
            places = columns[rows == row]
            context = ids[row : row + 1, : int(places.max()) + 1]
            parts.append(self.model(input_ids=context, use_cache=False).logits[0, places])
        return torch.cat(parts)

    def logits(self, states: Tensor) -> Tensor:
        """Logits [positions, vocab] of states [positions, width], in the head's precision."""
        if self.shell is None:
            return states
        return _head_of(self.shell, states.to(self.dtype))

    def _comes_apart(self) -> bool:
        """Whether body and shell reproduce the logits of the full model."""
        model = self.model
        if getattr(model, model.base_model_prefix, None) is None:
            return False
        count = min(PROBE_TOKENS, model.get_input_embeddings().weight.shape[0])
        ids = torch.arange(count, device=model.device)[None]
        with torch.inference_mode():
            whole = model(input_ids=ids, use_cache=False).logits[0]
            try:
                hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state[0]
                parts = _head_of(_shell_of(model), hidden)
            except (AttributeError, TypeError, ValueError, IndexError, NotImplementedError):
                return False
        # 16 bits round differently in the two passes.
        close = 1e-5 if model.dtype in (torch.float32, torch.float64) else 2e-2
        if parts.shape != whole.shape:
            return False
        return bool(((parts - whole).abs() <= close * (1 + whole.abs())).all())

    def _shell(self) -> Any:
        shell = _shell_of(self.model)
        if self.dtype == self.model.dtype:
            return shell
        head = self.model.get_output_embeddings()
        names = [name for name, module in self.model.named_children() if module is head]
        if not names:
            return None
        # The model's own head is not changed, since it may be tied to the embeddings.
        shell._modules[names[0]] = copy.deepcopy(head).to(self.dtype)
        return shell


def _shell_of(model: Any) -> Any:
    """A copy of a model that shares everything except the body."""
    shell = copy.copy(model)
    shell._modules = dict(model._modules)
    shell._modules[model.base_model_prefix] = _HandsThrough()
    return shell


def _head_of(shell: Any, states: Tensor) -> Tensor:
    return torch.as_tensor(shell(inputs_embeds=states[None], use_cache=False).logits[0])

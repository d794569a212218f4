"""The output head of a causal language model, applied to last hidden states a few positions at a
time.

Bias, scaling, soft-capping and adapters on the head come from the model's own code: its forward is
called on a shell of itself whose body hands the hidden states through. Where that does not give the
model's own logits, they are taken instead.
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
    """Last hidden states alone; caches, attentions and whatever else a body may give are None."""

    def __init__(self, last_hidden_state: Tensor) -> None:
        self.last_hidden_state = last_hidden_state

    def __getattr__(self, name: str) -> None:
        return None

    def __getitem__(self, index: int) -> Tensor:
        return (self.last_hidden_state,)[index]


class _HandsThrough(nn.Module):
    """Stands where the body was: what it is given as embeddings is what the body would have made of
    them."""

    def forward(self, *args: Any, inputs_embeds: Tensor, **kwargs: Any) -> _BodyOutput:
        return _BodyOutput(inputs_embeds)


class Head:
    """States of a policy's model at chosen positions, and the logits that follow from them; whether
    gradients are kept is the caller's to say.

    Without a shell of its own (``shell`` is None) states are the model's own logits: computed one
    row at a time, but those of a batch's responses are held together.

    precision: of the head; ``float32`` keeps a second copy of its weights where the model has 16
    bits.

    Raises:
        UserError: a float32 head is asked for and the model's head cannot be taken apart.
    """

    def __init__(self, policy: Policy, precision: HeadPrecision = "model") -> None:
        self.model: Any = policy.weights
        self.dtype = torch.float32 if precision == "float32" else self.model.dtype
        self.shell = self._shell() if self._comes_apart() else None
        if self.shell is None and self.dtype != self.model.dtype:
            raise UserError(
                f"the output head of {policy.name} ({type(self.model).__name__}) cannot be "
                "applied on its own, so not in "
                "float32 either; say --head model"
            )

    def states(self, ids: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """What `logits` needs at the positions (rows, columns) of right-padded ids [rows, time]:
        [positions, width].

        No mask is given: in a causal model nothing that is padded on the right is seen from the
        left.
        """
        if self.shell is not None:
            hidden = self.model.base_model(input_ids=ids, use_cache=False).last_hidden_state
            return torch.as_tensor(hidden[rows, columns])
        parts = []
        for row in range(ids.shape[0]):
            own = columns[rows == row]
            parts.append(
                self.model(
                    input_ids=ids[row : row + 1, : int(own.max()) + 1], use_cache=False
                ).logits[0, own]
            )
        return torch.cat(parts)

    def logits(self, states: Tensor) -> Tensor:
        """Logits in float32 or the model's precision, [positions, vocab], of states [positions,
        width]."""
        if self.shell is None:
            return states
        return torch.as_tensor(
            self.shell(inputs_embeds=states[None].to(self.dtype), use_cache=False).logits[0]
        )

    def _comes_apart(self) -> bool:
        """Whether body and head, one after the other, give the logits of the whole."""
        model = self.model
        if getattr(model, model.base_model_prefix, None) is None:
            return False
        ids = torch.arange(
            min(PROBE_TOKENS, model.get_input_embeddings().weight.shape[0]), device=model.device
        )[None]
        with torch.inference_mode():
            whole = model(input_ids=ids, use_cache=False).logits[0]
            try:
                hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state[0]
                parts = _shell_of(model)(inputs_embeds=hidden[None], use_cache=False).logits[0]
            except (AttributeError, TypeError, ValueError, IndexError, NotImplementedError):
                return False
        close = 1e-5 if model.dtype in (torch.float32, torch.float64) else 2e-2
        return parts.shape == whole.shape and bool(
            ((parts - whole).abs() <= close * (1 + whole.abs())).all()
        )

    def _shell(self) -> Any:
        shell = _shell_of(self.model)
        if self.dtype == self.model.dtype:
            return shell
        head = self.model.get_output_embeddings()
        names = [name for name, module in self.model.named_children() if module is head]
        if not names:
            return None
        shell._modules[names[0]] = copy.deepcopy(head).to(self.dtype)
        return shell


def _shell_of(model: Any) -> Any:
    """A model that shares everything with this one but its body."""
    shell = copy.copy(model)
    shell._modules = dict(model._modules)
    shell._modules[model.base_model_prefix] = _HandsThrough()
    return shell

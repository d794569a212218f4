"""One policy's law of the next token over its own vocabulary, where two tokenizers are compared.

Ids without a token have no mass: no engine samples them. The ids that end a turn are one event,
since their text is the same.
"""

from __future__ import annotations

import torch
from torch import Tensor

from decaylab.policies.policy import Policy
from decaylab.policies.vocabularies import CUT


class OwnVocabulary:
    """The ids of a policy. width: number of logits per position."""

    def __init__(self, policy: Policy) -> None:
        self.width = policy.head_width
        self.absent = torch.tensor(policy.absent_ids, dtype=torch.int64)
        self.ends = torch.tensor(sorted(policy.end_ids), dtype=torch.int64)
        self.ends = self.ends[self.ends < self.width]

    def logprobs(self, logits: Tensor) -> Tensor:
        """Log-probabilities over the ids that have a token, [positions, width].

        logits: [positions, width], divided by the temperature.
        """
        if len(self.absent):
            logits = logits.index_fill(-1, self.absent.to(logits.device), CUT)
        # Not log_softmax: on a CPU it is off by 1e-5 nats at 100,000 ids.
        return logits - logits.logsumexp(-1, keepdim=True)

    def ending(self, logprobs: Tensor) -> Tensor:
        """Log-probability that the turn ends here, [positions]."""
        return logprobs[:, self.ends.to(logprobs.device)].logsumexp(-1)

    def ends_as_one(self, logprobs: Tensor) -> Tensor:
        """The same law with one id that ends a turn, which has the mass of all, and others none."""
        if len(self.ends) < 2:
            return logprobs
        ends = self.ends.to(logprobs.device)
        merged = logprobs.index_fill(-1, ends, CUT)
        merged[:, ends[0]] = self.ending(logprobs)
        return merged

    def taken(self, logprobs: Tensor, tokens: Tensor) -> Tensor:
        """Log-probability of the token at each position, [positions]; of the end where it is one.

        logprobs: [positions, width]. tokens: [positions].
        """
        is_end = torch.isin(tokens, self.ends.to(tokens.device))
        of_token = logprobs.gather(1, tokens[:, None])[:, 0]
        return torch.where(is_end, self.ending(logprobs), of_token)

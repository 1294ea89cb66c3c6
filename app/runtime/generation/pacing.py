"""How many tokens of prompts a step may have, so that those that decode do not wait too long for their next token."""

from __future__ import annotations

MIN_TOKENS = 16
HELD_UP_BY = 1.8
"""How long prompts may hold up those that decode, in steps that only decode."""
_FORGETS = 0.05


class Pacing:
    """What a step costs, learnt from those that were: so much, and so much for each of its tokens (least squares, older
    steps count for less). max_tokens: of prompts in one step, whoever waits."""

    def __init__(self, max_tokens: int) -> None:
        self._max_tokens = max_tokens
        self._weight = 0.0
        self._mean_tokens = self._mean_s = 0.0
        self._variance = self._covariance = 0.0
        self._token_s = 0.0

    def learn(self, num_tokens: int, seconds: float) -> None:
        """A step of so many tokens, prompts' and decoding ones', took so long."""
        self._weight = self._weight * (1 - _FORGETS) + 1
        share = 1 / self._weight
        off_tokens, off_s = num_tokens - self._mean_tokens, seconds - self._mean_s
        self._mean_tokens += share * off_tokens
        self._mean_s += share * off_s
        self._variance = (1 - share) * (self._variance + share * off_tokens**2)
        self._covariance = (1 - share) * (self._covariance + share * off_tokens * off_s)
        if self._covariance > 0:  # else noise: all steps were about as large
            self._token_s = self._covariance / self._variance

    def cost_s(self, num_tokens: int) -> float:
        """Of a step; 0 as long as nothing is known."""
        return max(0.0, self._mean_s + self._token_s * (num_tokens - self._mean_tokens))

    def budget(self, *, num_decoding: int, num_texts: int) -> int:
        """Tokens of prompts in the next step. num_texts: that decode, or will when their prompts are computed: soon all
        steps take as long as one with all of them, so prompts may as well hold the first ones up by as much."""
        if not num_decoding or not self._token_s:
            return self._max_tokens
        longest_s = (1 + HELD_UP_BY) * self.cost_s(max(num_decoding, num_texts))
        tokens = int((longest_s - self.cost_s(num_decoding)) / self._token_s)
        return max(MIN_TOKENS, min(self._max_tokens, tokens))

"""Average a network's weights over the last steps of its training."""

from __future__ import annotations


def averaging(decay: float, steps: int) -> float:
    """Share of the old average that stays after one step more: at first little, then `decay`.

    So the random weights of the beginning are forgotten also where steps are few.
    """
    return min(decay, (1 + steps) / (10 + steps))

"""Hypotheses of a signal: values of a parameter, such as its mass, of which one at most is true."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Hypothesis:
    """A value of the parameter of a signal, such as a mass of 600."""

    parameter: str
    value: float

    @property
    def ending(self) -> str:
        """The ending of names of branches, histograms and directories: mass600; p stands for the decimal point, m for a minus."""
        # as in cmsRun, where values are float32: with as many digits as tell one from the next
        texts = (f"{self.value:.{digits}g}" for digits in range(6, 10))
        number = next((text for text in texts if np.float32(text) == np.float32(self.value)), f"{self.value:.9g}")
        return self.parameter + number.replace(".", "p").replace("-", "m").replace("+", "")

    def allows(self, parameters: Mapping[str, float]) -> bool:
        """Whether a dataset with these parameters exists if it is true: one of another value does not."""
        return parameters.get(self.parameter, self.value) == self.value

    def __str__(self) -> str:
        return f"{self.parameter} = {self.value:.9g}"

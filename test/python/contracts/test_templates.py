from __future__ import annotations

import numpy as np

from MLTools.NanoML.contracts.templates import Template, summed


def test_what_varies_one_of_several_has_the_errors_of_the_others_as_they_are() -> None:
    def of(*numbers: float) -> np.ndarray:
        return np.array(numbers)

    one = Template(of(1.0, 2.0), of(3.0, 4.0), *({"jes": of(*pair)} for pair in ((5, 6), (7, 8), (9, 10), (11, 12))))
    found = summed([one, Template(of(10.0, 20.0), of(30.0, 40.0))])
    assert (found.up["jes"].tolist(), found.down["jes"].tolist()) == ([15, 26], [17, 28])
    assert (found.up_variances["jes"].tolist(), found.down_variances["jes"].tolist()) == ([39, 50], [41, 52])

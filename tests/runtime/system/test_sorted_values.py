import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from stale_runtime.system.sorted_values import distinct_values, median_value

counts = st.integers(0, 30)


@given(hnp.arrays(np.intp, counts, elements=st.integers(-5, 5)))
def test_distinct_values_are_those_of_numpy(values: NDArray[np.intp]) -> None:
    found = distinct_values(values)
    np.testing.assert_array_equal(found, np.unique(values))
    assert found.dtype == values.dtype


@given(st.data(), st.sampled_from((np.float32, np.float64)))
def test_the_median_is_numpy_s_to_the_bit(data: st.DataObject, kind: type[np.floating]) -> None:
    numbers = st.floats(-1e6, 1e6, width=32)
    values = data.draw(hnp.arrays(kind, st.integers(1, 30), elements=numbers))
    found, expected = median_value(values), np.median(values)
    assert found == expected
    assert found.dtype == expected.dtype

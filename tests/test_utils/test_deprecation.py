import pytest

from glus_mm.utils import weight_files


def test_a_name_that_has_moved_works_and_says_where_it_is():
    from glus_mm.conversion import weight_files as old

    with pytest.warns(DeprecationWarning, match='glus_mm.utils.weight_files now; .* glus_mm 0.2'):
        assert old.read_weights is weight_files.read_weights
    with pytest.raises(AttributeError):
        _ = old.no_such_name

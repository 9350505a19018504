"""The differences between two documents."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from control_plane.revisions.documents import changes

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=12,
)


class TestChanges:
    @given(document=JSON)
    def test_nothing_changes_into_itself(self, document: Any) -> None:
        assert list(changes(document, document)) == []

    @given(before=JSON, after=JSON)
    def test_the_way_back_is_the_same_way(self, before: Any, after: Any) -> None:
        there, back = list(changes(before, after)), list(changes(after, before))

        turned = [{"path": c["path"], "before": c["after"], "after": c["before"]} for c in back]
        assert there == turned

    def test_names_the_deepest_place_by_pointer(self) -> None:
        before = {"a/b": {"~": 1, "same": [1]}, "gone": True}
        after = {"a/b": {"~": 2, "same": [1]}, "new": {"x": 1}}

        assert list(changes(before, after)) == [
            {"path": "/a~1b/~0", "before": 1, "after": 2},
            {"path": "/gone", "before": True, "after": None},
            {"path": "/new", "before": None, "after": {"x": 1}},
        ]

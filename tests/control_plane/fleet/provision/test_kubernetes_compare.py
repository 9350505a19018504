"""What counts as the same although it is written otherwise."""

import copy

import pytest

from control_plane.fleet.provision.kubernetes_compare import covers, quantity


class TestQuantity:
    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("1000m", "1"),
            ("0.5", "500m"),
            ("134217728", "128Mi"),
            ("1Gi", "1024Mi"),
            ("1k", "1e3"),
            ("1E", "1000P"),
            ("2e1", 20),
        ],
    )
    def test_has_many_spellings(self, one: object, other: object) -> None:
        assert quantity(one) == quantity(other) is not None

    @pytest.mark.parametrize("text", ["", "x", "1Q", "1.2.3", None, "--1"])
    def test_is_none_where_there_is_none(self, text: object) -> None:
        assert quantity(text) is None


WISHED = {
    "metadata": {"labels": {"a": "1"}},
    "spec": {
        "replicas": 0,
        "hostNetwork": False,
        "containers": [{"name": "agent", "resources": {"limits": {"cpu": "1000m"}}}],
        "podSelector": {},
    },
}


class TestCovers:
    def live(self) -> dict:
        live = copy.deepcopy(WISHED)
        live["metadata"] |= {"uid": "u", "labels": {"a": "1", "added": "by others"}}
        live["spec"]["containers"][0]["resources"]["limits"]["cpu"] = "1"
        live["spec"]["dnsPolicy"] = "ClusterFirst"
        return live

    def test_what_the_server_adds_and_writes_otherwise_is_no_difference(self) -> None:
        assert covers(WISHED, self.live())

    def test_false_and_empty_may_be_left_out(self) -> None:
        live = self.live()
        del live["spec"]["hostNetwork"], live["spec"]["podSelector"], live["spec"]["replicas"]
        assert covers(WISHED, live)

    def test_another_value_is_a_difference(self) -> None:
        live = self.live()
        live["metadata"]["labels"]["a"] = "1000m"
        assert not covers(WISHED, live)

    def test_what_was_switched_on_by_hand_is_a_difference(self) -> None:
        live = self.live()
        live["spec"]["hostNetwork"] = True
        assert not covers(WISHED, live)

    def test_one_more_in_a_list_is_a_difference(self) -> None:
        live = self.live()
        live["spec"]["containers"].append({"name": "miner"})
        assert not covers(WISHED, live)

    def test_what_was_wished_empty_must_be_empty(self) -> None:
        live = self.live()
        live["spec"]["podSelector"] = {"matchLabels": {"nobody": "has"}}
        assert not covers(WISHED, live)

    def test_a_missing_part_is_a_difference(self) -> None:
        live = self.live()
        del live["spec"]["containers"]
        assert not covers(WISHED, live)

    def test_a_label_is_no_quantity(self) -> None:
        assert not covers({"labels": {"a": "1"}}, {"labels": {"a": "1000m"}})
        assert covers({"limits": {"a": "1"}}, {"limits": {"a": "1000m"}})
        assert not covers({"limits": {"a": "x"}}, {"limits": {"a": "y"}})

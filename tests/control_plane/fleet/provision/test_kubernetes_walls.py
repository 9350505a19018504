"""Objects that somebody else keeps changing are not fought for ever."""

from control_plane.fleet.provision.kubernetes_walls import Standing

WISHED = {"kind": "Deployment", "metadata": {"labels": {"a": "1"}}, "spec": {"replicas": 1}}


def live(**changes: object) -> dict:
    meta = {"uid": "u", "resourceVersion": "1", "labels": {"a": "1"}}
    return {"kind": "Deployment", "metadata": meta, "spec": {"replicas": 1}} | changes


class TestStanding:
    """F6."""

    def test_what_is_as_wished_holds(self) -> None:
        assert Standing().holds(WISHED, live())

    def test_what_is_not_there_does_not_hold(self) -> None:
        assert not Standing().holds(WISHED, None)

    def test_what_another_shapes_holds_once_it_was_accepted(self) -> None:
        standing = Standing()
        other = live(spec={"replicas": 3})
        assert not standing.holds(WISHED, other)
        standing.accept(other)
        assert standing.holds(WISHED, other)

    def test_the_servers_own_notes_do_not_count(self) -> None:
        standing = Standing()
        standing.accept(live(spec={"replicas": 3}))
        later = live(spec={"replicas": 3}, status={"replicas": 3})
        later["metadata"]["resourceVersion"] = "9"
        assert standing.holds(WISHED, later)

    def test_a_further_change_is_looked_at_again(self) -> None:
        standing = Standing()
        standing.accept(live(spec={"replicas": 3}))
        assert not standing.holds(WISHED, live(spec={"replicas": 4}))

    def test_another_object_of_the_same_name_is_another(self) -> None:
        standing = Standing()
        standing.accept(live(spec={"replicas": 3}))
        anew = live(spec={"replicas": 3})
        anew["metadata"]["uid"] = "v"
        assert not standing.holds(WISHED, anew)

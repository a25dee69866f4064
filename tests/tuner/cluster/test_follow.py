"""With a cluster of plain Python; with a real one in tests/tuner/test_cluster_commands.py."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.tuner.cluster.made_cluster import MadeCluster, made_job
from tuner.cluster.follow import Patience, WithoutRaysLines, follow
from tuner.cluster.trouble import NoSuchJobError, UnreachableError

AT_ONCE = Patience(silence=0.05, pause=0.0, limit=60.0)
CUT = RuntimeError("WebSocket connection closed unexpectedly with close code 1006")


def ended_job(status: str = "SUCCEEDED") -> MadeCluster:
    return MadeCluster(known=[made_job("job", status, "/r/a")])


def followed(cluster: MadeCluster, **more: object) -> tuple[str, list[str]]:
    pieces: list[str] = []
    said: list[str] = []
    follow(cluster, "job", pieces.append, say=said.append, patience=AT_ONCE, **more)  # type: ignore[arg-type]
    return "".join(pieces), said


def test_a_log_is_passed_on_until_the_job_has_ended() -> None:
    cluster = ended_job()
    cluster.tails = [["one\n", "two\n"]]
    assert followed(cluster) == ("one\ntwo\n", [])


def test_after_a_cut_it_goes_on_where_it_was() -> None:
    """The pieces come in other sizes the second time, and the cut is in the middle of one."""
    cluster = ended_job()
    cluster.tails = [["one\ntw", CUT], [CUT], ["o", "ne\ntwo\nth", "ree\n"]]
    text, said = followed(cluster, run="/r/a")
    assert text == "one\ntwo\nthree\n"
    assert [line.partition(" ")[0] for line in said] == ["the", "connected"]
    assert "`foldblend resume /r/a" in said[0]


def test_what_was_shown_before_is_skipped() -> None:
    cluster = ended_job()
    cluster.tails = [["one\n", "two\n"]]
    assert followed(cluster, skip=4)[0] == "two\n"


def test_a_tail_that_ends_early_is_taken_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuner.cluster.follow.BREATH_SECONDS", 0.0)
    cluster = MadeCluster(known=[made_job("job", "RUNNING", "/r/a")], tails=[["one\n"], []])

    def end_it(text: str) -> None:
        cluster.known = [made_job("job", "FAILED", "/r/a")]

    job = follow(cluster, "job", end_it, patience=AT_ONCE)  # type: ignore[arg-type]
    assert job.status.value == "FAILED"


def test_a_job_that_ends_while_its_log_is_silent_is_shown_to_its_end() -> None:
    cluster = ended_job()
    cluster.tails = [["one\n", None]]
    cluster.logs["job"] = "one\ntwo\nthree\n"
    assert followed(cluster) == ("one\ntwo\nthree\n", [])
    cluster.tails = [["on", None]]
    assert followed(cluster, skip=4)[0] == "two\nthree\n"


def test_a_log_whose_connection_died_without_a_word_is_opened_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tuner.cluster.follow.BREATH_SECONDS", 0.0)
    cluster = MadeCluster(known=[made_job("job", "RUNNING", "/r/a")])
    cluster.tails = [["one\n", None], ["one\n", "two\n"]]
    pieces: list[str] = []

    def write(piece: str) -> None:
        pieces.append(piece)
        if piece == "two\n":
            cluster.known = [made_job("job", "SUCCEEDED", "/r/a")]

    follow(cluster, "job", write, patience=AT_ONCE)  # type: ignore[arg-type]
    assert "".join(pieces) == "one\ntwo\n"
    assert cluster.tails == []


def test_a_job_that_says_nothing_is_asked_for_its_log_less_and_less_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each time reads the whole log once more. Asking for the job stays as frequent."""
    monkeypatch.setattr("tuner.cluster.follow.BREATH_SECONDS", 0.0)
    cluster = MadeCluster(known=[made_job("job", "RUNNING", "/r/a")])
    cluster.tails = [[None], [None], [None], [None], []]
    asked: Counter[int] = Counter()

    def job(job_id: str) -> object:
        asked[len(cluster.tails)] += 1
        return made_job(job_id, "RUNNING" if cluster.tails else "SUCCEEDED", "/r/a")

    cluster.job = job  # type: ignore[method-assign]
    patience = Patience(silence=1 / 64, longest=4 / 64, pause=0.0, limit=60.0)
    follow(cluster, "job", print, patience=patience)  # type: ignore[arg-type]
    ends = 1  # after every tail the job is asked for as well
    assert [asked[left] - ends for left in (4, 3, 2, 1)] == [1, 2, 4, 4]


def test_a_cluster_that_answers_again_is_said_although_the_log_is_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tuner.cluster.follow.BREATH_SECONDS", 0.0)
    cluster = ended_job()
    cluster.tails = [["one\n", CUT], ["one\n", None]]
    cluster.logs["job"] = "one\n"
    text, said = followed(cluster)
    assert (text, said[1:]) == ("one\n", ["connected again"])


def test_a_cluster_that_stays_away_is_given_up_with_the_way_to_resume() -> None:
    cluster = ended_job()
    cluster.tails = [[CUT], [CUT]]
    patience = Patience(silence=1.0, pause=0.0, limit=-1.0)
    with pytest.raises(UnreachableError, match=r"`foldblend resume /r/a"):
        follow(cluster, "job", print, run="/r/a", patience=patience)  # type: ignore[arg-type]


def test_a_head_that_was_started_anew_has_forgotten_the_job() -> None:
    cluster = MadeCluster(tails=[["one\n"]])
    with pytest.raises(NoSuchJobError, match="its head was started anew"):
        followed(cluster)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_rays_first_lines_are_left_out_however_the_pieces_fall(size: int) -> None:
    text = "Runtime env is setting up.\nRunning entrypoint for job x: y\none\nRunning entrypoint\n"
    pieces: list[str] = []
    write = WithoutRaysLines(pieces.append)
    for start in range(0, len(text), size):
        write(text[start : start + size])
    write.close()
    assert "".join(pieces) == "one\nRunning entrypoint\n"


def test_a_log_without_an_end_of_line_is_shown_at_the_end() -> None:
    pieces: list[str] = []
    write = WithoutRaysLines(pieces.append)
    write("Running entrypoint for job x: y\nno end")
    write.close()
    write.close()
    assert "".join(pieces) == "no end"

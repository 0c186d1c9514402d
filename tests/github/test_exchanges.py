"""Each exchange of a publish job fails in each way; started again, the job ends as it would have.

``benchmarks/faults.py`` does this with every exchange; here it is a few of them.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

import pytest

from exchanges import Exchanged, exchange
from kills import SCENES, Job

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SEED, EACH = 1, 3


PLAYED: Final[dict[str, Exchanged]] = {}


@pytest.fixture
def played(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Exchanged]:
    """Jobs of the scenes, each played to its end once; what is spoiled is a copy."""

    def play(name: str) -> Exchanged:
        if name not in PLAYED:
            (scene,) = (one for one in SCENES if one.name == name)
            assert isinstance(scene, Job)
            PLAYED[name] = exchange(scene, tmp_path_factory.mktemp("whole"))
        return PLAYED[name]

    return play


@pytest.mark.parametrize("name", ["publish: merged", "publish: awaits a person"])
def test_a_job_whose_exchange_failed_ends_well_when_it_is_started_again(
    tmp_path: Path, played: Callable[[str], Exchanged], name: str
) -> None:
    """Nothing is there twice and nothing else is merged; the first says what to do."""
    made = played(name)
    sample = random.Random(f"{SEED}/{name}").sample(made.every, EACH)  # noqa: S311
    found = {one: made.spoiled(tmp_path / f"{at}", *one) for at, one in enumerate(sample)}
    assert found == {one: [] for one in sample}


def test_a_job_that_made_the_branch_and_no_commit_can_be_started_again(
    tmp_path: Path, played: Callable[[str], Exchanged]
) -> None:
    """The commit is GitHub's then, too, and so it is signed."""
    made = played("publish: merged")
    commit = made.exchanges.index("POST /graphql")
    assert "github-actions[bot]/GitHub" in made.outcome["hub"]
    assert made.spoiled(tmp_path / "second", commit, "502") == []


@pytest.mark.parametrize("fault", ["403, secondary limit", "connection cut, and done"])
def test_a_job_that_published_one_branch_of_the_ledger_can_be_started_again(
    tmp_path: Path, played: Callable[[str], Exchanged], fault: str
) -> None:
    """A verdict without its evidence would be taken for a record from before, for good."""
    made = played("publish: merged")
    pushes = [at for at, one in enumerate(made.exchanges) if one.endswith("git-receive-pack")]
    assert made.spoiled(tmp_path / "second", pushes[1], fault) == []

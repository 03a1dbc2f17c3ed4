"""Pins that fit together: all at once where that can be, else as many as can be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from envboot.lock.fit import NoSolution, fit_pins, rank_needs

if TYPE_CHECKING:
    from collections.abc import Sequence


class Solver:
    """Refuses sets that hold all of one of `conflicts`; counts what it is asked."""

    def __init__(self, *conflicts: str) -> None:
        self.conflicts = [set(conflict) for conflict in conflicts]
        self.asked = 0

    def __call__(self, pins: Sequence[str]) -> str | NoSolution:
        self.asked += 1
        if any(conflict <= set(pins) for conflict in self.conflicts):
            return NoSolution(words="no")
        return "".join(pins)


def test_what_fits_is_asked_once() -> None:
    solver = Solver()
    assert fit_pins("ab", "cd", solver).solution == "abcd"
    assert solver.asked == 1


def test_every_pin_that_must_be_and_cannot_is_named() -> None:
    fit = fit_pins("abcdefgh", "xy", Solver("c", "g"))
    assert fit.solution is None
    assert set(fit.refused) == {"c", "g"}


def test_the_later_wish_gives_way() -> None:
    fit = fit_pins("ab", "cdefgh", Solver("ce", "bh"))
    assert fit.solution == "abcdfg"
    assert fit.refused == {"e": "no", "h": "no"}


def test_a_lonely_wish_that_does_not_fit_leaves_what_must_be() -> None:
    fit = fit_pins("ab", "c", Solver("c"))
    assert (fit.solution, set(fit.refused)) == ("ab", {"c"})


def test_one_misfit_among_many_costs_few_solves() -> None:
    solver = Solver("m")
    fit_pins("", "abcdefghijklmnopqrstuvwxyz", solver)
    assert solver.asked <= 14


def test_what_nothing_needs_ranks_first() -> None:
    needs = {"app": {"web", "db"}, "web": {"db", "tls"}, "db": set(), "tls": {"db"}, "alone": set()}
    assert rank_needs(needs) == {"app": 0, "alone": 0, "web": 1, "db": 1, "tls": 2}


def test_packages_that_need_each_other_are_ranked() -> None:
    assert rank_needs({"a": {"b"}, "b": {"a"}}) == {"a": 0, "b": 1}

"""As many pins as fit together, in a given order. Pure but for the solver that it asks."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class NoSolution:
    """Why there is no solution, in the solver's words."""

    words: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit(Generic[T]):
    """A solution (None: what must be has none), and why each pin that is not in it is not."""

    solution: T | None
    refused: Mapping[str, str]


def fit_pins(
    must: Sequence[str], wishes: Sequence[str], solve: Callable[[Sequence[str]], T | NoSolution]
) -> Fit[T]:
    """Solve for what must be, and for as many wishes as fit, the earlier ones first.

    A set without a solution is halved: every pin that is refused is known at once, at the price
    of about two solves for each and doubling of the rest.
    """
    whole = solve([*must, *wishes])
    if not isinstance(whole, NoSolution):
        return Fit(solution=whole, refused={})
    if not wishes:
        # It is known already that all together do not fit.
        return Fit(solution=None, refused=_add([], must, solve, whole)[1])
    base = fit_pins(must, [], solve)
    if base.solution is None:
        return base
    kept = list(must)
    solution, refused = _add(kept, wishes, solve, whole)
    return Fit(solution=base.solution if solution is None else solution, refused=refused)


def _add(
    kept: list[str],
    pins: Sequence[str],
    solve: Callable[[Sequence[str]], T | NoSolution],
    answer: T | NoSolution | None = None,
) -> tuple[T | None, dict[str, str]]:
    """Extend `kept`; returns the last solution, and the pins that do not fit."""
    if answer is None:
        answer = solve([*kept, *pins])
    if not isinstance(answer, NoSolution):
        kept += pins
        return answer, {}
    if len(pins) == 1:
        return None, {pins[0]: answer.words}
    middle = len(pins) // 2
    first, refused = _add(kept, pins[:middle], solve)
    second, others = _add(kept, pins[middle:], solve)
    return (first if second is None else second), {**refused, **others}


def rank_needs(needs: Mapping[str, Collection[str]]) -> dict[str, int]:
    """Return how far each package is from one that nothing needs (0).

    Packages that need each other, and that nothing else needs, begin with the first by name.
    """
    needed = {name for names in needs.values() for name in names}
    ranks: dict[str, int] = {}
    for root in [*sorted(set(needs) - needed), *sorted(needed & set(needs))]:
        if root in ranks:
            continue
        ranks[root] = 0
        waiting = deque([root])
        while waiting:
            name = waiting.popleft()
            for other in sorted(set(needs[name]) & set(needs)):
                if ranks.get(other, len(needs) + 1) > ranks[name] + 1:
                    ranks[other] = ranks[name] + 1
                    waiting.append(other)
    return ranks

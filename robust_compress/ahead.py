"""Work that threads do ahead of its use: in order, and no more of it at once than memory has room for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

T = TypeVar("T")


def ahead(pool: Executor, function: Callable[..., T], work: Iterable[tuple[Any, ...]], n_ahead: int) -> Iterator[T]:
  """`function(*arguments)` of all in `work`, in its order; at most `n_ahead` are in work or waiting."""
  pending: deque[Future[T]] = deque()
  try:
    for arguments in work:
      if len(pending) == n_ahead:
        yield pending.popleft().result()
      pending.append(pool.submit(function, *arguments))
    while pending:
      yield pending.popleft().result()
  finally:
    for future in pending:
      future.cancel()

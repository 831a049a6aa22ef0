"""Large pictures piece by piece, so that what a network needs does not grow with them.

├──────── n ────────┤
[ kept │halo]             Windows have one size and lie inside the picture: where a window ends at the picture's
    [halo│ kept │halo]    border, a network pads it with zeros as it does the whole, and elsewhere the halo takes
         [halo │ kept ]   up what it pads. A halo as wide as a network sees makes the pieces those of the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np


def spans(n: int, window: int, halo: int) -> Iterator[tuple[int, int, int]]:
  """(where a window starts, where what is kept of it starts, where that ends), which covers 0…n without overlap."""
  window, kept = min(window, n), 0
  while kept < n:
    start = min(max(kept - halo, 0), n - window)
    end = n if start == n - window else start + window - halo
    yield start, kept, end
    kept = end


def by_tiles(
  function: Callable[[np.ndarray], np.ndarray], x: np.ndarray, scales: tuple[int, int], window: int, halo: int
) -> np.ndarray:
  """What `function` makes of x, with no more of it at once than a window.

  Args:
    function: [a·i b·i c] to [a·o b·o d], a network without pooling over positions.
    x: [h·i w·i c].
    scales: (i, o), of which one is 1.
    window: the side of a window, in units.
    halo: how far the function sees, in units.

  Returns:
    [h·o w·o d].
  """
  inside, outside = scales
  height, width = x.shape[0] // inside, x.shape[1] // inside
  if max(height, width) <= window:
    return function(x)
  whole = None
  for top, kept_top, bottom in spans(height, window, halo):
    for left, kept_left, right in spans(width, window, halo):
      rows, columns = (slice(start * inside, (start + window) * inside) for start in (top, left))
      tile = function(x[rows, columns])
      if whole is None:
        whole = np.empty((height * outside, width * outside, tile.shape[2]), tile.dtype)
      whole[kept_top * outside : bottom * outside, kept_left * outside : right * outside] = tile[
        (kept_top - top) * outside : (bottom - top) * outside, (kept_left - left) * outside : (right - left) * outside
      ]
  return whole

"""HTML by construction: text is escaped unless it was built here.

    element("td", "a < b", class_="number")   ──▶   <td class="number">a &lt; b</td>

Ids, labels and names in rows come from other people's data; only `Safe` strings reach the page as they are.
"""

from __future__ import annotations

import html
from typing import Any

VOID = ("img", "meta", "br")


class Safe(str):
  """HTML that needs no escaping any more."""

  __slots__ = ()


def escape(text: Any) -> Safe:
  return text if isinstance(text, Safe) else Safe(html.escape(str(text), quote=True))


def join(*children: Any) -> Safe:
  """Children one after the other; lists are flattened, None is nothing."""
  parts = []
  for child in children:
    if isinstance(child, (list, tuple)):
      parts.append(join(*child))
    elif child is not None:
      parts.append(escape(child))
  return Safe("".join(parts))


def element(name: str, /, *children: Any, **attributes: Any) -> Safe:
  """One element. `class_` is `class`, `data_x` is `data-x`; an attribute of None is left out, True stands alone."""
  written = []
  for key, value in attributes.items():
    key = key.rstrip("_").replace("_", "-")
    if value is True:
      written.append(f" {key}")
    elif value is not None and value is not False:
      written.append(f' {key}="{html.escape(str(value), quote=True)}"')
  opening = f"<{name}{''.join(written)}>"
  return Safe(opening) if name in VOID else Safe(f"{opening}{join(*children)}</{name}>")

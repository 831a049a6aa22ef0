"""The answer of a report in two or three sentences, made from its numbers and never firmer than they are."""

from __future__ import annotations

from collections.abc import Sequence

from robust_compress.report import compare, names
from robust_compress.report.compare import Cheapest, Gain
from robust_compress.report.curves import Panel
from robust_compress.types import NONE


def question(panels: Sequence[Panel]) -> str:
  """What was asked, in the words of the cells."""
  models = list(dict.fromkeys(panel.model for panel in panels))
  losing = f"{_listed(models)} lose{'s' * (len(models) == 1)}" if len(models) <= 3 else f"{len(models)} models lose"
  codecs = _listed(
    list(dict.fromkeys(names.codec_title(c) for p in panels for c in p.codecs((*"BC", "relative", "mixed"))))
  )
  finetuned = any(sample.trained not in ((), (NONE,)) for panel in panels for sample in panel.samples)
  metric = panels[0].metric.title
  text = f"How far may pictures be compressed{f' with {codecs}' if codecs else ''} before {losing} {metric}"
  return text + (", and how much comes back when the model is finetuned on compressed pictures?" if finetuned else "?")


def answer(panel: Panel, cheapest: Sequence[Cheapest], gains: Sequence[Gain]) -> str:
  """Two or three sentences on one panel."""
  parts = [_how_far(panel, cheapest), _what_comes_back(panel, gains), _relative(cheapest)]
  return " ".join(part for part in parts if part) or _only_a_beginning(panel)


def _how_far(panel: Panel, cheapest: Sequence[Cheapest]) -> str:
  """The two codecs that may be pushed furthest as trained, and the same ones finetuned."""
  bound = f"{'1 point' if panel.metric.is_fraction else '1 % of the error'} of {panel.metric.title}"
  found = [one for one in cheapest if one.role == "B"]
  good = sorted((one for one in found if one.sample is not None), key=lambda one: one.sample.bpp)
  sentences = []
  for one in good[:2]:
    tuned = next((c for c in cheapest if c.role == "C" and c.codec == one.codec and c.sample is not None), None)
    text = (
      f"With {names.codec_title(one.codec)} the pictures can be compressed to {_setting(one)} at a loss within {bound}"
    )
    text += f"; finetuned, to {_setting(tuned)}" if tuned and tuned.sample.bpp < one.sample.bpp else ""
    doubt = ", by the point estimate" + (": its interval is wider than the bound" if one.loss.interval else "")
    sentences.append(text + ("" if one.certain else doubt) + ".")
  if found and not good:
    codecs = _listed([names.codec_title(one.codec) for one in found])
    sentences.append(f"With {codecs} every setting measured loses more than {bound}.")
  return " ".join(sentences)


def _setting(one: Cheapest) -> str:
  rate, point = f"{names.bpp_text(one.sample.bpp)} bpp", one.sample.test
  return rate if point.bpp is not None else f"{rate} ({names.setting_text(point)})"


def _what_comes_back(panel: Panel, gains: Sequence[Gain]) -> str:
  """At the lowest rate with both B and C of the same pictures."""
  base = [gain for gain in gains if gain.choice == "base" and None not in (gain.bpp, gain.difference)]
  if not base:
    return ""
  lowest, metric = min(base, key=lambda gain: gain.bpp), panel.metric
  place = f"At the lowest rate finetuned for, {names.placed_title(lowest.test, lowest.bpp)},"
  b, c = (metric.text(sample.value(metric.name)) for sample in (lowest.b, lowest.c))
  unit = f" {metric.unit}" if metric.unit else ""
  text = f"{place} finetuning brings {metric.title} from {b} to {c}{unit}"
  if lowest.recovered is not None:
    bounds = [f"{100 * x:.0f}".replace("-", "−") for x in lowest.recovered.interval or ()]
    interval = f" [{', '.join(bounds)}]" if bounds else ""
    text += f", which recovers {names.percent_text(lowest.recovered.value)}{interval} of the loss"
  elif not lowest.difference.excludes(0):
    text += ", a difference within the noise of the test pictures"
  return text + "."


def _relative(cheapest: Sequence[Cheapest]) -> str:
  """Said only where nothing could be said in absolute terms."""
  own = [c for c in cheapest if c.role == "relative" and c.sample is not None]
  if not own or any(c.role == "B" for c in cheapest):
    return ""
  best = min(own, key=lambda c: c.sample.bpp)
  codec = names.codec_title(best.codec)
  return f"With {codec} at most 1 answer in 100 differs from those on the originals down to {_setting(best)}."


def _only_a_beginning(panel: Panel) -> str:
  missing = sum(sample.state == "missing" for sample in panel.samples)
  if not panel.rows:
    return f"Nothing is measured yet; {missing} cells are planned."
  absent = "no compressed pictures" if panel.baseline else "no original pictures"
  return f"No answer yet: {absent} have been scored{f', and {missing} planned cells are missing' if missing else ''}."


def _listed(words: Sequence[str]) -> str:
  return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def choice_text(panel: Panel, everything: Sequence[Panel]) -> str:
  """How the base of A and B was chosen, where control beat the base on originals."""
  choice, where = compare.selected_on(panel, everything)
  if where:
    return f"On the held-out training pictures ({where}) the better base is the {choice} weights."
  return f"By the test pictures themselves the better base is the {choice} weights: selected on test, which favours it."

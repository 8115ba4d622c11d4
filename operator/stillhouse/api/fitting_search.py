"""What a search demands of the student and the stages beside it: no shape that may be tried is one that cannot be made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from stillhouse.api.base import CelRule, Mistake
from stillhouse.api.loss import told
from stillhouse.api.student import DOUBLED, HEAD_WIDTH, SMALL, nearest_width

if TYPE_CHECKING:
    from stillhouse.api.distill import Distill
    from stillhouse.api.search import Search

__all__ = ["SEARCH_RULES", "search_fits", "split_widths", "splits"]

_SEARCH_NEEDS_VALIDATION = CelRule(
    "!has(self.search) || has(self.validation)", "search needs validation: shapes are judged on its rows", "search"
)
_SEARCHED_OR_SAID = CelRule(
    "!has(self.search) || !(has(self.student.uri) || has(self.student.factory)"
    " || has(self.student.hiddenLayers) && has(self.search.hiddenLayers)"
    " || has(self.student.hiddenSize) && has(self.search.hiddenSize)"
    " || has(self.student.attentionHeads) && has(self.search.attentionHeads)"
    " || has(self.student.vocabulary) && has(self.search.vocabulary))",
    "what search looks for is left out of student, and student is a shape (no uri, no factory)",
    "search",
)
_NO_HEADS_TO_SEARCH = CelRule(
    "!has(self.search) || !has(self.search.attentionHeads) || !has(self.student.architecture) ||"
    f" !(self.student.architecture in {list(SMALL)}) && !has(self.student.convolution)",
    f"attentionHeads are a transformer's: nothing of architectures {told(SMALL)} to search among, nor of convolutions",
    "search.attentionHeads",
)
_EVEN_WIDTHS = CelRule(
    "!has(self.search) || !has(self.search.hiddenSize) || !has(self.student.architecture)"
    " || self.student.architecture != 'bilstm' || self.search.hiddenSize.all(w, w % 2 == 0)",
    "hiddenSize of a bilstm is both directions' together, so every one must be even",
    "search.hiddenSize",
)
_WHOLE_SEARCHED_HEADS = CelRule(
    "!has(self.search) || (!has(self.search.attentionHeads) || self.search.attentionHeads.all(h,"
    " (!has(self.search.hiddenSize) || self.search.hiddenSize.all(w, w % h == 0))"
    " && (!has(self.student.hiddenSize) || self.student.hiddenSize % h == 0)))"
    " && (!has(self.student.attentionHeads) || !has(self.search.hiddenSize)"
    " || self.search.hiddenSize.all(w, w % self.student.attentionHeads == 0))",
    "every hiddenSize that may be tried must be a multiple of every attentionHeads",
    "search",
)
_DILATED_SEARCH_ENDS = CelRule(
    "!has(self.search) || !has(self.search.hiddenLayers) || !has(self.student.convolution)"
    " || !has(self.student.convolution.dilated) || !self.student.convolution.dilated"
    f" || self.search.hiddenLayers.all(n, n <= {DOUBLED})",
    f"dilated looks twice as far with every layer, beyond any text after {DOUBLED}",
    "search.hiddenLayers",
)
_SEARCHED_LAYERS_KEEP_WIDTH = CelRule(
    "!has(self.search) || !has(self.search.hiddenSize) || !has(self.student.init) || self.student.init != 'layers'",
    "init: layers copies the teacher's layers, so leave hiddenSize out or use init: svd",
    "search.hiddenSize",
)
_WHOLE_HEADS_FOLLOW = CelRule(
    "!has(self.search) || !has(self.search.hiddenSize) || has(self.search.attentionHeads) || has(self.student.attentionHeads)"
    " || has(self.student.convolution) || !has(self.student.architecture) || self.student.architecture != 'residual'"
    f" || self.search.hiddenSize.all(w, w < {HEAD_WIDTH} || w % (w / {HEAD_WIDTH}) == 0)",
    f"a residual student has a head for each {HEAD_WIDTH} of its width where attentionHeads is left out,"
    " and every hiddenSize must be a multiple of their number",
    "search.hiddenSize",
)
_LAYERS_OF_EVERY_DEPTH = CelRule(
    "!has(self.search) || !has(self.search.hiddenLayers) || self.stages.all(s,"
    " (!has(s.freeze) || !has(s.freeze.layers) || self.search.hiddenLayers.all(n, s.freeze.layers <= n))"
    " && s.losses.all(l, !has(l.layers) || l.layers.all(p, !has(p.student)"
    " || self.search.hiddenLayers.all(n, p.student <= n))))",
    "layers names a layer of the student's beyond the fewest of search.hiddenLayers",
    "stages",
)
SEARCH_RULES = (
    _SEARCH_NEEDS_VALIDATION, _SEARCHED_OR_SAID, _NO_HEADS_TO_SEARCH, _EVEN_WIDTHS, _WHOLE_SEARCHED_HEADS, _DILATED_SEARCH_ENDS,
    _SEARCHED_LAYERS_KEEP_WIDTH, _WHOLE_HEADS_FOLLOW, _LAYERS_OF_EVERY_DEPTH,
)  # fmt: skip
"""Of whatever has `search`, `student` and `stages`."""


def search_fits(distill: Distill) -> None:
    """Raise where a shape is searched for that is also said, or some of what may be tried cannot be made."""
    search, student = distill.search, distill.student
    if search is None:
        return
    if distill.validation is None:
        raise _SEARCH_NEEDS_VALIDATION.broken(fix="write validation with its data")
    dimensions = ("hidden_layers", "hidden_size", "attention_heads", "vocabulary")
    both = [name for name in dimensions if getattr(student, name) and getattr(search, name)]
    if both or student.uri or student.factory:
        raise _SEARCHED_OR_SAID.broken(fix="leave it out of student, or out of search")
    if search.attention_heads and (student.architecture in SMALL or student.convolution is not None):
        raise _NO_HEADS_TO_SEARCH.broken(fix="search among hiddenLayers, hiddenSize or vocabulary")
    _widths_fit(distill, search)
    _depths_fit(distill, search)


def _widths_fit(distill: Distill, search: Search) -> None:
    student = distill.student
    widths = search.hidden_size or ()
    if widths and student.init == "layers":
        raise _SEARCHED_LAYERS_KEEP_WIDTH.broken()
    if student.architecture == "bilstm" and any(width % 2 for width in widths):
        raise _EVEN_WIDTHS.broken(fix=f"hiddenSize: {sorted({width + width % 2 for width in widths})}")
    heads = search.attention_heads or tuple(filter(None, (student.attention_heads,)))
    said = tuple(filter(None, (student.hidden_size,)))
    uneven = next(((width, count) for width in widths or said for count in heads if width % count), None)
    if uneven is not None:
        near = nearest_width(*uneven)
        raise _WHOLE_SEARCHED_HEADS.broken(fix=f"hiddenSize {near} instead of {uneven[0]}, or other heads than {uneven[1]}")
    follow = student.architecture == "residual" and student.convolution is None and not heads
    if follow and any(not splits(width) for width in widths):
        raise _WHOLE_HEADS_FOLLOW.broken(fix=f"hiddenSize: {split_widths(widths)}, or say attentionHeads")


def splits(width: int) -> bool:
    """Return whether a width splits into the heads that follow from it."""
    return width % max(1, width // HEAD_WIDTH) == 0


def split_widths(widths: Sequence[int]) -> list[int]:
    """Return the widths, each that does not split into the heads that follow from it replaced by the nearest that does."""
    return sorted({width if splits(width) else nearest_width(width, HEAD_WIDTH) for width in widths})


def _depths_fit(distill: Distill, search: Search) -> None:
    layers = search.hidden_layers
    if layers is None:
        return
    student, fewest = distill.student, min(layers)
    if student.convolution is not None and student.convolution.dilated and max(layers) > DOUBLED:
        fewer = sorted({min(layer, DOUBLED) for layer in layers})
        raise _DILATED_SEARCH_ENDS.broken(
            allowed=f"at most {DOUBLED}", fix=f"hiddenLayers: {fewer}, or leave dilated out of student.convolution"
        )
    for number, stage in enumerate(distill.stages):
        named = [("freeze.layers", stage.freeze.layers)] if stage.freeze is not None else []
        for which, loss in enumerate(stage.losses):
            named += [(f"losses[{which}].layers[{at}].student", pair.student) for at, pair in enumerate(loss.layers or ())]
        for field, layer in named:
            if layer is not None and layer > fewest:
                deep = sorted({each for each in layers if each >= layer})
                fix = f"name a layer up to {fewest}" + (f", or search among hiddenLayers: {deep}" if deep else "")
                message = _LAYERS_OF_EVERY_DEPTH.message
                raise Mistake(message, field=f"stages[{number}].{field}", allowed=f"1 to {fewest}", fix=fix)

"""Row numbers beside the dots of a scatter plot."""

from __future__ import annotations

import itertools

from matplotlib.text import Text
from test_panels import DRAWN

from decaylab.figures import scatter_labels, style, token_selection


def test_labels_of_the_scatter_plot_have_commas_and_their_leaders_do_not_cross() -> None:
    assert scatter_labels._numbered([8, 9, 10, 11, 14, 16, 18]) == "8\u201311, 14, 16,\n18"
    figure = token_selection.draw(DRAWN["token-selection"].run.measurements)
    for axes in figure.axes[-2:]:
        with style.context():
            figure.draw(figure.canvas.get_renderer())
        labels = [one for one in axes.texts if one.get_text()[:1].isdigit()]
        boxes = [Text.get_window_extent(one) for one in labels]
        leaders = [
            one.arrow_patch.get_path().transformed(one.arrow_patch.get_transform())
            for one in labels
            if one.arrow_patch is not None
        ]
        assert leaders
        for one, other in itertools.combinations(leaders, 2):
            assert not one.intersects_path(other, filled=False)
        for label, box in zip(labels, boxes, strict=True):
            own = label.arrow_patch
            for other in labels:
                if other.arrow_patch is not None and other.arrow_patch is not own:
                    path = other.arrow_patch.get_path()
                    path = path.transformed(other.arrow_patch.get_transform())
                    assert not path.intersects_bbox(box, filled=False), label.get_text()

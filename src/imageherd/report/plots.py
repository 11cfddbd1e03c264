"""The still figures: each takes arrays and returns a matplotlib Figure, free of pyplot's state.

`imageherd.report.figures` draws those that a herd's clustering allows; each can be drawn from
arrays of any origin.
"""

from imageherd.report.plots_curves import (
    consistency_curve,
    consistency_figure,
    entropies_figure,
    singular_values_figure,
    spectrum,
    training_figure,
)
from imageherd.report.plots_maps import maps_figure
from imageherd.report.plots_matrices import confusion_figure, similarity_figure
from imageherd.report.plots_pictures import Picture, gallery_figure, search_figure
from imageherd.report.plots_style import FORMATS, save_figure

__all__ = [
    "FORMATS",
    "Picture",
    "confusion_figure",
    "consistency_curve",
    "consistency_figure",
    "entropies_figure",
    "gallery_figure",
    "maps_figure",
    "save_figure",
    "search_figure",
    "similarity_figure",
    "singular_values_figure",
    "spectrum",
    "training_figure",
]

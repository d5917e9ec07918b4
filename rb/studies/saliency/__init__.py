"""Where networks look: saliency maps, the images that decide, and checks of the maps."""

from rb.studies.saliency.study import sections

__all__ = ["sections"]

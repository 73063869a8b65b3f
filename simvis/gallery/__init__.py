"""A folder of images, indexed once, and searched with an image or a part of one."""

from simvis.gallery.gallery import Gallery, Indexed

__all__ = ["Gallery", "Indexed"]

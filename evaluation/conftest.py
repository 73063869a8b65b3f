"""Modules that render rooms need Mitsuba, which the rest does without."""

from importlib.util import find_spec

collect_ignore = []
if find_spec("mitsuba") is None:
    collect_ignore += ["furniture.py", "render.py", "room_parts.py"]

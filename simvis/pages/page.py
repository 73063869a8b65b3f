"""What makes a page of its files: it holds all that it needs, and may ask nobody for more."""

import base64
import hashlib
import io
import json
import re
from pathlib import Path

import numpy as np
from PIL import Image

from simvis import __version__, image_ops

WEB = Path(__file__).parent / "web"


def template(name):
    """Return a page's text with its style sheets and scripts in it; policy and data are missing.

    Examples
    --------
    >>> template("explorer.html")[:15]
    '<!doctype html>'
    """
    page = (WEB / name).read_text("utf-8").replace("{{version}}", __version__)
    parts = r"\{\{([\w/]+\.(?:css|js))\}\}"
    return re.sub(parts, lambda found: (WEB / found[1]).read_text("utf-8"), page)


def policy(*templates, images="data:"):
    """Return the policy by which nothing may run or be loaded but these templates' own.

    Their styles and scripts are known by their hashes; images says where images may come from.
    Of more than one template, the others are in frames, which inherit the page's policy.

    Examples
    --------
    >>> policy("<style></style><script></script>")[:68]
    "default-src 'none'; base-uri 'none'; form-action 'none'; img-src dat"
    """
    rules = ["default-src 'none'", "base-uri 'none'", "form-action 'none'", f"img-src {images}"]
    for tag in ("style", "script"):
        texts = [re.search(f"<{tag}>(.*?)</{tag}>", page, re.S)[1] for page in templates]
        digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()) for text in texts]
        rules.append(f"{tag}-src " + " ".join(f"'sha256-{digest.decode()}'" for digest in digests))
    return "; ".join(rules)


def write_page(path, name, data):
    """Write a `template` with its policy and its data in it, all of it or nothing."""
    page = template(name)
    content = fill_page(page, policy(page), data)
    image_ops.write_whole(path, lambda file: file.write(content))


def fill_page(page, rules, data):
    """Return a template with its policy and its data in it, as bytes."""
    # ASCII only, which escapes U+2028 and lone surrogates; the rest would end or open a tag.
    text = json.dumps(data)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return page.replace("{{policy}}", rules).replace("{{data}}", text).encode()


def colormaps(names):
    """Return a dict of colormaps' names to their 256 colours, bytes R, G, B, in base64."""
    values = np.arange(256)[None]
    colors = {name: image_ops.colorize_map(values, name).tobytes() for name in names}
    return {name: base64.b64encode(colors[name]).decode() for name in colors}


def shrunk(image, longest):
    """Return an image, uint8 (H, W, 3), as a dict of width, height and uri, of a `small_jpeg`.

    The JPEG's longer side has longest pixels at the most; the width and height are the image's own.

    Examples
    --------
    >>> import numpy as np
    >>> picture = shrunk(np.zeros((90, 60, 3), np.uint8), 30)
    >>> picture["width"], picture["height"], picture["uri"][:23]
    (60, 90, 'data:image/jpeg;base64,')
    """
    height, width = image.shape[:2]
    return {"width": width, "height": height, "uri": _uri(small_jpeg(image, longest), "jpeg")}


def small_jpeg(image, longest):
    """Return an image, uint8 (H, W, 3), as a JPEG file, its longer side so many pixels at most."""
    height, width = image.shape[:2]
    scale = min(1, longest / max(height, width))
    if scale < 1:
        image = image_ops.resize(image, tuple(max(1, round(n * scale)) for n in (height, width)))
    return as_file(image, "jpeg", quality=88)


def data_uri(image, kind, **options):
    """Return an array or a Pillow image as a file of this kind in a URI."""
    return _uri(as_file(image, kind, **options), kind)


def _uri(file, kind):
    return f"data:image/{kind};base64,{base64.b64encode(file).decode()}"


def as_file(image, kind, **options):
    """Return an array or a Pillow image as the bytes of a file of this kind."""
    file = io.BytesIO()
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture.save(file, kind, **options)
    return file.getvalue()

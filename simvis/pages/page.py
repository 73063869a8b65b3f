"""What makes a page of a template: it holds all that it needs, and may ask nobody for more."""

import base64
import hashlib
import io
import json
import re
from pathlib import Path

from PIL import Image

from simvis import image_ops

FOLDER = Path(__file__).parent


def template(name):
    """Return a template's text, with the style sheets that it shares with others in it.

    Examples
    --------
    >>> template("explorer.html")[:15]
    '<!doctype html>'
    """
    page = (FOLDER / name).read_text("utf-8")
    return re.sub(
        r"\{\{(\w+\.css)\}\}", lambda found: (FOLDER / found[1]).read_text("utf-8")[:-1], page
    )


def policy(*templates, images="data:"):
    """Return the policy by which nothing may run or be loaded but these templates' own.

    Their styles and scripts are known by their hashes.

    Parameters
    ----------
    templates : str
        More than one where a page has others in frames, which inherit its policy.
    images : str, where images may come from

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


def fill(page, rules, data):
    """Return a template with its policy and its data in it, as bytes.

    Examples
    --------
    >>> fill("{{policy}} {{data}}", "rules", ["</script>"])
    b'rules ["\\\\u003c/script\\\\u003e"]'
    """
    # ASCII only, which escapes U+2028 and lone surrogates; the rest would end or open a tag.
    text = json.dumps(data)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return page.replace("{{policy}}", rules).replace("{{data}}", text).encode()


def shrunk(image, longest):
    """Return an image as a JPEG in a data URI, shrunk where it is large, and its true size.

    Parameters
    ----------
    image : uint8 (H, W, 3) array
    longest : int, pixels of the longer side that the page's image has at most

    Returns
    -------
    picture : dict of width, height and uri

    Examples
    --------
    >>> import numpy as np
    >>> picture = shrunk(np.zeros((90, 60, 3), np.uint8), 30)
    >>> picture["width"], picture["height"], picture["uri"][:23]
    (60, 90, 'data:image/jpeg;base64,')
    """
    height, width = image.shape[:2]
    scale = min(1, longest / max(height, width))
    size = tuple(max(1, round(side * scale)) for side in (height, width))
    file = io.BytesIO()
    shown = image if scale == 1 else image_ops.resize(image, size)
    Image.fromarray(shown).save(file, "JPEG", quality=88)
    return {"width": width, "height": height, "uri": data_uri(file.getvalue(), "jpeg")}


def data_uri(content, kind):
    """Return an image file's content as a URI."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"

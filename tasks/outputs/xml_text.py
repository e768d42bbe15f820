"""Text as XML can hold it."""

import re
from xml.sax.saxutils import escape, quoteattr

# XML 1.0 has no control characters but three, no surrogates, and not the last two code points of the plane.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def xml_text(text: str) -> str:
    """Text between tags; what XML cannot hold becomes U+FFFD."""
    return escape(_FORBIDDEN.sub("\ufffd", text))


def xml_attribute(value: str) -> str:
    """A value with its quotation marks; what XML cannot hold becomes U+FFFD."""
    return quoteattr(_FORBIDDEN.sub("\ufffd", value))

"""Escapes text for XML."""

import re
from xml.sax.saxutils import escape, quoteattr

# XML 1.0 allows only three control characters, no surrogates, and neither U+FFFE nor U+FFFF.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def xml_text(text: str) -> str:
    """Escape text for use between tags. Characters that XML does not allow become U+FFFD."""
    return escape(_FORBIDDEN.sub("\ufffd", text))


def xml_attribute(value: str) -> str:
    """Escape and quote an attribute value. Characters that XML does not allow become U+FFFD."""
    return quoteattr(_FORBIDDEN.sub("\ufffd", value))

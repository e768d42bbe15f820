"""Tests, laid out as the packages they test. They read no configuration of whoever runs them."""

import os

os.environ["BULK_OCR_CONFIG"] = os.devnull

"""Where bulk-ocr runs: the local stack, and (as they grow) containers and clouds."""

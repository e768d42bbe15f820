"""Where bulk-ocr runs: the local stack, containers and clouds."""

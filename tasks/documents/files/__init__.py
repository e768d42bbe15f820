"""Documents as files: formats, page counts, splitting."""

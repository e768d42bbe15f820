"""The life cycle of a job: record, transitions, page coverage, outcome and cost."""

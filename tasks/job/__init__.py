"""The life of a job: its record, its transitions, which pages are covered, what became of it."""

"""Running a flow: passes, dispatch of items to task runs, what the UI is told."""

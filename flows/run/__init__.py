"""Running a flow: passes, dispatch of items to task runs, reporting to the UI."""

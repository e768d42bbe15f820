"""Bad weather: faults and partial results, what they cost in calls, and that they cost nothing else."""

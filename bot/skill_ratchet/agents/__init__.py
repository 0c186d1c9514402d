"""Who does what: the task agent answers cases, proposers suggest edits. Separate jobs."""

"""What the repository holds: config, skills, fixtures, and the branches of proposals."""

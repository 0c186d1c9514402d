"""Knows no skill: errors, git, parsing, redaction, the sandbox."""

"""All SQL of the repositories."""

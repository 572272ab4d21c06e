"""The shell: commands, their options, and what they say. Nothing imports it."""

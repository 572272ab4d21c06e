"""What one task does, step by step, what it leaves behind, and which tasks there are."""

"""What is read: which files may be opened, what they say of themselves, and their pixels."""

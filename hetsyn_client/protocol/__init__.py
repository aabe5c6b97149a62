"""What a client sends, and when: its rules as generators of steps, without threads, event loops or connections."""

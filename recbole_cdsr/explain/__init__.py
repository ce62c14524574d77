"""What a trained LLMCDSR recalls for a user, and why."""

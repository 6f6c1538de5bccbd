"""Models as judges: their prompts, the verdicts read out of their replies, and the replies in the run's store."""

"""The stages of the tasks that hear or speak."""

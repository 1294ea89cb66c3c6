"""Models over data sets: rows are read, answered by a model, kept in a journal, and written in their order."""

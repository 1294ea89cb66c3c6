"""Reading what the operator declared: the text of models.yaml, its form, and what a model's own files say."""

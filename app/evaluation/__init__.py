"""How good a model's answers are: metrics of each task with confidence intervals, and two variants compared."""

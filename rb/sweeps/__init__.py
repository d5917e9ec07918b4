"""Many trainings under one parent run: jobs, their table, what is reused and resumed."""

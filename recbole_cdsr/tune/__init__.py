"""Many runs of one model with settings drawn from a search space, judged on validation rows alone."""

"""The machine that jobs run on: hardware, memory estimates, child processes."""

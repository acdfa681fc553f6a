"""Azure's HTTP interfaces as tables of operations and models of their bodies, without I/O."""

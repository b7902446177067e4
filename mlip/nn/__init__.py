"""The equivariant kernel: geometry, edge frames, mixing, node updates, readout."""

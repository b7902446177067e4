"""What a trained potential is for: relaxation, dynamics, phonons and checks, for any ASE calculator."""

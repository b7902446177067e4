"""PbTiO3 from density-functional theory."""

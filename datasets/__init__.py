"""Reading, checking and splitting labelled structures, and the embedded reference sets."""

"""What the recipes of the embedded sets share: programs run serially, frames labelled one after another."""

"""One module per table: what a run costs on this computer, measured on real runs."""

"""Trees on the autoscan features (Goldstein et al. 2015)."""

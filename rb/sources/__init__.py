"""How stamps get in: the simulated survey, the DES autoscan archive, alert packets."""

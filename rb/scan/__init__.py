"""Find transients on pairs of images without difference imaging, and measure them."""

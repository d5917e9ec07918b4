"""Where a network looks: saliency and panel importance."""

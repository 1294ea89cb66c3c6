"""Models that read text together with images and sounds."""

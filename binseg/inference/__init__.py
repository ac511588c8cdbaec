"""From an image to a class map: how networks are shown images, and packed ones without torch."""

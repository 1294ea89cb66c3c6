"""Files of images, sounds and videos: told apart, decoded under limits, encoded. No torch here."""

"""Networks out of Keras files, read without Keras and without executing anything."""

"""What a survey does with two exposures: matching, subtraction, detection, labels."""

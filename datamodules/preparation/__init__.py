"""A downloaded data set looked over, cut and packed."""

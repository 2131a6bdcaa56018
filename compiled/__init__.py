"""What compiled loops of any stage are made of; knows neither events nor usage."""
